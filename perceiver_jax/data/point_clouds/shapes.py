"""Solids and surfaces made by formula, as triangle meshes with random proportions.

- All are up to two units large and stand along z. Triangles are small, so that a mesh can be bent.
"""

from collections.abc import Callable

import numpy as np

Surface = tuple[np.ndarray, np.ndarray]
"""Vertices [v, 3] and triangles [f, 3]."""

_AROUND, _ALONG = 24, 16
"""Pieces around a circle, and along a line."""


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles of a grid of rows × columns vertices."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, below, across = corner + 1, corner + columns, corner + columns + 1
    return np.concatenate(
        [np.stack([corner, right, below], axis=1), np.stack([right, across, below], axis=1)]
    )


def _revolved(profile: np.ndarray) -> Surface:
    """A polyline [k, 2] of radius and height, turned about z."""
    steps = np.linspace(0.0, len(profile) - 1.0, 2 * _ALONG + 1)
    radius, height = (np.interp(steps, np.arange(len(profile)), x) for x in profile.T)
    angles = np.linspace(0.0, 2.0 * np.pi, _AROUND + 1)
    vertices = np.stack(
        [
            radius[:, None] * np.cos(angles),
            radius[:, None] * np.sin(angles),
            np.broadcast_to(height[:, None], (len(radius), len(angles))),
        ],
        axis=-1,
    )
    return vertices.reshape(-1, 3), _grid_faces(len(radius), len(angles))


def _arc(start: float, end: float, radius: float = 1.0, height: float = 0.0) -> np.ndarray:
    """[k, 2] points of a profile on a circle about (0, height); angles from straight below."""
    angles = np.linspace(start, end, _ALONG)
    return np.stack([radius * np.sin(angles), height - radius * np.cos(angles)], axis=1)


def _swept(curve: np.ndarray, radius: float) -> Surface:
    """A circle moved along a curve [k, 3]."""
    tangents = np.gradient(curve, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    # Any direction that is not along the curve does: circles need not keep from turning.
    sides = np.cross(tangents, np.array([0.31, 0.17, 0.94]))
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    ups = np.cross(tangents, sides)
    angles = np.linspace(0.0, 2.0 * np.pi, _AROUND // 2 + 1)[:, None]
    circles = np.cos(angles) * sides[:, None] + np.sin(angles) * ups[:, None]
    vertices = curve[:, None] + radius * circles
    return vertices.reshape(-1, 3), _grid_faces(len(curve), len(angles))


def _divided(corners: np.ndarray, faces: np.ndarray, times: int = 3) -> Surface:
    """Every triangle as 4**times smaller ones."""
    triangles = corners[faces]
    for _ in range(times):
        middles = (triangles + np.roll(triangles, -1, axis=1)) / 2.0
        a, b, c = np.moveaxis(triangles, 1, 0)
        ab, bc, ca = np.moveaxis(middles, 1, 0)
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        triangles = np.concatenate([np.stack(part, axis=1) for part in parts])
    return triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3)


def _bicone(rng: np.random.Generator) -> Surface:
    return _revolved(np.array([[0.0, -1.0], [rng.uniform(0.5, 1.0), 0.0], [0.0, 1.0]]))


def _bowl(rng: np.random.Generator) -> Surface:
    return _revolved(_arc(0.0, rng.uniform(0.4, 0.6) * np.pi))


def _box(rng: np.random.Generator) -> Surface:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    faces = [[0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7], [0, 4, 1], [1, 4, 5], [2, 3, 6], [3, 7, 6]]
    faces += [[0, 2, 4], [2, 6, 4], [1, 5, 3], [3, 5, 7]]
    return _divided(corners * rng.uniform(0.5, 1.0, 3), np.array(faces))


def _capsule(rng: np.random.Generator) -> Surface:
    half, radius = rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.6)
    lower = _arc(0.0, np.pi / 2, radius, -half)
    return _revolved(np.concatenate([lower, _arc(np.pi / 2, np.pi, radius, half)]))


def _cone(rng: np.random.Generator) -> Surface:
    radius = rng.uniform(0.5, 1.0)
    return _revolved(np.array([[0.0, -1.0], [radius, -1.0], [0.0, 1.0]]))


def _cylinder(rng: np.random.Generator) -> Surface:
    radius = rng.uniform(0.4, 1.0)
    return _revolved(np.array([[0.0, -1.0], [radius, -1.0], [radius, 1.0], [0.0, 1.0]]))


def _helix(rng: np.random.Generator) -> Surface:
    angles = np.linspace(0.0, 2.0 * np.pi * rng.uniform(2.0, 4.0), 4 * _ALONG)
    radius = rng.uniform(0.4, 0.8)
    height = np.linspace(-1.0, 1.0, len(angles))
    curve = np.stack([radius * np.cos(angles), radius * np.sin(angles), height], axis=1)
    return _swept(curve, rng.uniform(0.06, 0.14))


def _pyramid(rng: np.random.Generator) -> Surface:
    base = [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [0, 0, 1]]
    faces = [[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]
    side = rng.uniform(0.5, 1.0)
    return _divided(np.array(base, float) * [side, side, 1.0], np.array(faces))


def _sphere(rng: np.random.Generator) -> Surface:
    vertices, faces = _revolved(_arc(0.0, np.pi))
    return vertices * rng.uniform(0.6, 1.0, 3), faces


def _torus(rng: np.random.Generator) -> Surface:
    small = rng.uniform(0.15, 0.4)
    angles = np.linspace(0.0, 2.0 * np.pi, 2 * _ALONG + 1)
    profile = np.stack([1.0 - small + small * np.cos(angles), small * np.sin(angles)], axis=1)
    return _revolved(profile)


def _trefoil(rng: np.random.Generator) -> Surface:
    t = np.linspace(0.0, 2.0 * np.pi, 5 * _ALONG)
    curve = np.stack(
        [np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], axis=1
    )
    return _swept(curve / 3.0, rng.uniform(0.06, 0.14))


def _tube(rng: np.random.Generator) -> Surface:
    radius = rng.uniform(0.4, 1.0)
    return _revolved(np.array([[radius, -1.0], [radius, 1.0]]))


SHAPES: dict[str, Callable[[np.random.Generator], Surface]] = {
    "bicone": _bicone,
    "bowl": _bowl,
    "box": _box,
    "capsule": _capsule,
    "cone": _cone,
    "cylinder": _cylinder,
    "helix": _helix,
    "pyramid": _pyramid,
    "sphere": _sphere,
    "torus": _torus,
    "trefoil": _trefoil,
    "tube": _tube,
}
"""Classes by name; all but bowl and tube are closed, and helix is but for its ends."""


def deformed(vertices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[v, 3] → the same stretched, tapered, twisted and bent a little along z."""
    x, y, z = (vertices * rng.uniform(0.8, 1.25, 3)).T
    taper, angle = 1.0 + rng.uniform(-0.2, 0.2) * z, rng.uniform(-0.4, 0.4) * z
    x, y = x * taper, y * taper
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return np.stack([x + rng.uniform(-0.3, 0.3) * z**2, y, z], axis=1)
