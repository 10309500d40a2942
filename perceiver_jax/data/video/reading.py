"""Clips out of video files: frames and sound of the same moment, and what a file is.

- Frames are chosen by time stamps, so that files of a variable frame rate are read right.
- Files that are damaged where they are read are errors that name them, never other pictures.
"""

import contextlib
import dataclasses
import os
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from perceiver_jax.data.video.containers import (
    VideoError,
    checked,
    damaged,
    opened,
    origin,
    require_av,
    seconds,
    video_stream,
)
from perceiver_jax.data.video.frames import TimedFrame, fit, frames_from, usual_duration
from perceiver_jax.data.video.sound import read_sound

_ROUNDING_S = 1e-3
"""Files round the times of frames to as much as this."""
_TAIL = 2_000_000
"""Microseconds from the end in which the last frame is found: its packet need not be the last."""
CENTRE = (0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class Clip:
    """A part of a video.

    Attributes:
        frames: [T, H, W, 3] uint8, RGB.
        sound: [S, 1] float32 in [-1, 1]; None where none was asked for.
        has_sound: whether any of the sound is of the file, and not only silence put in its place.
    """

    frames: np.ndarray
    sound: np.ndarray | None
    has_sound: bool


class EndsBeforeClip(VideoError):
    """A video that has no frames for the end of a clip, whatever its header says.

    Args:
        message: what is told.
        end_s: where its last frame ends, in seconds from the first frame.
    """

    def __init__(self, message: str, end_s: float = 0.0):
        super().__init__(message)
        self.end_s = end_s


@dataclasses.dataclass(frozen=True)
class ClipInfo:
    """What a video file is.

    Attributes:
        seconds: from the first frame to the end of the last one.
        frame_rate: frames a second, on average.
        size: height and width in pixels, as shown.
        has_sound: whether there is a sound track.
        rotation: degrees, counterclockwise, by which stored frames are turned when shown.
    """

    seconds: float
    frame_rate: float
    size: tuple[int, int]
    has_sound: bool
    rotation: int


def read_clip(
    path: str | os.PathLike[str],
    *,
    start_s: float = 0.0,
    num_frames: int,
    frame_rate: float,
    image_size: tuple[int, int],
    num_samples: int | None = None,
    sample_rate: int = 48_000,
    crop: tuple[float, float] = CENTRE,
) -> Clip:
    """Frames at equal distances in time, and the sound from the same moment on.

    Args:
        path: of the video.
        start_s: where the clip begins, in seconds from the first frame.
        num_frames: T; frame t is what is on the screen at `start_s + t / frame_rate`.
        frame_rate: frames a second of the clip, whatever that of the file.
        image_size: height and width to resize and crop to: the whole of the short side is kept.
        num_samples: S, samples of sound from `start_s` on; None: no sound is read.
        sample_rate: samples a second of the clip, whatever that of the file.
        crop: which part of the long side is kept, down and to the right, from 0 to 1.

    Returns:
        The clip. Sound is mono, the mean of all channels.

    Raises:
        EndsBeforeClip: the file ends before the last frame.
        VideoError: it cannot be read, or is damaged where it is read; or an argument is out of
            range.
    """
    _check(start_s, num_frames, frame_rate, image_size, num_samples, sample_rate, crop)
    frames = np.empty((num_frames, *image_size, 3), np.uint8)
    with contextlib.closing(_on_screen(path, start_s, num_frames, frame_rate)) as shown:
        for when, frame in shown:
            frames[when] = fit(frame.picture(), image_size, crop)
    if num_samples is None:
        return Clip(frames, None, False)
    return Clip(frames, *read_sound(path, start_s, num_samples, sample_rate))


def probe(path: str | os.PathLike[str]) -> ClipInfo:
    """What a file is, without reading all of it.

    Raises:
        VideoError: the file cannot be read, or its first frame is damaged.
    """
    with contextlib.closing(frames_from(path, 0.0)) as frames:
        first = next(frames, None)
    if first is None:
        raise damaged(path, "it has no frames")
    length = read_length(path)
    with opened(path) as container:
        stream = video_stream(container, path)
        return ClipInfo(
            seconds=length,
            frame_rate=float(stream.average_rate or 0.0),
            size=first.picture().shape[:2],
            has_sound=bool(container.streams.audio),
            rotation=first.frame.rotation,
        )


def iterate_frames(path: str | os.PathLike[str]) -> Iterator[tuple[float, np.ndarray]]:
    """All frames of a video, one after the other; only one of them is in memory.

    Yields:
        (seconds from the first frame, [H, W, 3] uint8, RGB).

    Raises:
        VideoError: the file cannot be read, or is damaged; frames before that have been given.
    """
    with contextlib.closing(frames_from(path, 0.0)) as frames:
        for frame in frames:
            yield frame.time_s, frame.picture()


def read_length(path: str | os.PathLike[str]) -> float:
    """Seconds from the first frame to the end of the last, by what the file says.

    Raises:
        VideoError: the file cannot be read.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        if container.format.name.startswith("mov") and stream.duration:
            return seconds(stream, stream.duration)
        # Other formats tell the length of the longest track, or nothing: packets tell ours.
        if (container.duration or 0) > _TAIL:
            with contextlib.suppress(require_av().FFmpegError):
                container.seek(container.duration - _TAIL + (container.start_time or 0))
        return _end_of_packets(container, stream, path) - origin(stream)


def _end_of_packets(container: Any, stream: Any, path: str | os.PathLike[str]) -> float:
    """The container's time at which the last frame from here on ends."""
    end = origin(stream)
    for packet in checked(container.demux(stream), path):
        if packet.pts is not None:
            duration = seconds(stream, packet.duration or 0) or usual_duration(stream)
            end = max(end, seconds(stream, packet.pts) + duration)
    return end


def _on_screen(
    path: str | os.PathLike[str], start_s: float, num_frames: int, frame_rate: float
) -> Generator[tuple[slice, TimedFrame], None, None]:
    """Frames of the file, each with those of the clip that show it; all of the clip in order.

    Raises:
        EndsBeforeClip: the file ends before.
    """
    times = start_s + np.arange(num_frames) / frame_rate + _ROUNDING_S
    t, current = 0, None
    with contextlib.closing(frames_from(path, start_s)) as frames:
        for following in frames:
            before = int(np.searchsorted(times, following.time_s))
            if current is not None and t < before:
                yield slice(t, before), current
                t = before
                if t == num_frames:
                    return
            current = following
    end_s = 0.0 if current is None else current.end_s
    last = int(np.searchsorted(times, end_s))
    if last < num_frames:
        raise _too_short(path, end_s, start_s, num_frames, frame_rate)
    if current is not None:
        yield slice(t, last), current


def _too_short(
    path: str | os.PathLike[str], end_s: float, start_s: float, num_frames: int, frame_rate: float
) -> EndsBeforeClip:
    promised_s = probe(path).seconds
    if promised_s > end_s + 1.0:
        told = str(damaged(path, f"its frames end at {end_s:.2f} s of {promised_s:.2f} s"))
    else:
        told = (
            f"{os.fspath(path)} is {end_s:.2f} s long, but {num_frames} frames at {frame_rate:g} a "
            f"second last {num_frames / frame_rate:.2f} s, from {start_s:.2f} s on; choose another "
            "start, fewer frames or more a second, or leave the file out"
        )
    return EndsBeforeClip(told, end_s)


def _check(
    start_s: float,
    num_frames: int,
    frame_rate: float,
    image_size: tuple[int, int],
    num_samples: int | None,
    sample_rate: int,
    crop: tuple[float, float],
) -> None:
    if not 0 <= start_s < float("inf"):
        raise VideoError(f"start_s={start_s} is no time in a video; it must be 0 or more")
    if min(num_frames, *image_size, sample_rate, 1 if num_samples is None else num_samples) < 1:
        raise VideoError(
            f"num_frames={num_frames}, image_size={image_size}, num_samples={num_samples} and "
            f"sample_rate={sample_rate} must be 1 or more"
        )
    if not 0 < frame_rate < float("inf"):
        raise VideoError(f"frame_rate={frame_rate} is no number of frames a second above 0")
    if not all(0 <= part <= 1 for part in crop):
        raise VideoError(f"crop={crop} must be two numbers in [0, 1]")
