"""Initial latents computed from the inputs: some of the tokens, projected.

- What is chosen stands for what lies around it: latents of a point cloud are spread over its shape.
"""

import typing
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from perceiver_jax.config import check_size
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array

Choice = Literal["even", "farthest"]


class LatentsFromTokens(nnx.Module):
    """N of the M tokens, through a linear layer, as initial latents; a `latent_adapter`.

    Args:
        num_latents: latents N, at most the tokens M.
        num_input_channels: channels C of dense tokens.
        num_latent_channels: latent channels D.
        choice: "even": at even distances in their order; "farthest": farthest points first, by the
            leading `num_coordinates` channels, starting at the first token that is no padding.
        num_coordinates: channels d that are coordinates.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Raises:
        ValueError: no latents, another choice, or coordinates that are not among the channels.

    Source: 3DShape2VecSet (Zhang et al. 2023), whose queries are subsampled points.
    """

    def __init__(
        self,
        *,
        num_latents: int,
        num_input_channels: int,
        num_latent_channels: int,
        choice: Choice = "even",
        num_coordinates: int = 3,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        check_size("num_latents", num_latents)
        if choice not in typing.get_args(Choice):
            raise ValueError(f"choice={choice!r} is none of 'even', 'farthest'")
        if choice == "farthest" and not 1 <= num_coordinates <= num_input_channels:
            raise ValueError(
                f"num_coordinates={num_coordinates} are not among {num_input_channels} channels; "
                "farthest points need at least one, and the leading channels are taken"
            )
        self.num_latents, self.choice = num_latents, choice
        self.num_input_channels = num_input_channels
        self.num_coordinates = num_coordinates
        self.linear = linear(
            num_input_channels, num_latent_channels, init=init or InitConfig(), rngs=rngs
        )

    def __call__(self, tokens: Tokens) -> Tokens:
        """Tokens → tokens of [B, N, D], with the moments of those chosen.

        Where an example has fewer elements than latents, the rest are padding among the latents.

        Raises:
            ValueError: fewer tokens than latents, tokens of other channels, or several examples
                packed into a row.
        """
        if tokens.segments is not None:
            raise ValueError(
                "latents cannot be chosen from rows of several packed examples, as each needs its "
                "own; give one example a row, or latents with segments at the call"
            )
        if tokens.num_tokens < self.num_latents:
            raise ValueError(
                f"{self.num_latents} latents cannot be chosen from {tokens.num_tokens} tokens; "
                "take fewer latents, or larger inputs"
            )
        if tokens.num_channels != self.num_input_channels:
            raise ValueError(
                f"tokens of {tokens.num_channels} channels, positions included, do not fit latents "
                f"that are computed of num_input_channels={self.num_input_channels}; give the "
                "input adapter's num_input_channels"
            )
        if self.choice == "even":
            indices = _evenly(tokens, self.num_latents)
        else:
            points = tokens.dense()[..., : self.num_coordinates]
            indices = farthest_points(points, self.num_latents, tokens.mask)
        chosen = tokens.at(indices)
        return Tokens(
            content=self.linear(chosen.content),
            mask=chosen.mask,
            times=chosen.times,
        )


def farthest_points(points: Array, num_chosen: int, mask: Array | None = None) -> Array:
    """Points each of which is as far as can be from all that were chosen before it.

    Args:
        points: [B, M, d] coordinates.
        num_chosen: points n to choose, the first point among them.
        mask: [B, M] bool, True = a point; padding is chosen last. None: all are points.

    Returns:
        [B, n] indices, no two of a row the same.

    Source: Eldar et al. 1997; PointNet++ (Qi et al. 2017, §3.2).
    """
    points = jax.lax.stop_gradient(points)
    there = jnp.ones(points.shape[:2], bool) if mask is None else mask

    def choose(carry, _):
        distances, taken, last = carry
        place = jnp.take_along_axis(points, last[:, None, None], axis=1)
        distances = jnp.minimum(distances, jnp.square(points - place).sum(-1))
        taken = taken | (jnp.arange(points.shape[1])[None] == last[:, None])
        # Padding comes after all points, what is taken after everything.
        rank = jnp.where(there, distances, -1.0)
        following = jnp.argmax(jnp.where(taken, -jnp.inf, rank), axis=1)
        return (distances, taken, following), last

    distances = jnp.full(points.shape[:2], jnp.inf, points.dtype)
    start = (distances, jnp.zeros(points.shape[:2], bool), jnp.argmax(there, axis=1))
    _, chosen = jax.lax.scan(choose, start, length=num_chosen)
    return chosen.T


def _evenly(tokens: Tokens, num_chosen: int) -> Array:
    """[B or 1, n] indices at even distances among an example's elements; then its padding."""
    if tokens.mask is None:
        return jnp.asarray(np.arange(num_chosen) * tokens.num_tokens // num_chosen)[None]
    elements = jnp.argsort(~tokens.mask, axis=1, stable=True)
    number = jnp.maximum(tokens.mask.sum(1, keepdims=True), num_chosen)
    # Whole parts and remainders apart: the product of both would overflow for millions of tokens.
    whole, rest = number // num_chosen, number % num_chosen
    steps = jnp.arange(num_chosen)[None]
    places = steps * whole + steps * rest // num_chosen
    return jnp.take_along_axis(elements, places, axis=1)
