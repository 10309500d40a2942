"""Dropout as functions of an explicit key.

- `key=None` means inference everywhere: the input comes back untouched.
- Elements are dropped and the rest scaled up; whole tokens are dropped without scaling, because a
  softmax over fewer tokens needs none.
"""

from typing import Any

import jax
import jax.numpy as jnp

from perceiver_jax.core.arguments import check_key
from perceiver_jax.typing import Array, Key


def split(key: Key | None, num: int) -> Any:
    """`num` independent keys as an array, or a list of that many Nones.

    Raises:
        ValueError: this is no key.
    """
    check_key(key)
    return [None] * num if key is None else jax.random.split(key, num)


def dropout(x: Array, rate: float, key: Key | None) -> Array:
    """Sets a random fraction `rate` of the elements to zero and scales the others by 1/(1-rate)."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros_like(x))


def drop_inputs(
    mask: Array | None, shape: tuple[int, ...], rate: float, key: Key | None
) -> Array | None:
    """Hides a random part of each example's input tokens by masking them.

    Args:
        mask: [B, M] bool, True = a token; None where all are.
        shape: (B, M).
        rate: fraction of tokens to hide, in [0, 1).
        key: random key; None hides nothing.

    Returns:
        [B, M] mask that keeps `max(1, int((1 - rate) * M))` tokens of each row, and where `mask`
        was given `ceil((1 - rate) * valid)` of a row's valid tokens.

    Source: lucidrains `PerceiverIO(seq_dropout_prob=...)`.
    Differs: tokens are masked instead of removed and reordered; attention cannot tell.
    """
    if key is None or rate == 0.0:
        return mask
    noise = jax.random.uniform(key, shape)
    if mask is None:
        num_kept = jnp.full((shape[0], 1), max(1, int((1.0 - rate) * shape[1])), jnp.int32)
        mask = jnp.ones(shape, bool)
    else:
        num_kept = jnp.ceil(mask.sum(-1, keepdims=True) * (1.0 - rate)).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(jnp.where(mask, noise, jnp.inf), axis=-1), axis=-1)
    return mask & (rank < num_kept)


def drop_latents(latents: Array, rate: float, key: Key | None) -> Array:
    """Removes a random part of the latents, the same for the whole batch.

    Args:
        latents: [B or 1, N, ...], latents or what belongs to them.
        rate: fraction of latents to remove, in [0, 1).
        key: random key; None removes nothing.

    Returns:
        [B or 1, max(1, int((1 - rate) * N)), ...] in random order, the same for the same N and key.
    """
    if key is None or rate == 0.0:
        return latents
    num_latents = latents.shape[1]
    kept = jax.random.permutation(key, num_latents)[: max(1, int((1.0 - rate) * num_latents))]
    return latents[:, kept]
