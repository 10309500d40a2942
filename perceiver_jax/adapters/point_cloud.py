"""Point clouds to tokens: a token for each point, wherever it lies.

- Clouds are [B, M, 3 + c] floats: coordinates in [-1, 1], then channels such as normals or colours.
- No order and no grid: Fourier features of the coordinates themselves are all that tells where a
  point is.
"""

import dataclasses
import math

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.adapters.base import ModalityConfig
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays, mask_of
from perceiver_jax.config import setting
from perceiver_jax.core.arguments import as_mask, check_mask
from perceiver_jax.core.known_values import warn_outside
from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.core.real_positions import fourier_features_at
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointCloudConfig(ModalityConfig):
    """An encoder of point clouds [B, M, num_channels]; M may differ from call to call."""

    num_channels: int = setting(
        3, "channels of a point: its three coordinates, then others such as normals", minimum=3
    )
    num_frequency_bands: int = setting(64, "Fourier frequencies of each coordinate")
    max_resolution: float = setting(
        2240.0,
        "frequencies go from 1 to half of it; Perceiver §4.3 takes 1120 as the highest, ten times "
        "that of images",
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.max_resolution < math.inf:
            raise ValueError(f"max_resolution={self.max_resolution} must be above 0 and finite")

    def input_adapter(self, *, rngs: nnx.Rngs) -> "PointCloudInputAdapter":
        """See `ModalityConfig`."""
        return PointCloudInputAdapter(
            num_channels=self.num_channels,
            num_frequency_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
        )

    def input_arrays(self) -> InputArrays:
        """See `ModalityConfig`."""
        points = FreeSize("points")
        return {
            "inputs": InputArray(
                shape=(points, self.num_channels),
                dtype="float32",
                meaning="points: three coordinates in [-1, 1], then other channels such as normals",
            ),
            "input_mask": mask_of(points),
        }


class PointCloudInputAdapter(nnx.Module):
    """Every point is a token: its further channels, then the Fourier features of its coordinates.

    Args:
        num_channels: channels of a point, its three coordinates first.
        num_frequency_bands: frequencies F per coordinate.
        max_resolution: frequencies go from 1 to half of it.

    Source: Perceiver §4.3.
    """

    def __init__(self, *, num_channels: int = 3, num_frequency_bands: int, max_resolution: float):
        self.num_channels = num_channels
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = max_resolution
        self.num_input_channels = num_channels - 3 + num_fourier_channels(3, num_frequency_bands)

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, M, num_channels] clouds → tokens of M points.

        The mask is [B, M], True where there is a point; clouds of unequal size are padded.

        Raises:
            ValueError: inputs or mask have another shape, or the inputs hold integers.

        Warns of coordinates beyond [-1, 1], where they are known (outside of `jax.jit`).
        """
        inputs = self._check(jnp.asarray(inputs))
        input_mask = as_mask(input_mask)
        check_mask(input_mask, inputs.shape[:2])
        remedy = "centre and scale the clouds as those of training were"
        warn_outside(inputs[..., :3], -1.0, 1.0, "coordinates", remedy, input_mask)
        features = fourier_features_at(
            inputs[..., :3],
            num_bands=self.num_frequency_bands,
            max_resolution=(self.max_resolution,) * 3,
        )
        others = inputs[..., 3:].astype(features.dtype)
        return Tokens(content=jnp.concatenate([others, features], axis=-1), mask=input_mask)

    def _check(self, inputs: Array) -> Array:
        if inputs.ndim != 3 or inputs.shape[-1] != self.num_channels:
            raise ValueError(
                f"point clouds of shape {tuple(inputs.shape)} do not fit this model, which takes "
                f"[batch, points, {self.num_channels}], the three coordinates first"
            )
        if not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(
                f"point clouds of type {inputs.dtype} are no coordinates; convert them to float, "
                "between -1 and 1"
            )
        return inputs
