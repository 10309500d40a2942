import numpy as np
import pytest

from perceiver_jax.data.point_clouds import draw_points


def rng():
    return np.random.default_rng(0)


def test_points_lie_on_triangles_in_proportion_to_their_area():
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]], float)
    points, normals = draw_points(vertices, np.array([[0, 1, 2], [3, 5, 4]]), 20_000, rng())
    assert points.shape == normals.shape == (20_000, 3)
    assert points.dtype == normals.dtype == np.float64
    low = points[:, 2] < 2.5
    assert abs(low.mean() - 0.75) < 0.01
    np.testing.assert_array_equal(normals, np.where(low[:, None], [[0, 0, 1]], [[0, 0, -1]]))
    np.testing.assert_allclose(points[:, 2], np.where(low, 0, 5), atol=1e-6)
    x, y = points[low, 0] / 3, points[low, 1]
    assert min(x.min(), y.min()) >= 0 and (x + y).max() <= 1 + 1e-6


def test_points_are_spread_evenly_over_a_triangle():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    points, _ = draw_points(vertices, np.array([[0, 1, 2]]), 40_000, rng())
    np.testing.assert_allclose(points.mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.005)
    # A quarter of the area is nearer to each corner than halfway along its sides.
    for corner in (points[:, 0] > 0.5, points[:, 1] > 0.5, points[:, :2].sum(1) < 0.5):
        assert abs(corner.mean() - 0.25) < 0.01


def test_triangles_without_area_are_never_drawn():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]], float)
    faces = np.array([[3, 3, 3], [0, 1, 2], [3, 3, 0]])
    points, normals = draw_points(vertices, faces, 1000, rng())
    assert points.max() <= 1.0 and np.isfinite(normals).all()


def test_a_surface_without_area_is_refused():
    with pytest.raises(ValueError, match="an area of 0"):
        draw_points(np.ones((3, 3)), np.array([[0, 1, 2]]), 4, rng())
