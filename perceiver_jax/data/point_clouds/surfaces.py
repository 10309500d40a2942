"""Points drawn over the surface of a triangle mesh, in proportion to the area of triangles."""

import numpy as np


def draw_points(
    vertices: np.ndarray, faces: np.ndarray, num_points: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points with a uniform distribution over the surface, independent of each other.

    Args:
        vertices: [v, 3] floats.
        faces: [f, 3] integers: which vertices a triangle has.
        num_points: how many.
        rng: draws them.

    Returns:
        Points and the unit normals of their triangles, both [num_points, 3] float64; where the
        normals point to is given by the order of a triangle's vertices.

    Raises:
        ValueError: the triangles have no area.
    """
    first, second, third = np.moveaxis(np.asarray(vertices, np.float64)[faces], 1, 0)
    cross = np.cross(second - first, third - first)
    lengths = np.linalg.norm(cross, axis=1)
    total = lengths.sum()
    if not 0.0 < total < np.inf:
        raise ValueError(f"its triangles have an area of {total / 2:g}")
    ends = np.cumsum(lengths)
    chosen = np.searchsorted(ends, rng.uniform(0.0, ends[-1], num_points), side="right")
    # The last draw may round up to the end itself.
    chosen = np.minimum(chosen, np.flatnonzero(lengths)[-1])
    root, along = np.sqrt(rng.random((num_points, 1))), rng.random((num_points, 1))
    points = (
        (1.0 - root) * first[chosen]
        + root * (1.0 - along) * second[chosen]
        + root * along * third[chosen]
    )
    return points, cross[chosen] / lengths[chosen, None]
