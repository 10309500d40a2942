"""Pictures of clouds: every point a small ball, near ones warm and far ones cold."""

import numpy as np

_FAR, _MIDDLE, _NEAR = (
    np.array(c, np.float32) for c in ((38, 70, 140), (60, 165, 160), (250, 200, 80))
)
_LIGHT = np.array([-0.4, 0.6, 0.7], np.float32)
"""Where light comes from: right, up, towards the eye."""


def draw_cloud(coordinates: np.ndarray, *, size: int = 160) -> np.ndarray:
    """A view from the front, a little from the right and from above; z is up.

    Args:
        coordinates: [n, 3] in [-1, 1].
        size: side of the picture in pixels.

    Returns:
        [size, size, 3] uint8, on white.
    """
    seen = coordinates.astype(np.float32) @ _view().T
    # Corners of the cube are √3 away, but few clouds come near them: they are cut off.
    scale = size / 2.0 / 1.5
    # Over a closed surface, so many balls nearly touch.
    ball = 1.5 / np.sqrt(max(len(coordinates), 200))
    radius = max(1, round(ball * scale))
    offsets, shades, bulge = _ball(radius)
    centres = np.round(size / 2.0 + seen[:, :2] * [scale, -scale]).astype(int)
    pixels = centres[:, None] + offsets
    depth = seen[:, 2:] + bulge * ball
    colours = _colour(seen[:, 2])[:, None] * shades[None, :, None]
    inside = ((pixels >= 0) & (pixels < size)).all(axis=-1)
    # What is nearest is painted last.
    order = np.argsort(depth[inside], kind="stable")
    x, y = pixels[inside][order].T
    picture = np.full((size, size, 3), 255, np.uint8)
    picture[y, x] = np.clip(colours[inside][order], 0, 255).astype(np.uint8)
    return picture


def _view() -> np.ndarray:
    """[3, 3] matrix to (right, up, towards the eye)."""
    turn, tilt = np.deg2rad(35.0), np.deg2rad(25.0)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    eye = np.array([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    return np.stack([right, np.cross(eye, right), eye]).astype(np.float32)


def _ball(radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a ball [k, 2], how light they are [k], how far they stand out [k], 1 at most."""
    steps = np.arange(-radius, radius + 1)
    x, y = (grid.ravel() for grid in np.meshgrid(steps, steps))
    inside = x**2 + y**2 <= radius**2 + 0.5
    x, y = x[inside], y[inside]
    bulge = np.sqrt(np.maximum(0.0, 1.0 - (x**2 + y**2) / (radius + 0.5) ** 2))
    normals = np.stack([x / (radius + 0.5), -y / (radius + 0.5), bulge], axis=1)
    light = np.maximum(0.0, normals @ (_LIGHT / np.linalg.norm(_LIGHT)))
    return np.stack([x, y], axis=1), (0.45 + 0.6 * light).astype(np.float32), bulge


def _colour(depth: np.ndarray) -> np.ndarray:
    """[n] → [n, 3], by where a depth lies between the least and the greatest."""
    low, high = depth.min(), depth.max()
    place = (depth - low) / max(high - low, 1e-6)
    parts = [
        np.interp(place, [0.0, 0.5, 1.0], [far, middle, near])
        for far, middle, near in zip(_FAR, _MIDDLE, _NEAR, strict=True)
    ]
    return np.stack(parts, axis=1)
