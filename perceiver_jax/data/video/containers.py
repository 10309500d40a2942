"""Video files, opened for reading, and what is wrong with those that cannot be.

- Files are local ones in the formats of `FORMATS`: what a file refers to, on the network or
  elsewhere on the machine, is not opened, and neither are playlists and pictures.
- The package av (PyAV, with FFmpeg inside) is imported where it is used.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from perceiver_jax.errors import UserError, how_to_install

FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg")
"""FFmpeg's names; mov is also MP4, matroska also WebM."""
_FORMAT_NAMES = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV and OGG"


T = TypeVar("T")


class VideoError(UserError):
    """A video that cannot be read or written; the message names the file."""


def require_av() -> Any:
    """The package.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise VideoError(
            f"videos need the package av, which is not installed; {how_to_install('video')}"
        ) from None
    return av


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An `av.container.InputContainer`, closed at the end; errors of FFmpeg become VideoErrors.

    Raises:
        VideoError: the file is missing, no video, damaged, or cannot be read; or the package av is
            not installed.
    """
    av = require_av()
    if not Path(path).exists():
        raise VideoError(f"{os.fspath(path)} is not there; name a video file")
    if not Path(path).is_file():
        raise VideoError(f"{os.fspath(path)} is no file; name a video file")
    only_files = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    try:
        # With "file:" a colon in a name is no protocol.
        with av.open(
            f"file:{os.fspath(path)}", container_options=only_files, metadata_errors="replace"
        ) as container:
            yield container
    except av.FFmpegError as error:
        raise VideoError(
            f"{os.fspath(path)} cannot be read as a video: {error.strerror}; it is damaged, "
            f"incomplete, or none of {_FORMAT_NAMES}: write it again, or leave it out"
        ) from error


def damaged(path: str | os.PathLike[str], what: str) -> VideoError:
    """The error for a file that opens, and breaks off or goes wrong later."""
    return VideoError(
        f"{os.fspath(path)} is damaged: {what}; fetch or write it again, or leave it out"
    )


def checked(items: Iterator[T], path: str | os.PathLike[str]) -> Iterator[T]:
    """What a container's `demux` or `decode` gives.

    Raises:
        VideoError: a track begins that was not there when the file was opened, for which av raises
            an IndexError.
    """
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except IndexError as error:
            raise damaged(path, "it has a track that begins in the middle") from error
        yield item


def video_stream(container: Any, path: str | os.PathLike[str]) -> Any:
    """The first `av.video.stream.VideoStream` that is no cover picture.

    Raises:
        VideoError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic:
            if stream.codec_context is None:
                raise VideoError(
                    f"{os.fspath(path)} has a video that nothing here decodes; write it again as "
                    "H.264"
                )
            return stream
    raise VideoError(f"{os.fspath(path)} has no video in it; name a file that has")


def seconds(stream: Any, stamp: int) -> float:
    """A time stamp of a stream as seconds of its container."""
    return float(stamp * stream.time_base)


def origin(stream: Any) -> float:
    """The container's time at which a stream begins, in seconds."""
    return seconds(stream, stream.start_time or 0)
