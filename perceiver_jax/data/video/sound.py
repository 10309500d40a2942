"""The sound of a part of a video, aligned with its frames by time stamps.

- It is as exact as the stamps are: to a millisecond in Matroska, WebM and FLV, to a sample in MP4.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from perceiver_jax.data.video.containers import (
    VideoError,
    checked,
    opened,
    origin,
    require_av,
    seconds,
    video_stream,
)

_MARGIN_S = 1
"""What is decoded before and behind: decoders and resampling filters need a run-up. It is a whole
second, as that is a whole number of samples at every rate."""
_JITTER_S = 0.03
"""Time stamps that are rounded do not tear neighbouring samples apart; gaps longer than this do."""


def read_sound(
    path: str | os.PathLike[str], start_s: float, num_samples: int, sample_rate: int
) -> tuple[np.ndarray, bool]:
    """The first sound track, mono: the mean of its channels.

    Args:
        path: of the video.
        start_s: seconds from the first frame.
        num_samples: S.
        sample_rate: samples per second.

    Returns:
        [S, 1] float32 in [-1, 1], silent where there is no sound; and whether any of it is from
        the file.

    Raises:
        VideoError: the file cannot be read, or is damaged where it is read.
    """
    track = _decode(path, start_s, num_samples / sample_rate)
    if track is None or not track.heard:
        return np.zeros((num_samples, 1), np.float32), False
    samples = _resampled(track.samples, track.rate, sample_rate)
    margin = _MARGIN_S * sample_rate
    sound = np.zeros(num_samples, np.float32)
    found = samples[margin : margin + num_samples]
    sound[: len(found)] = found
    return np.clip(sound, -1.0, 1.0)[:, None], True


class _Track:
    """Samples of the wanted time and its margins, at the rate of the file."""

    def __init__(self, rate: int, begin_s: float, length_s: float):
        self.rate, self._begin_s = rate, begin_s - _MARGIN_S
        self.samples = np.zeros(round((length_s + 2 * _MARGIN_S) * rate), np.float32)
        self.heard = False
        self._next: int | None = None

    def put(self, samples: np.ndarray, time_s: float) -> None:
        """Lays samples where their time stamp says, or directly behind those before."""
        first = round((time_s - self._begin_s) * self.rate)
        if self._next is not None and abs(first - self._next) <= _JITTER_S * self.rate:
            first = self._next
        self._next = end = first + len(samples)
        begin, stop = max(first, 0), min(end, len(self.samples))
        if begin < stop:
            self.samples[begin:stop] = samples[begin - first : stop - first]
        margin = _MARGIN_S * self.rate
        self.heard |= first < len(self.samples) - margin and end > margin


def _decode(path: str | os.PathLike[str], start_s: float, length_s: float) -> _Track | None:
    """From a key frame before the part; from the beginning where that leads behind it."""
    av = require_av()
    for seek in (True, False) if start_s > _MARGIN_S else (False,):
        with opened(path) as container:
            video = video_stream(container, path)
            stream = next((x for x in container.streams.audio if x.codec_context), None)
            if stream is None:
                return None
            begin_s = origin(video) + start_s
            try:
                if seek:
                    target = (begin_s - _MARGIN_S) / float(video.time_base)
                    container.seek(int(target), stream=video)
                frames = _frames(container, stream, path)
                first = next(frames, None)
            except (av.FFmpegError, VideoError):
                if seek:
                    continue  # cannot seek, or not there: maybe from the beginning
                raise
            if seek and (first is None or first[0] > begin_s - _MARGIN_S / 2):
                continue
            return None if first is None else _track(first, frames, begin_s, length_s)
    return None


def _track(
    first: tuple[float, Any], frames: Iterator[tuple[float, Any]], begin_s: float, length_s: float
) -> _Track:
    track = _Track(first[1].sample_rate, begin_s, length_s)
    track.put(_mono(first[1]), first[0])
    for time_s, frame in frames:
        if time_s > begin_s + length_s + _MARGIN_S:
            break
        track.put(_mono(frame), time_s)
    return track


def _frames(
    container: Any, stream: Any, path: str | os.PathLike[str]
) -> Iterator[tuple[float, Any]]:
    """(the container's time in seconds, `av.AudioFrame`)."""
    end_s = origin(stream)
    for frame in checked(container.decode(stream), path):
        time_s = end_s if frame.pts is None else seconds(frame, frame.pts)
        end_s = time_s + frame.samples / frame.sample_rate
        yield time_s, frame


def _mono(frame: Any) -> np.ndarray:
    """[n] float32, the mean of the channels of an `av.AudioFrame`."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind in "iu":
        half = 2.0 ** (8 * samples.dtype.itemsize - 1)
        samples = samples / half - (samples.dtype.kind == "u")
    return samples.mean(axis=0, dtype=np.float32)


def _resampled(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """[n] float32 at another rate; sample 0 stays where it is."""
    if rate == sample_rate:
        return samples
    av = require_av()
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    done = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([x.to_ndarray()[0] for x in done])
