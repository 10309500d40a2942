"""Waveforms to tokens, and answers to waveforms.

- Waveforms are [B, S, c] floats in [-1, 1]; a token is a stretch of samples.
- `WaveformConfig` is an encoder of waveforms alone; videos have theirs beside the image's.
"""

import dataclasses
import math

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.adapters.base import ModalityConfig
from perceiver_jax.adapters.input_arrays import InputArray, InputArrays
from perceiver_jax.config import setting
from perceiver_jax.core.linear import InitConfig, linear
from perceiver_jax.core.position import GridEnds, fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class WaveformInputAdapter(nnx.Module):
    """Every stretch of samples is a token: its samples and the Fourier features of its time.

    Args:
        num_samples: samples S.
        samples_per_patch: samples of a token; divides S.
        num_channels: channels c of the sound.
        num_frequency_bands: frequencies F.
        max_resolution: frequencies go from 1 to half of it; None: the number of samples (DeepMind),
            though there are fewer tokens.

    Raises:
        ValueError: the stretches do not tile the waveform.

    Source: Perceiver IO appendix I; deepmind `AudioPreprocessor(samples_per_patch=...)`.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        samples_per_patch: int,
        num_channels: int = 1,
        num_frequency_bands: int,
        max_resolution: float | None = None,
    ):
        self.shape = (num_samples, num_channels)
        self.samples_per_patch = samples_per_patch
        self.num_tokens = num_patches(num_samples, samples_per_patch)
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = num_samples if max_resolution is None else max_resolution
        self.num_input_channels = samples_per_patch * num_channels + num_fourier_channels(
            1, num_frequency_bands
        )

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, S, c] waveforms → tokens of M = S / samples_per_patch stretches.

        Raises:
            ValueError: they have another shape, or are integers.
        """
        waveform = jnp.asarray(inputs)
        if waveform.ndim != 3 or waveform.shape[1:] != self.shape:
            raise ValueError(
                f"waveforms of shape {tuple(waveform.shape)} do not fit this model, which takes "
                f"[batch, {self.shape[0]}, {self.shape[1]}] (samples, channels); cut or resample "
                "them, or build the model for another number of samples"
            )
        if not jnp.issubdtype(waveform.dtype, jnp.floating):
            raise ValueError(
                f"waveforms of type {waveform.dtype} are not normalised; convert them to float in "
                "[-1, 1] first (16-bit samples: x / 32768)"
            )
        tables, order = waveform_positions(
            self.num_tokens, self.num_frequency_bands, self.max_resolution
        )
        content = waveform.reshape(len(waveform), self.num_tokens, -1)
        return Tokens(content=content, positions=tables, order=order, mask=input_mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveformConfig(ModalityConfig):
    """An encoder of waveforms.

    Raises:
        ValueError: the stretches do not tile the waveform, or `max_resolution` is out of range.

    Source: Perceiver §4.2: 61,440 samples, 1.28 s at 48 kHz, as 480 tokens of 128. It does not say
    how many frequencies, nor which.
    """

    num_samples: int = setting(61_440, "samples S of a waveform")
    samples_per_patch: int = setting(128, "samples of a token; divides num_samples")
    num_channels: int = setting(1, "channels c of the sound: 1 mono, 2 stereo")
    num_frequency_bands: int = setting(64, "frequencies F of the Fourier features of time")
    max_resolution: float | None = setting(
        None,
        "frequencies go from 1 to half of it; None: the number of tokens, whose Nyquist frequency "
        "that is",
    )

    def __post_init__(self):
        super().__post_init__()
        num_patches(self.num_samples, self.samples_per_patch)
        if self.max_resolution is not None and not 0.0 < self.max_resolution < math.inf:
            raise ValueError(
                f"max_resolution={self.max_resolution} must be above 0 and finite, or None"
            )

    def input_adapter(self, *, rngs: nnx.Rngs) -> WaveformInputAdapter:
        """See `ModalityConfig`."""
        num_tokens = num_patches(self.num_samples, self.samples_per_patch)
        return WaveformInputAdapter(
            num_samples=self.num_samples,
            samples_per_patch=self.samples_per_patch,
            num_channels=self.num_channels,
            num_frequency_bands=self.num_frequency_bands,
            max_resolution=num_tokens if self.max_resolution is None else self.max_resolution,
        )

    def input_arrays(self) -> InputArrays:
        """See `ModalityConfig`."""
        shape = (self.num_samples, self.num_channels)
        return {"inputs": InputArray(shape=shape, dtype="float32", meaning="waveforms")}


class WaveformHead(nnx.Module):
    """Asks for every stretch of a waveform by its time, and makes samples of the answers.

    Args:
        num_samples: samples S.
        samples_per_patch: samples of an answer; divides S.
        num_channels: channels c of the sound.
        num_features: channels of an answer.
        num_frequency_bands: frequencies F of the queries.
        max_resolution: as of the input; None: the number of samples.
        ends: positions of the queries, see `core.position.linear_positions`.
        init: initial values of the linear layer; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: deepmind `AudioPostprocessor`.
    """

    def __init__(
        self,
        *,
        num_samples: int,
        samples_per_patch: int,
        num_channels: int = 1,
        num_features: int,
        num_frequency_bands: int,
        max_resolution: float | None = None,
        ends: GridEnds = "closed",
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.shape = (num_samples, num_channels)
        self.num_queries = num_patches(num_samples, samples_per_patch)
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = num_samples if max_resolution is None else max_resolution
        self.ends: GridEnds = ends
        self.num_query_channels = num_fourier_channels(1, num_frequency_bands)
        self.linear = linear(
            num_features, samples_per_patch * num_channels, init=init or InitConfig(), rngs=rngs
        )

    def queries(self) -> Tokens:
        """One query for each stretch, nothing but its position."""
        tables, order = waveform_positions(
            self.num_queries, self.num_frequency_bands, self.max_resolution, self.ends
        )
        content = jnp.zeros((1, self.num_queries, 0))
        return Tokens(content=content, positions=tables, order=order)

    def __call__(self, features: Array) -> Array:
        """[B, o, num_features] → [B, o, samples_per_patch · c] samples."""
        return self.linear(features)

    def whole(self, outputs: Array) -> Array:
        """All stretches [B, O, samples_per_patch · c] → [B, S, c] waveform."""
        return outputs.reshape(len(outputs), *self.shape)


def num_patches(num_samples: int, samples_per_patch: int) -> int:
    """How many stretches tile a waveform.

    Raises:
        ValueError: they do not.
    """
    if samples_per_patch < 1 or num_samples % samples_per_patch:
        raise ValueError(
            f"samples_per_patch={samples_per_patch} does not divide num_samples={num_samples:,}; "
            "choose a divisor"
        )
    return num_samples // samples_per_patch


def waveform_positions(
    num_tokens: int, num_bands: int, max_resolution: float, ends: GridEnds = "closed"
):
    """Fourier features along time, as `core.position.fourier_axes` gives them."""
    return fourier_axes(
        (num_tokens,), num_bands=num_bands, max_resolution=(max_resolution,), ends=ends
    )
