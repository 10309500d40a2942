"""Time series of any number of channels, measured at any moments: a time step is a token.

- Inputs are `{"values": [B, M, c], "times": [B, M]}`; times are real numbers and need no order.
- Values that are not known are NaN. They count as 0, and channels beside them say so.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.adapters.base import ModalityConfig
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray, InputArrays, mask_of
from perceiver_jax.config import setting
from perceiver_jax.core.arguments import as_mask, check_mask
from perceiver_jax.core.known_values import warn_outside
from perceiver_jax.core.real_positions import fourier_features_at
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class TimeSeriesInputAdapter(nnx.Module):
    """A token is the values of a step, which of them are missing, and features of its time.

    Args:
        num_channels: channels c of a step.
        duration: times from 0 to this become positions from -1 to 1; the slowest sine makes one
            turn in it, so that times beyond are told apart less well.
        num_frequency_bands: Fourier frequencies F of the time; 0 leaves only the position.
        max_resolution: moments to tell apart in that duration; sines make 1 to half as many turns.
        missing_indicators: whether c more channels say which values are missing.

    Source: Perceiver §3.2, of positions that come with the data.
    """

    def __init__(
        self,
        *,
        num_channels: int,
        duration: float,
        num_frequency_bands: int,
        max_resolution: float,
        missing_indicators: bool = False,
    ):
        self.num_channels = num_channels
        self.duration = duration
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = max_resolution
        self.missing_indicators = missing_indicators
        num_content_channels = num_channels * (2 if missing_indicators else 1)
        self.num_input_channels = num_content_channels + 1 + 2 * num_frequency_bands

    def __call__(
        self,
        inputs: Mapping[str, Any],
        input_mask: Array | None = None,
        *,
        key: Key | None = None,
    ) -> Tokens:
        """Values [B, M, c] and times [B, M] → tokens of M elements: [values | missing | time].

        The mask is [B, M], False where a series is padded; what stands there may be anything that
        is no NaN in the times.

        Raises:
            ValueError: values, times or mask are not there, of another shape or type.

        Warns of times before 0 or after `duration`, where they are known (outside of `jax.jit`).
        """
        values, times = self._checked(inputs)
        missing = jnp.isnan(values)
        parts = [jnp.where(missing, 0.0, values)]
        if self.missing_indicators:
            parts.append(missing.astype(values.dtype))
        input_mask = as_mask(input_mask)
        check_mask(input_mask, times.shape)
        remedy = f"count from 0, in the unit of duration={self.duration:g} in the model's config"
        warn_outside(times, 0.0, self.duration, "times", remedy, input_mask)
        positions = times[..., None] * (2.0 / self.duration) - 1.0
        time = fourier_features_at(
            positions,
            num_bands=self.num_frequency_bands,
            max_resolution=[self.max_resolution],
        )
        # Together they are of the wider type: bfloat16 would blur high frequencies.
        return Tokens(content=jnp.concatenate([*parts, time], axis=-1), mask=input_mask)

    def _checked(self, inputs: Any) -> tuple[Array, Array]:
        if not isinstance(inputs, Mapping) or not {"values", "times"} <= set(inputs):
            raise ValueError(
                "a time series is given as {'values': [batch, steps, channels], 'times': [batch, "
                f"steps]}}, not as {_described(inputs)}"
            )
        values, times = jnp.asarray(inputs["values"]), jnp.asarray(inputs["times"])
        if values.ndim != 3 or values.shape[-1] != self.num_channels:
            raise ValueError(
                f"values of shape {tuple(values.shape)} do not fit this model, which takes [batch, "
                f"steps, {self.num_channels}]; num_channels of its config has to be that of the "
                "data"
            )
        if times.shape != values.shape[:2]:
            raise ValueError(
                f"times of shape {tuple(times.shape)} do not fit values of shape "
                f"{tuple(values.shape)}; expected one time per step, {tuple(values.shape[:2])}"
            )
        for name, array in (("values", values), ("times", times)):
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise ValueError(f"{name} are of type {array.dtype}; convert them to float")
        return values, times


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeSeriesConfig(ModalityConfig):
    """An encoder of time series."""

    num_channels: int = setting(doc="channels of a step: what is measured at each moment")
    duration: float = setting(
        doc="times from 0 to this become positions from -1 to 1; in the unit of the times, and as "
        "long as the longest series"
    )
    num_frequency_bands: int = setting(
        doc="Fourier frequencies of the time; 0 leaves only the time itself", minimum=0
    )
    max_resolution: float = setting(
        doc="moments to tell apart in that duration: the duration over the shortest distance that "
        "matters; frequencies go from 1 to half of it"
    )
    missing_indicators: bool = setting(
        False, "whether channels beside the values say which of them are missing (NaN)"
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.duration < math.inf:
            raise ValueError(f"duration={self.duration} must be finite and above 0")
        if not 2.0 <= self.max_resolution < math.inf:
            raise ValueError(
                f"max_resolution={self.max_resolution} must be finite and 2 or more: frequencies "
                "go from 1 to half of it"
            )

    def input_adapter(self, *, rngs: nnx.Rngs) -> TimeSeriesInputAdapter:
        """See `ModalityConfig`; the adapter learns nothing."""
        return TimeSeriesInputAdapter(
            num_channels=self.num_channels,
            duration=self.duration,
            num_frequency_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
            missing_indicators=self.missing_indicators,
        )

    def input_arrays(self) -> InputArrays:
        """See `ModalityConfig`."""
        steps = FreeSize("steps")
        return {
            "inputs": {
                "values": InputArray(
                    shape=(steps, self.num_channels),
                    dtype="float32",
                    meaning="what is measured at each step; NaN: not known",
                ),
                "times": InputArray(
                    shape=(steps,),
                    dtype="float32",
                    meaning="when, in the unit of the data",
                    least=0.0,
                    most=self.duration,
                ),
            },
            "input_mask": mask_of(steps),
        }


def _described(inputs: Any) -> str:
    """What was given instead."""
    if isinstance(inputs, Mapping):
        return f"{{{', '.join(repr(name) for name in inputs)}}}"
    return f"{type(inputs).__name__} of shape {tuple(jnp.shape(inputs))}"
