"""Fourier position features, as pure functions of positions in [-1, 1].

- Frequencies are spaced linearly from 1 to half the resolution (its Nyquist frequency).
- On a grid the features of an axis depend on that axis alone: `fourier_axes` gives one small table
  per axis, and the order in which the references lay their channels out.
- Tables are computed in float64 and rounded once, to the content's type, where they are used.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

ChannelOrder = Literal["deepmind", "lucidrains"]


def linear_positions(size: int) -> np.ndarray:
    """[size] positions from -1 to 1, both ends included."""
    return np.linspace(-1.0, 1.0, size)


def fourier_features(
    positions: np.ndarray,
    *,
    num_bands: int,
    max_resolution: Sequence[float],
    concat_positions: bool = True,
    sine_only: bool = False,
) -> np.ndarray:
    """Sines and cosines of positions at linearly spaced frequencies.

    Args:
        positions: [..., d] coordinates in [-1, 1].
        num_bands: frequencies F per dimension.
        max_resolution: one number per dimension; frequencies go from 1 to half of it.
        concat_positions: whether the coordinates themselves come first.
        sine_only: whether cosines are left out.

    Returns:
        [..., d + 2dF] float64: [positions | sines, dimension by dimension | cosines likewise].

    Source: Perceiver §3.2 and appendix D; deepmind `generate_fourier_features`.
    """
    positions = np.asarray(positions, np.float64)
    frequencies = np.stack([np.linspace(1.0, r / 2.0, num_bands) for r in max_resolution])
    angles = np.pi * positions[..., None] * frequencies
    angles = angles.reshape(*positions.shape[:-1], -1)
    parts = [positions] if concat_positions else []
    parts.append(np.sin(angles))
    if not sine_only:
        parts.append(np.cos(angles))
    return np.concatenate(parts, axis=-1)


def fourier_axes(
    grid: Sequence[int],
    *,
    num_bands: int,
    max_resolution: Sequence[float] | None = None,
    channel_order: ChannelOrder = "deepmind",
) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """Fourier features of a regular grid, axis by axis.

    Args:
        grid: number of positions along each axis.
        num_bands: frequencies F per axis.
        max_resolution: one number per axis; None: the grid itself.
        channel_order: "deepmind" (also krasserm and Hugging Face): coordinates of all axes, sines
            of all axes, cosines of all axes; "lucidrains": axis by axis sines, cosines, coordinate.

    Returns:
        Tables, one [size, 1 + 2F] per axis (coordinate, sines, cosines), and the order: channel j
        of the dense features is channel `order[j]` of the tables laid side by side.

    Raises:
        ValueError: `max_resolution` has not one number per axis.
    """
    resolution = tuple(grid) if max_resolution is None else tuple(max_resolution)
    if len(resolution) != len(grid):
        raise ValueError(
            f"max_resolution={resolution} has {len(resolution)} numbers for a grid of "
            f"{len(grid)} axes, {tuple(grid)}; give one per axis"
        )
    tables = tuple(
        fourier_features(linear_positions(size)[:, None], num_bands=num_bands, max_resolution=[r])
        for size, r in zip(grid, resolution, strict=True)
    )
    # Channels of the tables laid side by side, as [axis, coordinate | sines | cosines].
    channels = np.arange(len(grid) * (1 + 2 * num_bands)).reshape(len(grid), -1)
    coordinate, sines, cosines = np.split(channels, [1, 1 + num_bands], axis=1)
    if channel_order == "deepmind":
        order = np.concatenate([coordinate.ravel(), sines.ravel(), cosines.ravel()])
    else:
        order = np.concatenate([sines, cosines, coordinate], axis=1).ravel()
    return tables, tuple(int(i) for i in order)


def num_fourier_channels(num_axes: int, num_bands: int) -> int:
    """Channels of the features of a grid with that many axes."""
    return num_axes * (1 + 2 * num_bands)
