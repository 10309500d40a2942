"""Fourier features of positions that come with the data: points, moments in time.

- The formula and the order of channels are those of `position.fourier_features`, in JAX.
- Angles are in at least float32 and brought to within half a turn before the sine is taken: of a
  float32 position in [-1, 1] the features are good to about frequency / 10⁷ turns.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from perceiver_jax.typing import Array


def fourier_features_at(
    positions: Array,
    *,
    num_bands: int,
    max_resolution: Sequence[float],
    concat_positions: bool = True,
) -> Array:
    """Sines and cosines of given positions at linearly spaced frequencies.

    Args:
        positions: [..., d] real coordinates in [-1, 1].
        num_bands: frequencies F per dimension.
        max_resolution: one number per dimension; frequencies go from 1 to half of it.
        concat_positions: whether the coordinates themselves come first.

    Returns:
        [..., d + 2dF] in the type of the positions, at least float32: [positions | sines,
        dimension by dimension | cosines likewise].

    Raises:
        ValueError: `max_resolution` has not one number per dimension, or positions are integers.

    Source: Perceiver §3.2 and appendix D; deepmind `generate_fourier_features`.
    """
    positions = jnp.asarray(positions)
    if not jnp.issubdtype(positions.dtype, jnp.floating):
        raise ValueError(
            f"positions are of type {positions.dtype}; give real coordinates between -1 and 1"
        )
    if len(max_resolution) != positions.shape[-1]:
        raise ValueError(
            f"max_resolution={tuple(max_resolution)} has {len(max_resolution)} numbers for "
            f"positions of {positions.shape[-1]} dimensions; give one per dimension"
        )
    dtype = jnp.promote_types(positions.dtype, jnp.float32)
    positions = positions.astype(dtype)
    frequencies = np.stack([np.linspace(1.0, r / 2.0, num_bands) for r in max_resolution])
    frequencies = frequencies.reshape((1,) * (positions.ndim - 1) + frequencies.shape)
    half_turns = positions[..., None] * jnp.asarray(frequencies, dtype)
    # Whole turns are taken off exactly; after the product with π they would cost digits.
    half_turns = half_turns - 2.0 * jnp.round(half_turns / 2.0)
    angles = (np.pi * half_turns).reshape(*positions.shape[:-1], -1)
    parts = [positions] if concat_positions else []
    return jnp.concatenate([*parts, jnp.sin(angles), jnp.cos(angles)], axis=-1)
