"""Sound files, read where a crop of them is wanted, and what is wrong with those that cannot be.

- Any local file that FFmpeg knows as one of `FORMATS`, videos with sound included; what a file
  refers to elsewhere is not opened.
- Decoders start about a second before a crop; files that cannot be sought in are read from their
  beginning.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.audio.decoding import MARGIN_S, Track, channels, require_av
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.video.containers import checked, origin, seconds

FORMATS = (
    "wav", "w64", "flac", "mp3", "ogg", "aac", "aiff", "au", "caf", "mov", "matroska", "asf", "avi"
)  # fmt: skip
"""FFmpeg's names; mov is also MP4 and M4A, matroska also WebM."""
SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aac", ".aif", ".aiff", ".au", ".m4a",
    ".mp4", ".mov", ".mka", ".mkv", ".webm", ".wma", ".avi",
)  # fmt: skip
"""Endings of the files that datasets take."""
_REMEDY = "fetch or write it again, or leave it out"


@dataclasses.dataclass(frozen=True)
class SoundFile:
    """The first sound track of a file; see `sounds.Sound`."""

    path: Path

    def seconds(self) -> float:
        """How long it is, by what the file says.

        Raises:
            DatasetError: the file cannot be read, or has no sound in it.
        """
        with _opened(self.path) as container:
            stream = _stream(container, self.path)
            if stream.duration:
                return seconds(stream, stream.duration)
            if container.duration:
                return container.duration / require_av().time_base
            # Streams without an index, such as AAC: only decoding tells.
            ends = [time_s + length for time_s, length in _spans(container, stream, self.path)]
            if ends:
                return max(ends) - origin(stream)
        raise DatasetError(f"{self.path} is empty: it holds no sound; {_REMEDY}")

    def read(
        self, start_s: float, num_samples: int, sample_rate: int, num_channels: int
    ) -> np.ndarray:
        """See `sounds.Sound`.

        Raises:
            DatasetError: the file cannot be read, is damaged where it is read, or ends before.
        """
        track = _decode(self.path, start_s, num_samples / sample_rate, num_channels)
        if track is None or not track.heard:
            raise DatasetError(
                f"{self.path} holds no sound at {start_s:.2f} s; it is empty or cut off: {_REMEDY}"
            )
        return track.resampled(num_samples, sample_rate)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An `av.container.InputContainer`; what FFmpeg finds wrong, then or later, is told."""
    av = require_av()
    if not path.is_file():
        raise DatasetError(f"{path} is not there, or is no file; name a sound file")
    only_files = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}
    try:
        # With "file:" a colon in a name is no protocol.
        with av.open(
            f"file:{os.fspath(path)}", container_options=only_files, metadata_errors="replace"
        ) as container:
            yield container
    except av.FFmpegError as error:
        raise DatasetError(
            f"{path} cannot be read as sound: {error.strerror}; it is damaged, incomplete, or of "
            f"no format that is read: {_REMEDY}"
        ) from error


def _stream(container: Any, path: Path) -> Any:
    stream = next((x for x in container.streams.audio if x.codec_context), None)
    if stream is None:
        raise DatasetError(f"{path} has no sound track; leave it out")
    return stream


def _decode(path: Path, start_s: float, length_s: float, num_channels: int) -> Track | None:
    """From a second before the part; from the beginning where that leads behind it."""
    av = require_av()
    for seek in (True, False) if start_s > MARGIN_S else (False,):
        with _opened(path) as container:
            stream = _stream(container, path)
            begin_s = origin(stream) + start_s
            try:
                if seek:
                    target = (begin_s - MARGIN_S) / float(stream.time_base)
                    container.seek(int(target), stream=stream)
                frames = _frames(container, stream, path)
                first = next(frames, None)
            except av.FFmpegError:
                if seek:
                    continue  # cannot seek, or not there: maybe from the beginning
                raise
            if seek and (first is None or first[0] > begin_s - MARGIN_S / 2):
                continue
            if first is None:
                return None
            track = Track(first[1].sample_rate, num_channels, begin_s, length_s)
            track.put(channels(first[1], num_channels), first[0])
            for time_s, frame in frames:
                if time_s > begin_s + length_s + MARGIN_S:
                    break
                track.put(channels(frame, num_channels), time_s)
            return track
    return None


def _spans(container: Any, stream: Any, path: Path) -> Iterator[tuple[float, float]]:
    """Beginning and length of every frame, in seconds."""
    for time_s, frame in _frames(container, stream, path):
        yield time_s, frame.samples / frame.sample_rate


def _frames(container: Any, stream: Any, path: Path) -> Iterator[tuple[float, Any]]:
    """(the container's time in seconds, `av.AudioFrame`)."""
    end_s = origin(stream)
    for frame in checked(container.decode(stream), path):
        time_s = end_s if frame.pts is None else seconds(frame, frame.pts)
        end_s = time_s + frame.samples / frame.sample_rate
        yield time_s, frame
