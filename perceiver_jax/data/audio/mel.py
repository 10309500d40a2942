"""Mel spectrograms of waveforms, in NumPy.

- Frame t is centred at sample (t + 1/2) · hop_length; before and behind the waveform it is silent.
- Frames are multiplied with a periodic Hann window, and their power spectrum is divided by the
  square of the window's sum: a tone of amplitude a has the power a² / 4 at its
  frequency, whatever the window's length, and up to 3/8 a² in a wide band.
- Mel are HTK's, 2595 · log10(1 + f / 700); bands are triangles of height 1 over their centres,
  equally far apart in mel, not normalised by area.
"""

import dataclasses
import functools

import numpy as np

from perceiver_jax.config import check_fields, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelConfig:
    """A mel spectrogram, and what training hides of it."""

    num_mel_bands: int = setting(80, "bands of a frame")
    hop_length: int = setting(1024, "samples from one frame to the next; divides num_samples")
    window_length: int = setting(2048, "samples of a frame, and of its Fourier transform")
    min_frequency: float = setting(60.0, "lower end of the lowest band, in hertz")
    max_frequency: float | None = setting(
        None, "upper end of the highest band, in hertz; None: half the sample rate"
    )
    log_offset: float | None = setting(
        1e-6,
        "added to powers, of which a tone at full scale has 1/4, before their natural logarithm; "
        "None: the powers themselves",
    )
    num_time_masks: int = setting(
        0, "runs of frames that training hides in each spectrogram (SpecAugment)", minimum=0
    )
    max_time_mask: int = setting(8, "longest of those runs, in frames; each is 0 to so long")
    num_frequency_masks: int = setting(
        0, "runs of bands that training hides in each spectrogram (SpecAugment)", minimum=0
    )
    max_frequency_mask: int = setting(16, "widest of those runs, in bands; each is 0 to so wide")

    def __post_init__(self):
        check_fields(self)
        for name in ("hop_length", "window_length", "max_time_mask", "max_frequency_mask"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.window_length < self.hop_length:
            raise ValueError(
                f"window_length={self.window_length} is below hop_length={self.hop_length}: "
                "samples between frames would be lost"
            )
        if self.log_offset is not None and not self.log_offset > 0:
            raise ValueError(f"log_offset={self.log_offset} must be above 0, or None")
        if self.min_frequency < 0:
            raise ValueError(f"min_frequency={self.min_frequency} must be 0 or more")

    def check(self, num_samples: int, sample_rate: int) -> None:
        """Raises a ValueError where waveforms cannot be made spectrograms of."""
        if num_samples % self.hop_length:
            raise ValueError(
                f"hop_length={self.hop_length} does not divide num_samples={num_samples:,}; choose "
                "a divisor"
            )
        mel_filters(self, sample_rate)

    def upper(self, sample_rate: int) -> float:
        """The upper end of the highest band, in hertz."""
        return sample_rate / 2 if self.max_frequency is None else self.max_frequency


def mel_spectrogram(waveform: np.ndarray, config: MelConfig, sample_rate: int) -> np.ndarray:
    """Powers, or their logarithms, of each band in each frame.

    Args:
        waveform: [S] floats, S a multiple of the hop length.
        config: of the spectrogram.
        sample_rate: samples a second.

    Returns:
        [S / hop_length, num_mel_bands] float32, low bands first.
    """
    power, filters = power_spectrogram(waveform, config), mel_filters(config, sample_rate)
    # Not a product of matrices: so small a one only wakes other threads up.
    mel = np.einsum("tf,mf->tm", power, filters)
    if config.log_offset is not None:
        mel = np.log(mel + np.float32(config.log_offset))
    return mel.astype(np.float32)


def power_spectrogram(waveform: np.ndarray, config: MelConfig) -> np.ndarray:
    """[S / hop_length, 1 + window_length // 2] float32 powers of each frame's frequencies."""
    hop, length = config.hop_length, config.window_length
    before = (length - hop) // 2
    padded = np.pad(np.asarray(waveform, np.float32), (before, length - hop - before))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    window = _window(length)
    return np.square(np.abs(np.fft.rfft(frames * window[None]))) / np.square(window.sum())


@functools.lru_cache(maxsize=8)
def mel_filters(config: MelConfig, sample_rate: int) -> np.ndarray:
    """[num_mel_bands, 1 + window_length // 2] float32, how much of a frequency a band takes.

    Raises:
        ValueError: the bands are not below half the sample rate, or so narrow that one of them has
            no frequency of the window in it.
    """
    upper = config.upper(sample_rate)
    if not config.min_frequency < upper <= sample_rate / 2:
        raise ValueError(
            f"bands from min_frequency={config.min_frequency} to max_frequency={upper} are not "
            f"inside 0 to {sample_rate / 2}, half of sample_rate={sample_rate}"
        )
    lowest, highest = hertz_to_mel(np.array([config.min_frequency, upper]))
    ends = np.linspace(lowest, highest, config.num_mel_bands + 2)
    left, centre, right = (mel_to_hertz(ends)[i : i + config.num_mel_bands, None] for i in range(3))
    frequencies = np.fft.rfftfreq(config.window_length, 1 / sample_rate)[None]
    rising, falling = (
        (frequencies - left) / (centre - left),
        (right - frequencies) / (right - centre),
    )
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    empty = np.flatnonzero(filters.max(axis=1) == 0)
    if len(empty):
        raise ValueError(
            f"{len(empty)} of num_mel_bands={config.num_mel_bands}, the first about "
            f"{centre[empty[0], 0]:.0f} Hz, are narrower than the frequencies of "
            f"window_length={config.window_length} are apart; take fewer bands, a higher "
            "min_frequency or a longer window"
        )
    return filters


def hertz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """HTK's formula."""
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def mel_to_hertz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `hertz_to_mel`."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


@functools.lru_cache(maxsize=8)
def _window(length: int) -> np.ndarray:
    """[length] float32, a Hann window that begins with 0 and does not end with it."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def masked(spectrogram: np.ndarray, config: MelConfig, rng: np.random.Generator) -> np.ndarray:
    """A spectrogram with runs of frames and bands set to its mean (SpecAugment).

    Args:
        spectrogram: [T, m].
        config: how many runs, and how long.
        rng: draws where they are.

    Source: Park et al. 2019, without its warping of time.
    """
    hidden = spectrogram.copy()
    mean = spectrogram.mean()
    for axis, count, longest in (
        (0, config.num_time_masks, config.max_time_mask),
        (1, config.num_frequency_masks, config.max_frequency_mask),
    ):
        size = spectrogram.shape[axis]
        for _ in range(count):
            length = int(rng.integers(min(longest, size) + 1))
            first = int(rng.integers(size - length + 1))
            np.moveaxis(hidden, axis, 0)[first : first + length] = mean
    return hidden
