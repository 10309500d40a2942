"""Frames of sound, as a decoder gives them, laid together in time and brought to another rate."""

from typing import Any

import numpy as np

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import how_to_install

MARGIN_S = 1
"""What is decoded before and behind: decoders and resampling filters need a run-up. It is a whole
second, as that is a whole number of samples at every rate."""
_JITTER_S = 0.03
"""Time stamps that are rounded do not tear neighbouring samples apart; gaps longer than this do."""


class Track:
    """Samples of a wanted time and its margins, at the rate of the file.

    Args:
        rate: samples a second.
        num_channels: channels c, 1 or 2.
        begin_s: where the wanted time begins.
        length_s: how long it is.

    Attributes:
        samples: [c, n] float32, 0 where there are none.
        heard: whether any of the wanted time is there.
    """

    def __init__(self, rate: int, num_channels: int, begin_s: float, length_s: float):
        self.rate, self._begin_s = rate, begin_s - MARGIN_S
        self.samples = np.zeros((num_channels, round((length_s + 2 * MARGIN_S) * rate)), np.float32)
        self.heard = False
        self._next: int | None = None

    def put(self, samples: np.ndarray, time_s: float) -> None:
        """Lays [c, n] samples where their time stamp says, or directly behind those before."""
        first = round((time_s - self._begin_s) * self.rate)
        if self._next is not None and abs(first - self._next) <= _JITTER_S * self.rate:
            first = self._next
        self._next = end = first + samples.shape[1]
        size = self.samples.shape[1]
        begin, stop = max(first, 0), min(end, size)
        if begin < stop:
            self.samples[:, begin:stop] = samples[:, begin - first : stop - first]
        margin = MARGIN_S * self.rate
        self.heard |= first < size - margin and end > margin

    def resampled(self, num_samples: int, sample_rate: int) -> np.ndarray:
        """[num_samples, c] float32 in [-1, 1] of the wanted time, at another rate."""
        found = resampled(self.samples, self.rate, sample_rate)[:, MARGIN_S * sample_rate :]
        sound = np.zeros((num_samples, len(found)), np.float32)
        found = found[:, :num_samples].T
        sound[: len(found)] = found
        return np.clip(sound, -1.0, 1.0)


def require_av() -> Any:
    """The package av (PyAV, with FFmpeg inside).

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise DatasetError(
            "reading and resampling sound needs the package av, which is not installed; "
            f"{how_to_install('video')}"
        ) from None
    return av


def channels(frame: Any, num_channels: int) -> np.ndarray:
    """[num_channels, n] float32 of an `av.AudioFrame`.

    One channel is the mean of all. Of two, they are the first two; a single one is both.
    """
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind in "iu":
        half = 2.0 ** (8 * samples.dtype.itemsize - 1)
        samples = samples / half - (samples.dtype.kind == "u")
    return mixed(samples.astype(np.float32), num_channels)


def mixed(samples: np.ndarray, num_channels: int) -> np.ndarray:
    """[c, n] → [num_channels, n] float32, as `channels` says."""
    if num_channels == 1:
        return samples.mean(axis=0, dtype=np.float32, keepdims=True)
    return samples[np.minimum([0, 1], len(samples) - 1)]


def resampled(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """[c, n] float32, c 1 or 2, at another rate; sample 0 stays where it is."""
    if rate == sample_rate:
        return samples
    av = require_av()
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
    done = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([x.to_ndarray() for x in done], axis=1)
