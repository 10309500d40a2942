"""Output queries made of coordinates: where in space or time an answer is wanted.

- A decoder makes them block by block, so that millions of coordinates need no more memory than one
  block's Fourier features.
"""

import math
from collections.abc import Sequence

from flax import nnx

from perceiver_jax.core.known_values import warn_outside
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.core.real_positions import fourier_features_at
from perceiver_jax.typing import Array


class CoordinateQueryAdapter(nnx.Module):
    """Fourier features of coordinates, through a linear layer; a `query_adapter` of decoders.

    Args:
        num_coordinates: coordinates d of a query.
        num_frequency_bands: frequencies F per coordinate.
        max_resolution: frequencies go from 1 to half of it: one number, or one per coordinate.
        num_output_query_channels: channels E of the queries.
        init: initial values; None: N(0, 0.02).
        rngs: where initial values come from.

    Raises:
        ValueError: no coordinates, or a resolution that is not above 0 and finite.

    Source: Perceiver IO §3.2; 3DShape2VecSet (Zhang et al. 2023), which asks for points like this.
    """

    def __init__(
        self,
        *,
        num_coordinates: int,
        num_frequency_bands: int,
        max_resolution: float | Sequence[float],
        num_output_query_channels: int,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        single = isinstance(max_resolution, int | float)
        sizes = [max_resolution] * num_coordinates if single else list(max_resolution)
        if num_coordinates < 1 or len(sizes) != num_coordinates:
            raise ValueError(
                f"num_coordinates={num_coordinates} with max_resolution={max_resolution}: queries "
                "have 1 coordinate or more, and one resolution for all or one for each"
            )
        if not all(0.0 < size < math.inf for size in sizes):
            raise ValueError(f"max_resolution={max_resolution} must be above 0 and finite")
        self.num_coordinates = num_coordinates
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = tuple(float(size) for size in sizes)
        num_features = num_fourier_channels(num_coordinates, num_frequency_bands)
        self.linear = linear(
            num_features, num_output_query_channels, init=init or InitConfig(), rngs=rngs
        )

    def __call__(self, coordinates: Array) -> Array:
        """[B, o, d] coordinates in [-1, 1] → [B, o, E] queries.

        Raises:
            ValueError: as `check`.
        """
        self.check(coordinates)
        features = fourier_features_at(
            coordinates, num_bands=self.num_frequency_bands, max_resolution=self.max_resolution
        )
        return self.linear(features)

    def check(self, coordinates: Array) -> None:
        """Warns of coordinates beyond [-1, 1], where they are known (outside of `jax.jit`).

        Raises:
            ValueError: other coordinates than the adapter was made for.
        """
        if coordinates.ndim != 3 or coordinates.shape[-1] != self.num_coordinates:
            raise ValueError(
                f"queries of shape {coordinates.shape} are no coordinates; this decoder takes "
                f"[O, {self.num_coordinates}] or [B, O, {self.num_coordinates}]"
            )
        warn_outside(coordinates, -1.0, 1.0, "coordinates", "scale them as those of training were")
