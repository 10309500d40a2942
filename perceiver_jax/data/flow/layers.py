"""Layers of synthetic pairs: a part of a photo, its outline, and how it moves.

- Both frames are read out of the photo itself, once each, so that neither is sharper for it.
- Outlines are smooth at the scale of a pixel: `alpha` is the part of a pixel that a layer covers.
"""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np

from perceiver_jax.data.flow.motion import Motion, Rectangle

cv2.setNumThreads(0)

_SUBPIXEL_BITS = 4
_LINEAR = cv2.INTER_LINEAR


class Outline(NamedTuple):
    """What a layer covers of the first frame.

    Attributes:
        extent: the pixels that it lies in, which may be beyond the frame's.
        alpha: [extent.height, extent.width] float32 in [0, 1].
    """

    extent: Rectangle
    alpha: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layer:
    """What is seen at each pixel of the first frame where no other layer is above it.

    Attributes:
        texture: [h, w, 3] uint8, mirrored beyond its border.
        view: [2, 3], from pixels of the first frame to pixels of the texture.
        motion: from the first frame to the second.
        outline: of what it covers; None: everything, as a background does.
    """

    texture: np.ndarray
    view: np.ndarray
    motion: Motion
    outline: Outline | None

    def paint_first(self, frame: np.ndarray, flow: np.ndarray) -> None:
        """Onto a frame [H, W, 3] uint8 and its flow [H, W, 2] float32, in place."""
        whole = Rectangle(0, 0, frame.shape[1], frame.shape[0])
        if self.outline is None:
            frame[...] = self._colors(*np.meshgrid(*whole.axes()))
            flow[...] = self.motion.displacement(whole)
            return
        region = self.outline.extent.intersection(whole)
        if region.empty:
            return
        alpha = self.outline.alpha[region.within(self.outline.extent)]
        _blend(frame[region.within(whole)], self._colors(*np.meshgrid(*region.axes())), alpha)
        covered = alpha >= 0.5
        flow[region.within(whole)][covered] = self.motion.displacement(region)[covered]

    def paint_second(self, frame: np.ndarray) -> None:
        """Onto the second frame [H, W, 3] uint8, in place."""
        whole = Rectangle(0, 0, frame.shape[1], frame.shape[0])
        if self.outline is None:
            frame[...] = self._colors(*self.motion.inverse(whole))
            return
        extent, alpha = self.outline
        region = _moved(extent, self.motion).intersection(whole)
        if region.empty:
            return
        x, y = self.motion.inverse(region)
        left, top = np.float32(extent.left), np.float32(extent.top)
        alpha = cv2.remap(
            alpha, x - left, y - top, _LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        _blend(frame[region.within(whole)], self._colors(x, y), alpha)

    def _colors(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """At points of the first frame."""
        (xx, xy, x0), (yx, yy, y0) = self.view.astype(np.float32)
        return cv2.remap(
            self.texture,
            xx * x + xy * y + x0,
            yx * x + yy * y + y0,
            _LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )


def _blend(frame: np.ndarray, colors: np.ndarray, alpha: np.ndarray) -> None:
    """Puts colours onto a frame, in place."""
    frame[...] = cv2.blendLinear(colors, np.ascontiguousarray(frame), alpha, 1 - alpha)


def _moved(extent: Rectangle, motion: Motion) -> Rectangle:
    """A rectangle around where an extent goes: its border goes to the border of that."""
    left, top, width, height = extent
    across, down = np.arange(width), np.arange(height)
    border = [
        *((left + across, np.full(width, y)) for y in (top, top + height - 1)),
        *((np.full(height, x), top + down) for x in (left, left + width - 1)),
    ]
    points = np.concatenate([np.stack(side, axis=-1) for side in border]).astype(np.float64)
    moved = motion.forward(points)
    low, high = np.floor(moved.min(0)).astype(int) - 1, np.ceil(moved.max(0)).astype(int) + 2
    return Rectangle(int(low[0]), int(low[1]), *(int(size) for size in high - low))


def random_outline(frame_size: tuple[int, int], rng: np.random.Generator) -> Outline:
    """A closed shape whose middle is in the frame.

    Polygons, ellipses, blobs and bars, some with a hole.

    Args:
        frame_size: height and width.
        rng: draws it.
    """
    height, width = frame_size
    centre = rng.uniform((0, 0), (width, height))
    radius = min(frame_size) * np.exp(rng.uniform(np.log(0.07), np.log(0.5)))
    contour = radius * _unit_contour(rng)
    contours = [contour, 0.5 * contour] if rng.random() < 0.15 else [contour]
    low = np.floor(contour.min(0) + centre).astype(int) - 2
    size = np.ceil(contour.max(0) + centre).astype(int) + 3 - low
    mask = np.zeros((size[1], size[0]), np.uint8)
    fixed = [np.round((c + centre - low) * 2**_SUBPIXEL_BITS).astype(np.int32) for c in contours]
    cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    extent = Rectangle(int(low[0]), int(low[1]), int(size[0]), int(size[1]))
    return Outline(extent, mask.astype(np.float32) / 255)


def _unit_contour(rng: np.random.Generator) -> np.ndarray:
    """A contour [n, 2] around (0, 0) that reaches about 1 from it, turned and flattened."""
    kind = rng.integers(4)
    if kind == 0:
        corners = rng.integers(3, 11)
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = rng.uniform(0.4, 1.0, corners)
    elif kind == 1:
        angles = (np.arange(4) + 0.5) * np.pi / 2
        radii = np.ones(4)
    else:
        angles = np.arange(72) * 2 * np.pi / 72
        waves = np.arange(2, 6)
        heights = rng.uniform(0, 0.15, 4) * (kind == 3)
        radii = 1 + np.sin(angles[:, None] * waves + rng.uniform(0, 2 * np.pi, 4)) @ heights
    points = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    flat = np.exp(rng.uniform(np.log(0.1 if kind == 1 else 0.4), 0.0))
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    return points * (1.0, flat) @ np.array([[cos, sin], [-sin, cos]])
