"""Spectrograms to tokens: patches of time and frequency, as of an image.

- Spectrograms are [B, T, m] floats, frames before bands; what their values mean is the data's
  affair (`data.audio.mel`).
- A token is a patch with the Fourier features of where it stands in time and in frequency; of
  patches of 1×1, a token is a single value.
"""

import dataclasses
import math

import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.adapters.base import ModalityConfig
from perceiver_jax.adapters.input_arrays import InputArray, InputArrays
from perceiver_jax.config import setting
from perceiver_jax.core.position import fourier_axes, num_fourier_channels
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class SpectrogramInputAdapter(nnx.Module):
    """Every patch is a token: its values and the Fourier features of its time and frequency.

    Args:
        num_frames: frames T.
        num_mel_bands: bands m of a frame.
        patch_size: (frames, bands) of a patch; they divide T and m.
        num_frequency_bands: frequencies F of the features, per axis.
        max_resolution: (time, frequency), features go from 1 to half of it; None: the grid of
            patches.

    Raises:
        ValueError: the patches do not tile the spectrogram.

    Source: Perceiver §4.2: a mel spectrogram "resulting in 4800 inputs to the Perceiver, once
    flattened", which are patches of 1×1. Larger ones are an addition.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        num_mel_bands: int,
        patch_size: tuple[int, int] = (1, 1),
        num_frequency_bands: int,
        max_resolution: tuple[float, float] | None = None,
    ):
        self.shape = (num_frames, num_mel_bands)
        self.patch_size = patch_size
        self.grid = patch_grid(self.shape, patch_size)
        self.num_frequency_bands = num_frequency_bands
        self.max_resolution = max_resolution
        self.num_input_channels = patch_size[0] * patch_size[1] + num_fourier_channels(
            2, num_frequency_bands
        )

    def __call__(
        self, inputs: Array, input_mask: Array | None = None, *, key: Key | None = None
    ) -> Tokens:
        """[B, T, m] spectrograms → tokens of their patches, those of one time together.

        Raises:
            ValueError: they have another shape, or are integers.
        """
        spectrogram = jnp.asarray(inputs)
        if spectrogram.ndim != 3 or spectrogram.shape[1:] != self.shape:
            raise ValueError(
                f"spectrograms of shape {tuple(spectrogram.shape)} do not fit this model, which "
                f"takes [batch, {self.shape[0]}, {self.shape[1]}] (frames, mel bands); cut or "
                "transpose them, or build the model for that shape"
            )
        if not jnp.issubdtype(spectrogram.dtype, jnp.floating):
            raise ValueError(
                f"spectrograms of type {spectrogram.dtype} are not floats; convert them first"
            )
        frames, bands = self.patch_size
        content = rearrange(spectrogram, "b (t p) (f q) -> b t f (p q)", p=frames, q=bands)
        tables, order = fourier_axes(
            self.grid, num_bands=self.num_frequency_bands, max_resolution=self.max_resolution
        )
        return Tokens(content=content, positions=tables, order=order, mask=input_mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(ModalityConfig):
    """An encoder of mel spectrograms.

    Raises:
        ValueError: the patches do not tile the spectrogram, or `max_resolution` is out of range.
    """

    num_frames: int = setting(60, "frames T of a spectrogram")
    num_mel_bands: int = setting(80, "bands of a frame")
    patch_size: tuple[int, int] = setting(
        (1, 1), "frames and bands of a token; they divide num_frames and num_mel_bands"
    )
    num_frequency_bands: int = setting(
        64, "frequencies F of the Fourier features, of time and of frequency each"
    )
    max_resolution: tuple[float, float] | None = setting(
        None,
        "for time and frequency, Fourier frequencies go from 1 to half of it; None: the grid of "
        "patches",
    )

    def __post_init__(self):
        super().__post_init__()
        patch_grid((self.num_frames, self.num_mel_bands), self.patch_size)
        resolution = self.max_resolution
        if resolution is not None and not all(0.0 < r < math.inf for r in resolution):
            raise ValueError(f"max_resolution={resolution} must be above 0 and finite, or None")

    def input_adapter(self, *, rngs: nnx.Rngs) -> SpectrogramInputAdapter:
        """See `ModalityConfig`."""
        return SpectrogramInputAdapter(
            num_frames=self.num_frames,
            num_mel_bands=self.num_mel_bands,
            patch_size=self.patch_size,
            num_frequency_bands=self.num_frequency_bands,
            max_resolution=self.max_resolution,
        )

    def input_arrays(self) -> InputArrays:
        """See `ModalityConfig`."""
        shape, meaning = (self.num_frames, self.num_mel_bands), "spectrograms, frames before bands"
        return {"inputs": InputArray(shape=shape, dtype="float32", meaning=meaning)}


def patch_grid(shape: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """How many patches tile a spectrogram of (frames, bands), each way.

    Raises:
        ValueError: they do not.
    """
    if min(patch_size) < 1 or shape[0] % patch_size[0] or shape[1] % patch_size[1]:
        raise ValueError(
            f"patch_size={patch_size} does not divide spectrograms of {shape[0]} frames and "
            f"{shape[1]} mel bands; choose divisors of both"
        )
    return shape[0] // patch_size[0], shape[1] // patch_size[1]
