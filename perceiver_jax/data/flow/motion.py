"""Smooth motion of a plane, in closed form, and its inverse.

- A point p goes to p + A (p - c) + t + sum_j a_j sin(k_j · p + f_j): affine, and a few waves.
- What it adds to a point is linear in A, t and a, so that a motion is made smaller by one factor.
- Waves are so flat beside the affine part that no two points meet: the inverse is the limit of a
  fixed-point iteration, which a step under `TOLERANCE` ends.
- Points are (x, y) in pixels; those of a rectangle are its pixels' centres, whole numbers.
"""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np

cv2.setNumThreads(0)

TOLERANCE = 1e-3
"""Of the inverse, in pixels."""
_STRIDE = 8
_MAX_STEPS = 50


class Rectangle(NamedTuple):
    """Pixels from (left, top), `width` × `height` of them."""

    left: int
    top: int
    width: int
    height: int

    def intersection(self, other: "Rectangle") -> "Rectangle":
        """What both have, of no width or height where that is nothing."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + self.width, other.left + other.width)
        bottom = min(self.top + self.height, other.top + other.height)
        return Rectangle(left, top, max(0, right - left), max(0, bottom - top))

    @property
    def empty(self) -> bool:
        """Whether there is no pixel in it."""
        return not self.width or not self.height

    def within(self, outer: "Rectangle") -> tuple[slice, slice]:
        """The rows and columns of it in an array of `outer`'s pixels."""
        left, top = self.left - outer.left, self.top - outer.top
        return slice(top, top + self.height), slice(left, left + self.width)

    def axes(self, stride: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Its pixels' x [W] and y [H], or those of every so many up to beyond its end, float32."""
        more = stride - 1
        x = self.left + np.arange(0, self.width + more, stride, dtype=np.float32)
        y = self.top + np.arange(0, self.height + more, stride, dtype=np.float32)
        return x, y


@dataclasses.dataclass(frozen=True)
class Motion:
    """See the module.

    Attributes:
        centre: [2], c.
        linear: [2, 2], A.
        shift: [2], t, pixels.
        heights: [J, 2], a, pixels.
        frequencies: [J, 2], k, radians per pixel.
        phases: [J], f, radians.
    """

    centre: np.ndarray
    linear: np.ndarray
    shift: np.ndarray
    heights: np.ndarray
    frequencies: np.ndarray
    phases: np.ndarray

    def scaled(self, factor: float) -> "Motion":
        """The motion that adds `factor` times as much to every point."""
        return dataclasses.replace(
            self,
            linear=self.linear * factor,
            shift=self.shift * factor,
            heights=self.heights * factor,
        )

    def displacement(self, rectangle: Rectangle) -> np.ndarray:
        """What is added to each pixel of a rectangle, [H, W, 2] float32."""
        x, y = rectangle.axes()
        dx, dy = self._added(x[None, :], y[:, None])
        return np.dstack([dx, dy])

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Where points [n, 2] go."""
        x, y = points.astype(np.float32).T
        return points + np.stack(self._added(x, y), axis=-1)

    def inverse(self, rectangle: Rectangle) -> tuple[np.ndarray, np.ndarray]:
        """The points that go to the pixels of a rectangle: x and y, [H, W] float32 each.

        Raises:
            ArithmeticError: waves are too steep for there to be one such point each.
        """
        coarse = np.meshgrid(*rectangle.axes(_STRIDE))
        starts = self._solve(*coarse, *coarse)
        x, y = np.meshgrid(*rectangle.axes())
        # What is smooth, and hence interpolated, is how far they moved.
        moved = (_refined(b - a, rectangle) for a, b in zip(coarse, starts, strict=True))
        return self._solve(x, y, *(a + b for a, b in zip((x, y), moved, strict=True)))

    def _added(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (xx, xy), (yx, yy) = self.linear.astype(np.float32)
        from_x, from_y = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        wave_x, wave_y = self._waves(x, y)
        wave_x += xx * from_x + xy * from_y + np.float32(self.shift[0])
        wave_y += yx * from_x + yy * from_y + np.float32(self.shift[1])
        return wave_x, wave_y

    def _waves(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = np.broadcast_shapes(x.shape, y.shape)
        sums = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for height, (kx, ky), phase in zip(
            self.heights.astype(np.float32),
            self.frequencies.astype(np.float32),
            self.phases.astype(np.float32),
            strict=True,
        ):
            wave = np.sin((kx * x + phase) + ky * y)
            for total, size in zip(sums, height, strict=True):
                total += size * wave
        return sums

    def _solve(
        self, x: np.ndarray, y: np.ndarray, at_x: np.ndarray, at_y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The points that go to (x, y), from a guess on."""
        undo = np.linalg.inv(np.eye(2) + self.linear)
        (xx, xy), (yx, yy) = undo.astype(np.float32)
        # Without waves, p = U (y - c - t) + c, and each wave takes U times its height off.
        cx, cy = self.centre - undo @ (self.centre + self.shift)
        base_x = xx * x + xy * y + np.float32(cx)
        base_y = yx * x + yy * y + np.float32(cy)
        bent = dataclasses.replace(self, heights=self.heights @ undo.T)
        for _ in range(_MAX_STEPS):
            wave_x, wave_y = bent._waves(at_x, at_y)
            new_x, new_y = base_x - wave_x, base_y - wave_y
            step = max(np.abs(new_x - at_x).max(), np.abs(new_y - at_y).max())
            at_x, at_y = new_x, new_y
            if step < TOLERANCE:
                return at_x, at_y
        raise ArithmeticError(f"no inverse of {self}: after {_MAX_STEPS} steps {step:.3} px away")


def _refined(coarse: np.ndarray, rectangle: Rectangle) -> np.ndarray:
    """Values of each `_STRIDE`th pixel for all pixels, interpolated linearly."""
    matrix = np.array([[1 / _STRIDE, 0, 0], [0, 1 / _STRIDE, 0]])
    return cv2.warpAffine(
        coarse,
        matrix,
        (rectangle.width, rectangle.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def random_motion(centre: np.ndarray, max_shift: float, rng: np.random.Generator) -> Motion:
    """A motion of whose invertibility one may be sure; small ones are more frequent.

    Args:
        centre: [2], about which it turns and scales.
        max_shift: of the centre, by waves apart, in pixels.
        rng: draws it.
    """
    # Cubes: most layers of real films hardly turn or scale.
    angle, growth, shear = rng.uniform(-1, 1, 3) ** 3 * (0.25, 0.15, 0.05)
    cos, sin = (1 + growth) * np.cos(angle), (1 + growth) * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]]) - np.eye(2)
    direction, length = rng.uniform(0, 2 * np.pi), max_shift * rng.random() ** 2
    num_waves = 3
    wave_directions, phases, wave_angles = rng.uniform(0, 2 * np.pi, (3, num_waves))
    frequencies = 2 * np.pi / np.exp(rng.uniform(np.log(100), np.log(600), num_waves))
    # The sum of heights times frequencies bounds how much waves stretch: 0.2 at most, while the
    # affine part shrinks nothing to less than 0.8.
    steepness = 0.2 * rng.random() ** 2 * rng.dirichlet(np.ones(num_waves))
    return Motion(
        centre=np.asarray(centre, float),
        linear=linear,
        shift=length * _unit(direction),
        heights=(steepness / frequencies)[:, None] * _unit(wave_directions),
        frequencies=frequencies[:, None] * _unit(wave_angles),
        phases=phases,
    )


def _unit(angle: np.ndarray | float) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
