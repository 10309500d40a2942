"""Choosing, moving and normalising the points of a cloud, in NumPy."""

from typing import Literal

import numpy as np

Axis = Literal["x", "y", "z"]


def choose(
    points: np.ndarray, num_points: int, rng: np.random.Generator | None, view: int = 0
) -> np.ndarray:
    """Some points of a cloud; where there are fewer, all of them, and some of them again.

    Args:
        points: [n, c].
        num_points: how many.
        rng: draws them; None: they are taken in order.
        view: without `rng`, which run of so many points, from 0; behind the last comes the first.

    Returns:
        [num_points, c].
    """
    count = len(points)
    if rng is None:
        return points[np.arange(view * num_points, (view + 1) * num_points) % count]
    if count >= num_points:
        return points[rng.choice(count, num_points, replace=False)]
    again = rng.integers(count, size=num_points - count)
    return points[np.concatenate([rng.permutation(count), again])]


def padded(points: np.ndarray, num_points: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, c] → [num_points, c], zeros behind the points, and the mask [num_points] of these."""
    missing = num_points - len(points)
    return np.pad(points, ((0, missing), (0, 0))), np.arange(num_points) < len(points)


def normalized(coordinates: np.ndarray) -> np.ndarray:
    """[n, 3] → the same with mean zero, in the cube from -1 to 1 and up to one of its faces.

    Source: Perceiver §4.3, zero mean and unit cube.
    """
    dtype = np.result_type(coordinates, np.float32)
    centred = coordinates - coordinates.mean(axis=0, dtype=np.float64).astype(dtype)
    largest = np.abs(centred).max()
    return centred / largest if largest > 0.0 else centred


def normalized_rows(rows: np.ndarray) -> np.ndarray:
    """[n, 3 or 6] → float32: coordinates normalised in their own precision, normals as they are."""
    return np.concatenate([normalized(rows[:, :3]), rows[:, 3:]], axis=1, dtype=np.float32)


def turned(rows: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Points, and normals behind them, turned by a rotation matrix [3, 3]: [n, 3 or 6]."""
    parts = rows.reshape(len(rows), -1, 3)
    return (parts @ rotation.T.astype(np.float32)).reshape(rows.shape)


def stretched(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Points times the factor [3] of each axis; normals stay normal to the surface: [n, 3 or 6]."""
    coordinates, normals = rows[:, :3] * factors, rows[:, 3:]
    if normals.size:
        normals = normals / factors
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = normals / np.maximum(lengths, 1e-12)
    return np.concatenate([coordinates, normals], axis=1).astype(np.float32)


def rotation_about(axis: Axis, angle: float) -> np.ndarray:
    """[3, 3] matrix of a right-handed turn by an angle in radians."""
    matrix = np.eye(3)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix
