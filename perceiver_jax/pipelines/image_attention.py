"""Where an image model looks: its attention over the picture that it saw."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.data.preprocessing import denormalize
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.attention_plots import Heat, heat_figure
from perceiver_jax.pipelines.attention_rollout import attention_rollout, mean_of_heads

MOST_LATENTS = 12
"""How many latents a figure shows where none are chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageAttention:
    """Attention of a model over one image, on the grid h × w of its tokens.

    Attributes:
        picture: [H, W, 1 or 3] uint8, what the model saw: cropped and resized.
        latents: for each cross-attention of the encoder, in order, [heads, N, h, w] weights of each
            latent; each sums to 1.
        through: in the same order, [O, N] share of the rollout of each output query that came in
            through each latent; all of a query's together sum to 1.
        queries: [O, h, w] rollout of each output query, see `attention_rollout`; each sums to 1.
            The mean over latents, in the original Perceiver, counts as one query.
    """

    picture: np.ndarray
    latents: tuple[np.ndarray, ...]
    through: tuple[np.ndarray, ...]
    queries: np.ndarray

    def figure(
        self,
        title: str = "",
        *,
        query: int = 0,
        step: int = 0,
        head: int | None = None,
        latents: Sequence[int] | None = None,
    ) -> Any:
        """Draws the picture, the rollout of an output query over it, and what latents looked at.

        Args:
            title: of the figure.
            query: which output query.
            step: which cross-attention of the encoder, from 0 on.
            head: which head of it; None: the mean over heads.
            latents: which latents, in this order; None: those through which most of the query's
                rollout came in, the first of them first.

        Returns:
            A Matplotlib figure, `figure.savefig("attention.png")`.

        Raises:
            UserError: there is no such query, step, head or latent.
        """
        _check("query", query, len(self.queries))
        _check("step", step, len(self.latents))
        maps, shares = self.latents[step], self.through[step][query]
        if head is not None:
            _check("head", head, len(maps))
        heads = slice(None) if head is None else slice(head, head + 1)
        most = np.argsort(-shares, kind="stable")[:MOST_LATENTS].tolist()
        chosen = most if latents is None else latents
        check_latents(chosen, len(shares))
        parts = [
            Heat(f"latent {latent}: {shares[latent]:.1%}", maps[heads, latent].mean(axis=0))
            for latent in chosen
        ]
        answer = "the answer" if len(self.queries) == 1 else f"answer {query}"
        where = "" if len(self.latents) == 1 else f" in cross-attention {step}"
        where += "" if head is None else f", head {head}"
        return heat_figure(
            self.picture,
            Heat(f"rollout of {answer}", self.queries[query]),
            parts,
            title=title,
            caption=f"what latents looked at{where}, and their shares of the rollout",
        )


def over_image(model: Any, image: np.ndarray, preprocessing: ImagePreprocessing) -> ImageAttention:
    """Calls a model on an image and lays its attention over what it saw.

    Args:
        model: with an encoder of images: an `ImageClassifier` or a `PooledImageClassifier`.
        image: [H, W, c] floats, as `data.preprocessing.preprocess` makes them.
        preprocessing: how it was made of a picture.

    Raises:
        UserError: the tokens of the model lie on no grid, as where the image is one token.
        ValueError: the image is none of the model's.
    """
    image = np.asarray(image)
    height, width = token_grid(model, image.shape)
    maps = {name: np.asarray(weights) for name, weights in _maps(model, image[None]).items()}
    num_latents = maps["encoder/step/0/cross_attention"].shape[2]
    if "decoder/cross_attention" in maps:
        rows = mean_of_heads(maps["decoder/cross_attention"])
    else:
        rows = np.full((1, 1, num_latents), 1 / num_latents, np.float32)
    config = model.encoder.config
    rollout = attention_rollout(
        maps,
        rows,
        cross_attention_residual=config.cross_attention_residual,
        latents_contribute_kv=config.latents_contribute_kv,
    )
    sums = rollout.inputs[0].sum(axis=-1, keepdims=True)
    return ImageAttention(
        picture=denormalize(image, preprocessing.mean, preprocessing.std),
        latents=tuple(
            maps[f"encoder/step/{i}/cross_attention"][0, ..., : height * width].reshape(
                -1, num_latents, height, width
            )
            for i in range(len(rollout.latents))
        ),
        through=tuple(shares[0] / sums for shares in rollout.latents),
        queries=(rollout.inputs[0] / sums).reshape(-1, height, width),
    )


def token_grid(model: Any, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the tokens of an image; nothing is computed.

    Args:
        model: as of `over_image`.
        image_shape: height, width, channels.

    Raises:
        UserError: as `over_image`.
        ValueError: the image is none of the model's.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    return _grid(jax.eval_shape(model.encoder.input_adapter, image).grid, image.shape[1:3])


def check_latents(latents: Sequence[int], num_latents: int) -> None:
    """Raises a UserError for a latent that a model with so many has not."""
    for latent in latents:
        _check("latent", latent, num_latents)


@jax.jit
def _maps(model, images):
    """Attention maps by name, those of self-attentions averaged over heads, [B, 1, N, N]."""
    return {
        name: weights if name.endswith("cross_attention") else weights.mean(1, keepdims=True)
        for name, weights in model.attention_maps(images).items()
    }


def _grid(grid: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens; pixels that the adapter has put in a line are in rows again."""
    if grid == (math.prod(size),):
        return size
    if len(grid) != 2 or math.prod(grid) == 1:
        raise UserError(
            f"tokens on a grid of {list(grid)} have no places in an image of {size[0]}×{size[1]}, "
            "so that there is no map of attention over it; take a model of pixels, patches or a "
            "convolutional stem"
        )
    return grid


def _check(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise UserError(f"there is no {what} {number}; the model has 0 to {count - 1}")
