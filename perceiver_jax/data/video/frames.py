"""Frames of a video with the times at which they come on the screen.

- Times are seconds from the first frame, by the time stamps of the file.
- A decoder starts at key frames: reading from the middle seeks to one before, and, where a file
  leads it behind, begins at the beginning.
"""

import os
from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from perceiver_jax.data.preprocessing import resize
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

_STEPS_BACK = (0.0, 10.0)
"""Seconds before the wanted time at which to look for a key frame."""


class Upright:
    """Turns frames, `av.VideoFrame`, into pictures as they are shown: RGB, of square pixels.

    Args:
        pixel_aspect: width of a stored pixel by its height.
    """

    def __init__(self, pixel_aspect: float):
        # One for all frames: it keeps its tables from one to the next.
        self._reformatter = require_av().video.reformatter.VideoReformatter()
        self._pixel_aspect = pixel_aspect

    def __call__(self, frame: Any) -> np.ndarray:
        """[H, W, 3] uint8; what was filmed with the camera on its side stands."""
        width = max(1, round(frame.width * self._pixel_aspect))
        rgb = self._reformatter.reformat(frame, width=width, format="rgb24", threads=1)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90)))


class TimedFrame(NamedTuple):
    """A decoded frame that comes on the screen at a time, for some seconds at least."""

    time_s: float
    duration_s: float
    frame: Any
    upright: Upright

    @property
    def end_s(self) -> float:
        """Where it ends if none follows."""
        return self.time_s + self.duration_s

    def picture(self) -> np.ndarray:
        """[H, W, 3] uint8, RGB."""
        return self.upright(self.frame)


def frames_from(path: str | os.PathLike[str], start_s: float) -> Generator[TimedFrame, None, None]:
    """All frames in the order of time, from the one on the screen at `start_s` or an earlier one.

    Raises:
        VideoError: the file cannot be read, or is damaged where it is read.
    """
    av = require_av()
    for back in _STEPS_BACK:
        if start_s <= back:
            break
        with opened(path) as container:
            stream = video_stream(container, path)
            if not _tells_times(container, stream):
                break
            target = (origin(stream) + start_s - back) / float(stream.time_base)
            try:
                container.seek(int(target), stream=stream)
                frames = _decoded(container, stream, path)
                first = next(frames, None)
            except (av.FFmpegError, VideoError):
                continue  # cannot seek, or not there: maybe from elsewhere
            if first is not None and first.time_s <= start_s:
                yield first
                yield from frames
                return
    with opened(path) as container:
        yield from _decoded(container, video_stream(container, path), path)


def _tells_times(container: Any, stream: Any) -> bool:
    """Whether frames say when they are shown: in AVI, where they are reordered, they do not."""
    return container.format.name != "avi" or not stream.codec_context.has_b_frames


def _decoded(
    container: Any, stream: Any, path: str | os.PathLike[str]
) -> Generator[TimedFrame, None, None]:
    usual, tells = usual_duration(stream), _tells_times(container, stream)
    upright = Upright(_pixel_aspect(stream))
    # Clips are short and read side by side: threads of one decoder would read too far ahead.
    stream.codec_context.thread_count = 1
    start = origin(stream) if tells else None
    time_s = -usual
    for frame in checked(container.decode(stream), path):
        stamp = frame.pts if tells else frame.dts
        start = seconds(stream, stamp or 0) if start is None else start
        time_s = time_s + usual if stamp is None else seconds(stream, stamp) - start
        if frame.is_corrupt:
            raise damaged(path, f"the frame at {time_s:.2f} s cannot be decoded")
        duration = seconds(stream, frame.duration or 0)
        yield TimedFrame(time_s, duration or usual, frame, upright)


def _pixel_aspect(stream: Any) -> float:
    """Width of a pixel by its height; what no film ever had is damage, and 1."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.25 <= aspect <= 4 else 1.0


def usual_duration(stream: Any) -> float:
    """Seconds between frames on average; 0 where nothing tells."""
    return 1.0 / float(stream.average_rate) if stream.average_rate else 0.0


def fit(picture: np.ndarray, size: tuple[int, int], crop: tuple[float, float]) -> np.ndarray:
    """The largest part of a picture of the aspect of `size`, resized to it.

    Args:
        picture: [h, w, 3] uint8.
        size: height and width of the result.
        crop: where the part lies, down and to the right, from 0 to 1; 0.5 is the middle.

    Returns:
        [*size, 3] uint8.
    """
    height, width = picture.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    part = min(height, max(1, round(size[0] / scale))), min(width, max(1, round(size[1] / scale)))
    top, left = round(crop[0] * (height - part[0])), round(crop[1] * (width - part[1]))
    return resize(picture[top : top + part[0], left : left + part[1]], size, "area")
