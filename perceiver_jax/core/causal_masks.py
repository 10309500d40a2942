"""Which inputs and latents the latents of a Perceiver AR may see, where that has no short form.

- The short form, `causal=True` of an attention, says that queries stand at the last places. It
  holds for one latent at each position and inputs of which none before the latents is missing.
"""

import jax
import jax.numpy as jnp

from perceiver_jax.core.sequence import EmbeddedSequence
from perceiver_jax.typing import Array, Key


def repeated(x: Array, per_position: int) -> Array:
    """[B, n] of positions → [B, N] of their latents."""
    return x if per_position == 1 else jnp.repeat(x, per_position, axis=1)


def mask_of_inputs(
    seen: EmbeddedSequence, *, num_positions: int, num_latents: int, per_position: int
) -> Array | None:
    """Which inputs each latent may attend to, beside causality in its short form.

    Args:
        seen: the inputs.
        num_positions: of the whole sequence.
        num_latents: positions with latents, the last ones.
        per_position: latents at each.

    Returns:
        [B or 1, 1, N or 1, M] bool, or None for all.
    """
    mask = None if seen.mask is None else seen.mask[:, None, None]
    places = seen.places
    if places is None and per_position == 1:
        return mask
    if places is None:
        num_seen = seen.content.shape[1]
        places = jnp.arange(num_positions - num_seen, num_positions)[None]
    at = repeated(jnp.arange(num_positions - num_latents, num_positions)[None], per_position)
    past = (places[:, None, :] <= at[:, :, None])[:, None]
    return past if mask is None else mask & past


def mask_of_latents(
    sequence: EmbeddedSequence,
    *,
    num_latents: int,
    per_position: int,
    rate: float,
    key: Key | None,
) -> tuple[Array | None, bool]:
    """Which latents each may see, and whether causality is to be added in its short form.

    Args:
        sequence: the whole one.
        num_latents: positions with latents, the last ones.
        per_position: latents at each, all of which see each other.
        rate: chance of each latent that no other sees it.
        key: random key; None hides none.

    Returns:
        [B or 1, 1, N or 1, N] bool, or None for all; and whether that is not all.
    """
    mask = None
    if sequence.mask is not None:
        first = sequence.mask.shape[1] - num_latents
        mask = repeated(sequence.mask[:, first:], per_position)[:, None, None]
    if per_position == 1 and (key is None or rate == 0.0):
        return mask, True
    at = repeated(jnp.arange(num_latents)[None], per_position)[0]
    past = (at[None, :] <= at[:, None])[None, None]
    mask = past if mask is None else mask & past
    if key is not None and rate > 0.0:
        kept = jax.random.bernoulli(key, 1.0 - rate, (len(sequence.content), 1, 1, len(at)))
        mask = mask & (kept | jnp.eye(len(at), dtype=bool)[None, None])
    return mask, False
