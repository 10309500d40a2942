"""What clips are cut out of: videos with a label, by index."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from perceiver_jax.data.video.config import VideoDataConfig
from perceiver_jax.data.video.reading import Clip, read_clip, read_length


class Video(Protocol):
    """Something that clips can be cut out of."""

    def span(self) -> tuple[float, float]:
        """Its beginning and end in seconds."""
        ...

    def clip(self, config: VideoDataConfig, start_s: float, crop: tuple[float, float]) -> Clip:
        """A clip of the config's length, rates and size, see `reading.read_clip`."""
        ...


class VideoSource(Protocol):
    """Videos by index."""

    class_names: tuple[str, ...]
    """one per class, in the order of the labels; empty where there are no classes"""

    def __len__(self) -> int:
        """Number of videos."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """`{"video": Video, "label": int}`; nothing is read yet."""
        ...


@dataclasses.dataclass(frozen=True)
class VideoFile:
    """A video file, or a part of one.

    Attributes:
        path: of the file.
        part: its beginning and end in seconds; None: all of the file.
    """

    path: Path
    part: tuple[float, float] | None = None

    def span(self) -> tuple[float, float]:
        """See `Video`.

        Raises:
            VideoError: the file cannot be read.
        """
        return self.part or (0.0, read_length(self.path))

    def clip(self, config: VideoDataConfig, start_s: float, crop: tuple[float, float]) -> Clip:
        """See `Video`.

        Raises:
            EndsBeforeClip: the file ends before the clip does.
            VideoError: it cannot be read.
        """
        return read_clip(
            self.path,
            start_s=start_s,
            num_frames=config.num_frames,
            frame_rate=config.frame_rate,
            image_size=config.image_size,
            num_samples=config.num_samples,
            sample_rate=config.sample_rate,
            crop=crop,
        )
