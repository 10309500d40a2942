"""Fourier and sinusoidal features of positions, and rotary positions.

- Frequencies are spaced linearly from 1 to half the resolution (its Nyquist frequency).
- On a grid the features of an axis depend on that axis alone: `fourier_axes` gives one small table
  per axis, and the order in which the references lay their channels out.
- Tables are computed in float64 and rounded once, to the content's type, where they are used.
- Rotary positions turn pairs of channels of queries and keys, so that scores depend on distances.
  Positions may be real: times, coordinates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np

from perceiver_jax.typing import Array

ChannelOrder = Literal["deepmind", "lucidrains"]
RotaryPairs = Literal["interleaved", "halves"]
RotaryFrequencies = Literal["geometric", "closed"]
GridEnds = Literal["closed", "half_open"]
"""Whether the last position of an axis is 1, or one step short of it."""


def linear_positions(size: int, ends: GridEnds = "closed") -> np.ndarray:
    """[size] positions from -1 to 1: both ends included, or -1 + 2i / size without the last."""
    return np.linspace(-1.0, 1.0, size, endpoint=ends == "closed")


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


def sinusoidal_features(
    num_positions: int, num_channels: int, *, max_wavelength: float = 10_000.0
) -> np.ndarray:
    """[num_positions, num_channels] float64: sines, then cosines, at geometric frequencies.

    Args:
        num_positions: positions 0, 1, …
        num_channels: C; of an odd number the last one is 0.
        max_wavelength: frequencies go from 1 to 1 over this, both included.

    Raises:
        ValueError: fewer than 4 channels, in which there are no two frequencies.

    Source: Attention Is All You Need §3.5; perceiver-ar `generate_sinusoidal_features`.
    """
    half = num_channels // 2
    if half < 2:
        raise ValueError(f"{num_channels} channels are too few for sinusoidal positions; take 4")
    frequencies = float(max_wavelength) ** -np.linspace(0.0, 1.0, half)
    angles = np.arange(num_positions)[:, None] * frequencies[None]
    parts = [np.sin(angles), np.cos(angles), np.zeros((num_positions, num_channels - 2 * half))]
    return np.concatenate(parts, axis=1)


def fourier_axes(
    grid: Sequence[int],
    *,
    num_bands: int,
    max_resolution: Sequence[float] | None = None,
    channel_order: ChannelOrder = "deepmind",
    ends: GridEnds = "closed",
) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """Fourier features of a regular grid, axis by axis.

    Args:
        grid: number of positions along each axis.
        num_bands: frequencies F per axis.
        max_resolution: one number per axis; None: the grid itself.
        channel_order: "deepmind" (also krasserm and Hugging Face): coordinates of all axes, sines
            of all axes, cosines of all axes; "lucidrains": axis by axis sines, cosines, coordinate.
        ends: see `linear_positions`; "half_open" are the positions of DeepMind's subsampled
            queries.

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
        fourier_features(
            linear_positions(size, ends)[:, None], num_bands=num_bands, max_resolution=[r]
        )
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


def rotary_frequencies(
    num_channels: int, *, max_wavelength: float = 10_000.0, spacing: RotaryFrequencies = "geometric"
) -> np.ndarray:
    """[num_channels / 2] angles per unit of position, from 1 downwards.

    Args:
        num_channels: channels r of a head that are turned; even.
        max_wavelength: what the slowest frequencies approach or reach, over 2π.
        spacing: "geometric": w**(-2i/r); "closed": i is spread so that the last frequency is
            exactly 1/w (DeepMind).

    Raises:
        ValueError: the channels are odd.

    Source: RoFormer §3.2.2; krasserm `FrequencyPositionEncoding`; perceiver-ar `position.py`.
    """
    if num_channels % 2:
        raise ValueError(
            f"{num_channels} channels cannot be turned in pairs; choose an even number"
        )
    half = num_channels // 2
    steps = np.arange(half) if spacing == "geometric" else np.linspace(0.0, half, half)
    return float(max_wavelength) ** (-2.0 * steps / num_channels)


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Turns the first channels of the first heads by angles that grow with the position.

    Attributes:
        angles: [B or 1, N, r/2], position times frequency.
        pairs: "interleaved": channels (0, 1), (2, 3), …; "halves": channels (i, i + r/2).
        num_heads: heads that are turned; None: all.
        queries: how queries are turned; None: as the last positions are.
        values: whether values are turned as keys are, and results back as their queries.
    """

    angles: Array
    pairs: RotaryPairs = "interleaved"
    num_heads: int | None = None
    queries: "Rotation | None" = None
    values: bool = False

    @classmethod
    def of(
        cls,
        positions: Array,
        frequencies: np.ndarray,
        *,
        pairs: RotaryPairs = "interleaved",
        num_heads: int | None = None,
    ) -> "Rotation":
        """The rotation at positions [B or 1, N], which may be real numbers.

        Angles are of JAX's widest float type: float64 where that is enabled, else float32.
        """
        dtype = jnp.result_type(float)
        angles = positions.astype(dtype)[:, :, None] * jnp.asarray(frequencies, dtype)[None, None]
        return cls(angles, pairs, num_heads)

    def with_queries(self, queries: "Rotation | None") -> "Rotation":
        """The same where queries are turned otherwise."""
        return dataclasses.replace(self, queries=queries)

    def of_queries(self, num_queries: int) -> "Rotation":
        """That of so many queries."""
        if self.queries is not None:
            return self.queries
        first = self.angles.shape[1] - num_queries
        return dataclasses.replace(self, angles=self.angles[:, first:])

    def back(self) -> "Rotation":
        """The opposite rotation."""
        return dataclasses.replace(self, angles=-self.angles, queries=None)

    def __call__(self, x: Array) -> Array:
        """[B or 1, N, H, K] → the same, turned; computed in at least float32."""
        num_turned = 2 * self.angles.shape[-1]
        x = jnp.broadcast_to(x, (max(len(x), len(self.angles)), *x.shape[1:]))
        turned = x[:, :, : self.num_heads, :num_turned].astype(
            jnp.promote_types(x.dtype, self.angles.dtype)
        )
        cosine, sine = (f(self.angles)[:, :, None] for f in (jnp.cos, jnp.sin))
        if self.pairs == "interleaved":
            first, second = turned[..., ::2], turned[..., 1::2]
        else:
            first, second = jnp.split(turned, 2, axis=-1)
        parts = (first * cosine - second * sine, second * cosine + first * sine)
        if self.pairs == "interleaved":
            turned = jnp.stack(parts, axis=-1).reshape(turned.shape)
        else:
            turned = jnp.concatenate(parts, axis=-1)
        turned = turned.astype(x.dtype)
        if num_turned < x.shape[-1]:
            rest = x[:, :, : self.num_heads, num_turned:]
            turned = jnp.concatenate([turned, rest], axis=-1)
        if self.num_heads is not None and self.num_heads < x.shape[2]:
            turned = jnp.concatenate([turned, x[:, :, self.num_heads :]], axis=2)
        return turned
