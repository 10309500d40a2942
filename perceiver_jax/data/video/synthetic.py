"""Moving shapes that are heard: seeded videos without files, for smoke runs and tests.

- The label is the shape. It moves on an orbit of its own over noise, and a tone follows it: the
  higher on the screen, the higher the pitch, four octaves from the lower edge to the upper one.
- Pictures are wider than high by a third, so that crops have something to cut.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.video.config import VideoDataConfig
from perceiver_jax.data.video.reading import Clip

SHAPES = ("circle", "cross", "square", "triangle")
LOWEST_HZ, OCTAVES = 110.0, 4.0
SECONDS = 10.0
_ASPECT = 4 / 3
_RADIUS, _LOUDNESS = 0.25, 0.5
_REACH = np.array([[0.25, 0.2]])
"""Of orbits, down and to the right: whatever is cut, the most of the shape is left."""


class SyntheticVideos:
    """Videos of one shape each.

    Args:
        num_videos: how many there are.
        num_classes: how many of the shapes, at most four.
        seed: videos of different seeds differ.
    """

    def __init__(self, *, num_videos: int, num_classes: int, seed: int = 0):
        self._num_videos, self._seed = num_videos, seed
        self.class_names: tuple[str, ...] = SHAPES[:num_classes]

    def __len__(self) -> int:
        return self._num_videos

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self._seed, index))
        label = int(rng.integers(len(self.class_names)))
        return {"video": SyntheticVideo(SHAPES[label], int(rng.integers(2**31))), "label": label}


@dataclasses.dataclass(frozen=True)
class SyntheticVideo:
    """One of `SHAPES` on an orbit that a seed decides."""

    shape: str
    seed: int

    def span(self) -> tuple[float, float]:
        """See `videos.Video`."""
        return 0.0, SECONDS

    def place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the shape is at times in seconds: down and to the right, each in [0, 1]."""
        turns, phases = np.random.default_rng((self.seed, 0)).random((2, 2))
        angles = 2 * np.pi * ((0.3 + 0.7 * turns) * times[:, None] + phases)
        down, right = np.moveaxis(0.5 + _REACH * np.sin(angles), -1, 0)
        return down, right

    def clip(self, config: VideoDataConfig, start_s: float, crop: tuple[float, float]) -> Clip:
        """See `videos.Video`."""
        times = start_s + np.arange(config.num_frames) / config.frame_rate
        frames = self._frames(times, *config.image_size, crop[1])
        sound = self._sound(start_s, config.num_samples, config.sample_rate)
        return Clip(frames, sound, True)

    def _frames(self, times: np.ndarray, height: int, width: int, where: float) -> np.ndarray:
        """[T, height, width, 3] uint8, out of pictures that are wider."""
        rng = np.random.default_rng((self.seed, 1))
        whole = round(width * _ASPECT)
        background = rng.integers(0, 64, (height, whole, 3), np.uint8)
        color = rng.integers(128, 256, 3, np.uint8)
        rows, columns = np.mgrid[0:height, 0:whole] + 0.5
        down, right = (x[:, None, None] for x in self.place(times))
        x = (columns[None] - right * whole) / (_RADIUS * height)
        y = (rows[None] - down * height) / (_RADIUS * height)
        frames = np.where(
            _inside(self.shape, x, y)[..., None], color[None, None, None], background[None]
        )
        left = round(where * (whole - width))
        return frames[:, :, left : left + width]

    def _sound(self, start_s: float, num_samples: int, sample_rate: int) -> np.ndarray:
        """[S, 1] float32 of the pitch that belongs to the place."""
        down, _ = self.place(start_s + np.arange(num_samples) / sample_rate)
        pitch = LOWEST_HZ * 2 ** (OCTAVES * (1 - down))
        tone = _LOUDNESS * np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)
        return tone.astype(np.float32)[:, None]


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are in a shape about the origin, of a size of 1."""
    if shape == "circle":
        return x**2 + y**2 <= 1
    if shape == "cross":
        thin, long = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        return (thin <= 0.3) & (long <= 1)
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) <= 0.85
    return (y <= 0.8) & (np.abs(x) <= (y + 1) / 1.8)
