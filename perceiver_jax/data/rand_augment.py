"""RandAugment: a few operations, drawn at random, on a picture of bytes (arXiv:1909.13719).

- Pictures are [H, W, 3] uint8. Sizes that operations take are in pixels of the picture as it is,
  which the published recipe has not resized yet.
- What operations uncover or cut out is grey, 128.

Source: deepmind `train/autoaugment.py`.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

MAX_MAGNITUDE = 10.0
"""At which operations reach the ends of their ranges."""

GREY = 128
VALUES = np.arange(256)


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Applies operations, drawn with replacement, one after the other.

    Attributes:
        num_layers: how many.
        magnitude: of all of them, in [0, 10]. Ranges begin where their formulas do, not at the
            identity; at 5, the published magnitude, the four that blend change nothing.
    """

    num_layers: int
    magnitude: float

    def __call__(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[H, W, 3] uint8 → the same, another array or the picture itself."""
        for _ in range(self.num_layers):
            operation = OPERATIONS[rng.integers(len(OPERATIONS))]
            picture = operation(picture, self.magnitude / MAX_MAGNITUDE, rng)
        return picture


def autocontrast(picture: np.ndarray) -> np.ndarray:
    """Stretches each channel to reach from 0 to 255."""
    return _by_channel(picture, _stretch)


def equalize(picture: np.ndarray) -> np.ndarray:
    """Makes the values of each channel about equally frequent."""
    return _by_channel(picture, _flatten)


def invert(picture: np.ndarray) -> np.ndarray:
    """Turns light into dark."""
    return 255 - picture


def posterize(picture: np.ndarray, bits: int) -> np.ndarray:
    """Keeps that many of the eight bits, the highest; 0 leaves black."""
    return _look_up(picture, VALUES >> (8 - bits) << (8 - bits))


def solarize(picture: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts what is not below the threshold."""
    return _look_up(picture, np.where(VALUES < threshold, VALUES, 255 - VALUES))


def solarize_add(picture: np.ndarray, addition: int) -> np.ndarray:
    """Adds to what is below 128."""
    added = np.clip(VALUES + addition, 0, 255)
    return _look_up(picture, np.where(VALUES < 128, added, VALUES))


def color(picture: np.ndarray, factor: float) -> np.ndarray:
    """From grey (0) to the picture (1) and further."""
    # As TensorFlow does it, which counts bytes as 255.5 to the unit where it goes back to them.
    luma = np.array([[0.2989, 0.587, 0.114]], np.float32) / 255
    grey = np.floor(cv2.transform(picture.astype(np.float32), luma) * np.float32(255.5))
    return _blend(grey[:, :, None], picture, factor)


def contrast(picture: np.ndarray, factor: float) -> np.ndarray:
    """From one grey (0) to the picture (1) and further.

    The grey is a 256th of the number of pixels, at most 255: as published, where it was meant to be
    their mean.
    """
    grey = min(picture.shape[0] * picture.shape[1] // 256, 255)
    return _look_up(picture, _blend(np.full(256, grey), VALUES, factor))


def brightness(picture: np.ndarray, factor: float) -> np.ndarray:
    """From black (0) to the picture (1) and further."""
    return _look_up(picture, _blend(np.zeros(256), VALUES, factor))


def sharpness(picture: np.ndarray, factor: float) -> np.ndarray:
    """From smooth (0) to the picture (1) and further; the outermost pixels stay as they are."""
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)
    means = (cv2.filter2D(picture, cv2.CV_32F, kernel) / 13).astype(np.uint8)
    smooth = picture.copy()
    smooth[1:-1, 1:-1] = means[1:-1, 1:-1]
    return _blend(smooth, picture, factor)


def rotate(picture: np.ndarray, degrees: float) -> np.ndarray:
    """Turns about the centre, counterclockwise."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    down, right = picture.shape[0] - 1, picture.shape[1] - 1
    x = (right - (cos * right - sin * down)) / 2
    y = (down - (sin * right + cos * down)) / 2
    return _warp(picture, [[cos, -sin, x], [sin, cos, y]])


def shear_x(picture: np.ndarray, slope: float) -> np.ndarray:
    """Moves each row to the left, by so much of its distance from the uppermost."""
    return _warp(picture, [[1, slope, 0], [0, 1, 0]])


def shear_y(picture: np.ndarray, slope: float) -> np.ndarray:
    """Moves each column up, by so much of its distance from the leftmost."""
    return _warp(picture, [[1, 0, 0], [slope, 1, 0]])


def translate_x(picture: np.ndarray, pixels: float) -> np.ndarray:
    """Moves to the left."""
    return _warp(picture, [[1, 0, pixels], [0, 1, 0]])


def translate_y(picture: np.ndarray, pixels: float) -> np.ndarray:
    """Moves up."""
    return _warp(picture, [[1, 0, 0], [0, 1, pixels]])


def cutout(picture: np.ndarray, half: int, row: int, column: int) -> np.ndarray:
    """Greys what lies less than `half` pixels before, or up to that many behind, a pixel."""
    cut = picture.copy()
    rows = slice(max(0, row - half), row + half)
    cut[rows, max(0, column - half) : column + half] = GREY
    return cut


Operation = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""Of a picture and a level in [0, 1]; draws a direction or a place where it has one."""

OPERATIONS: tuple[Operation, ...] = (
    lambda picture, level, rng: autocontrast(picture),
    lambda picture, level, rng: equalize(picture),
    lambda picture, level, rng: invert(picture),
    lambda picture, level, rng: rotate(picture, _either_way(level * 30, rng)),
    lambda picture, level, rng: posterize(picture, int(level * 4)),
    lambda picture, level, rng: solarize(picture, int(level * 256)),
    lambda picture, level, rng: color(picture, level * 1.8 + 0.1),
    lambda picture, level, rng: contrast(picture, level * 1.8 + 0.1),
    lambda picture, level, rng: brightness(picture, level * 1.8 + 0.1),
    lambda picture, level, rng: sharpness(picture, level * 1.8 + 0.1),
    lambda picture, level, rng: shear_x(picture, _either_way(level * 0.3, rng)),
    lambda picture, level, rng: shear_y(picture, _either_way(level * 0.3, rng)),
    lambda picture, level, rng: translate_x(picture, _either_way(level * 100, rng)),
    lambda picture, level, rng: translate_y(picture, _either_way(level * 100, rng)),
    lambda picture, level, rng: cutout(picture, int(level * 40), *rng.integers(picture.shape[:2])),
    lambda picture, level, rng: solarize_add(picture, int(level * 110)),
)


def _either_way(size: float, rng: np.random.Generator) -> float:
    return size if rng.random() < 0.5 else -size


def _look_up(picture: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[picture]`."""
    return cv2.LUT(picture, table.astype(np.uint8))


def _by_channel(picture: np.ndarray, table: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Looks each channel up in a table made of its histogram."""
    channels = cv2.split(picture)
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in channels]
    return cv2.merge([_look_up(x, table(n)) for x, n in zip(channels, counts, strict=True)])


def _stretch(counts: np.ndarray) -> np.ndarray:
    """A table [256] that takes the least value to 0 and the greatest to 255."""
    low, high = np.flatnonzero(counts)[[0, -1]]
    if low == high:
        return VALUES
    scale = np.float32(255) / np.float32(high - low)
    return np.clip(VALUES.astype(np.float32) * scale - np.float32(low) * scale, 0, 255)


def _flatten(counts: np.ndarray) -> np.ndarray:
    """A table [256] that takes values to how many pixels are below them, in 255ths."""
    greatest = np.flatnonzero(counts)[-1]
    step = (counts.sum() - counts[greatest]) // 255
    if step == 0:
        return VALUES
    below = np.cumsum(counts) - counts
    return np.clip((below + step // 2) // step, 0, 255)


def _blend(zero: np.ndarray, one: np.ndarray, factor: float) -> np.ndarray:
    """What lies at `factor` on the way from `zero` to `one`, cut off to whole values in bytes."""
    start, mixed = zero.astype(np.float32), one.astype(np.float32)
    mixed -= start
    mixed *= factor
    mixed += start
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)


def _warp(picture: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    """Takes each pixel [x, y] from the one nearest to `matrix @ [x, y, 1]`."""
    height, width = picture.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    columns, rows = (_nearest(a * x + b * y + c) for a, b, c in np.array(matrix, np.float32))
    return cv2.remap(picture, columns, rows, cv2.INTER_NEAREST, borderValue=(GREY, GREY, GREY))


def _nearest(positions: np.ndarray) -> np.ndarray:
    """Whole numbers; halves are rounded away from zero, where OpenCV would take even ones."""
    return np.trunc(positions + np.copysign(np.float32(0.5), positions))
