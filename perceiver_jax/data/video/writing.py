"""Video files out of frames and sound: MP4 with H.264 and AAC, which every player shows."""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.video.containers import VideoError, require_av

SAMPLE_RATES = (
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
)  # fmt: skip
"""Those of AAC."""
_BT709, _FROM_16_TO_235 = 1, 1
"""How colours are stored, in the numbers of H.264 and FFmpeg."""
_QUALITY = "18"
"""H.264's constant rate factor: coarser ones can be told from the original by eye."""
_MAX_BIT_RATE, _BITS_PER_SAMPLE = 192_000, 4
"""Of sound. With fewer bits, which is the default, FFmpeg's encoder of AAC adds clicks to tones."""
_MIN_FRAME_RATE, _MAX_FRAME_RATE = 0.01, 1000.0


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    frame_rate: float,
    sound: np.ndarray | None = None,
    sample_rate: int = 48_000,
) -> Path:
    """Writes an MP4 file, frame by frame; a file that is there is replaced when all is written.

    Args:
        path: of the file; ends in .mp4.
        frames: [H, W, 3] uint8 each, RGB, all of one size, at least one. The format takes even
            sizes only: an odd picture gets its last row or column twice.
        frame_rate: frames a second.
        sound: [S] or [S, 1] floats in [-1, 1], mono; what is beyond is cut off. None: no track.
        sample_rate: samples of sound a second, one of `SAMPLE_RATES`.

    Returns:
        The path.

    Raises:
        VideoError: frames or sound are not as above, or the file cannot be written; or the package
            av is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f"{path} does not end in .mp4; videos are written as MP4: name it so")
    if not _MIN_FRAME_RATE <= frame_rate <= _MAX_FRAME_RATE:
        raise VideoError(
            f"frame_rate={frame_rate} is not from {_MIN_FRAME_RATE:g} to {_MAX_FRAME_RATE:g}"
        )
    samples = None if sound is None else _checked_sound(sound, sample_rate)
    pictures = _checked_frames(frames)
    first = next(pictures, None)
    if first is None:
        raise VideoError(f"there are no frames to write to {path}; give at least one")
    with _Writer(path, first.shape[:2], frame_rate, samples, sample_rate) as writer:
        writer.add(first)
        for picture in pictures:
            writer.add(picture)
    return path


def _checked_sound(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """[S] float32."""
    sound = np.asarray(sound)
    mono = sound.ndim == 1 or (sound.ndim == 2 and sound.shape[1] == 1)
    if not mono or not len(sound) or sound.dtype.kind != "f" or not np.isfinite(sound).all():
        raise VideoError(
            f"sound of shape {list(sound.shape)} and type {sound.dtype} cannot be written; expected"
            " finite floats [samples] or [samples, 1], at least one"
        )
    if sample_rate not in SAMPLE_RATES:
        listed = ", ".join(map(str, SAMPLE_RATES))
        raise VideoError(f"sample_rate={sample_rate} is none of AAC's; it has {listed}")
    return np.clip(sound.reshape(-1), -1.0, 1.0).astype(np.float32)


def _checked_frames(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """[H, W, 3] uint8 of even sizes."""
    shape = None
    for i, frame in enumerate(frames):
        frame = np.asarray(frame)
        shape = frame.shape if shape is None else shape
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise VideoError(
                f"frame {i} has the shape {list(frame.shape)} and the type {frame.dtype}; expected "
                "[height, width, 3] uint8"
            )
        if frame.shape != shape:
            raise VideoError(
                f"frame {i} has the shape {list(frame.shape)}, and frame 0 {list(shape)}; all "
                "frames of a video have one size"
            )
        odd = [(0, size % 2) for size in frame.shape[:2]]
        yield np.ascontiguousarray(np.pad(frame, (*odd, (0, 0)), mode="edge"))


class _Writer:
    """Encodes frames, and sound along with them, so that neither waits in memory for the other.

    It writes under another name, which becomes the file at the end and disappears after an error.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, ...],
        frame_rate: float,
        samples: np.ndarray | None,
        sample_rate: int,
    ):
        self._av, self._path = require_av(), path
        self._temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        self._size, self._samples, self._sample_rate = size, samples, sample_rate
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._num_frames = self._num_samples = 0

    def __enter__(self) -> "_Writer":
        with self._failures_named():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._av.open(str(self._temporary), "w", format="mp4")
            self._video = self._add_video_stream()
            self._audio = None
            if self._samples is not None:
                self._audio = self._file.add_stream("aac", rate=self._sample_rate, layout="mono")
                self._audio.bit_rate = min(_MAX_BIT_RATE, _BITS_PER_SAMPLE * self._sample_rate)
        return self

    def _add_video_stream(self) -> Any:
        video = self._file.add_stream("libx264", rate=self._rate, options={"crf": _QUALITY})
        video.height, video.width = self._size
        video.pix_fmt = "yuv420p"
        # Unmarked, players would guess from the size how colours are stored.
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _FROM_16_TO_235
        return video

    def add(self, picture: np.ndarray) -> None:
        """A frame [H, W, 3] uint8, and the sound up to its end."""
        with self._failures_named():
            frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = self._num_frames, 1 / self._rate
            self._file.mux(self._video.encode(frame))
            self._num_frames += 1
            self._add_sound(int(self._num_frames / self._rate * self._sample_rate))

    def _add_sound(self, until: int) -> None:
        if self._samples is None or self._audio is None:
            return
        part = self._samples[None, self._num_samples : until]
        if not part.size:
            return
        frame = self._av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._sample_rate, self._num_samples
        frame.time_base = Fraction(1, self._sample_rate)
        self._file.mux(self._audio.encode(frame))
        self._num_samples += part.shape[1]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                with contextlib.suppress(self._av.FFmpegError):
                    self._file.close()
                return
            with self._failures_named():
                self._finish()
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Writes the rest of the sound, and what encoders have kept back."""
        if self._samples is not None:
            self._add_sound(len(self._samples))
        for stream in (self._video, self._audio):
            if stream is not None:
                self._file.mux(stream.encode(None))
        self._file.close()

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            raise VideoError(
                f"{self._path} cannot be written: {error.strerror or error}; choose another place"
            ) from error
