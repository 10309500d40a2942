"""The sound of a part of a video, aligned with its frames by time stamps.

- It is as exact as the stamps are: to a millisecond in Matroska, WebM and FLV, to a sample in MP4.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from perceiver_jax.data.audio.decoding import MARGIN_S, Track, channels
from perceiver_jax.data.video.containers import (
    VideoError,
    checked,
    opened,
    origin,
    require_av,
    seconds,
    video_stream,
)


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
    return track.resampled(num_samples, sample_rate), True


def _decode(path: str | os.PathLike[str], start_s: float, length_s: float) -> Track | None:
    """From a key frame before the part; from the beginning where that leads behind it."""
    av = require_av()
    for seek in (True, False) if start_s > MARGIN_S else (False,):
        with opened(path) as container:
            video = video_stream(container, path)
            stream = next((x for x in container.streams.audio if x.codec_context), None)
            if stream is None:
                return None
            begin_s = origin(video) + start_s
            try:
                if seek:
                    target = (begin_s - MARGIN_S) / float(video.time_base)
                    container.seek(int(target), stream=video)
                frames = _frames(container, stream, path)
                first = next(frames, None)
            except (av.FFmpegError, VideoError):
                if seek:
                    continue  # cannot seek, or not there: maybe from the beginning
                raise
            if seek and (first is None or first[0] > begin_s - MARGIN_S / 2):
                continue
            return None if first is None else _track(first, frames, begin_s, length_s)
    return None


def _track(
    first: tuple[float, Any], frames: Iterator[tuple[float, Any]], begin_s: float, length_s: float
) -> Track:
    track = Track(first[1].sample_rate, 1, begin_s, length_s)
    track.put(channels(first[1], 1), first[0])
    for time_s, frame in frames:
        if time_s > begin_s + length_s + MARGIN_S:
            break
        track.put(channels(frame, 1), time_s)
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
