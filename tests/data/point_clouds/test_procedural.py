import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.point_clouds import meshes
from perceiver_jax.data.point_clouds.procedural import ProceduralClouds
from perceiver_jax.data.point_clouds.shapes import SHAPES, deformed
from perceiver_jax.data.point_clouds.surfaces import draw_points

OPEN = {"bowl", "tube", "helix"}


def rng(seed=0):
    return np.random.default_rng(seed)


def open_clouds(split="train", **fields):
    return ProceduralClouds(split, num_examples=24, num_points=64, **({"meshes": False} | fields))


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_up_to_two_units_large_and_has_a_surface(name):
    vertices, faces = SHAPES[name](rng())
    assert np.isfinite(vertices).all() and 0.5 < np.abs(vertices).max() < 1.2
    assert faces.min() >= 0 and faces.max() < len(vertices) and len(faces) < 5000
    points, normals = draw_points(vertices, faces, 4000, rng())
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    # Over a closed surface normals cancel out, as many point one way as the other.
    assert name in OPEN or np.abs(normals.mean(axis=0)).max() < 0.06


@pytest.mark.parametrize("name", SHAPES)
def test_proportions_of_a_shape_are_random(name):
    first, second = (np.ptp(deformed(SHAPES[name](rng(s))[0], rng(s)), axis=0) for s in (0, 1))
    assert np.abs(first - second).max() > 0.05


def test_a_sphere_is_an_ellipsoid_and_a_torus_has_a_hole():
    vertices, _ = SHAPES["sphere"](rng())
    half = np.ptp(vertices, axis=0) / 2
    np.testing.assert_allclose(((vertices / half) ** 2).sum(axis=1), 1, atol=0.02)
    vertices, _ = SHAPES["torus"](rng())
    radius = np.linalg.norm(vertices[:, :2], axis=1)
    small = (radius.max() - radius.min()) / 2
    np.testing.assert_allclose(
        np.hypot(radius - (radius.max() - small), vertices[:, 2]), small, atol=0.02
    )
    assert radius.min() > 0.1


def test_examples_are_the_same_at_every_reading_and_differ_from_each_other():
    train, again, test = open_clouds(), open_clouds(), open_clouds("test")
    assert len(train) == 24 and train.class_names == tuple(SHAPES)
    assert [train[i]["label"] for i in range(13)] == [*range(12), 0]
    for index in (0, 5, 12):
        np.testing.assert_array_equal(train[index]["points"], again[index]["points"])
        assert np.abs(train[index]["points"] - test[index]["points"]).max() > 0.1
    assert train[0]["points"].shape == (64, 6) and train[0]["points"].dtype == np.float32
    assert np.abs(train[0]["points"] - train[12]["points"]).max() > 0.1


def test_real_meshes_are_classes_of_their_own(toy_wheel, tmp_path):
    with pytest.raises(DatasetError, match="'airplane' is not at"):
        open_clouds(meshes=True, data_dir=str(tmp_path))
    meshes.prepare(toy_wheel, str(tmp_path))
    clouds = open_clouds(meshes=True, data_dir=str(tmp_path))
    assert clouds.class_names == (*SHAPES, "airplane", "ant", "nut")
    assert clouds[12]["label"] == 12
    # The toys are tetrahedra of three sizes, and all clouds are about as large.
    sizes = [np.abs(clouds[i]["points"][:, :3]).max() for i in (12, 13, 14)]
    assert 0.5 < min(sizes) and max(sizes) < 2


def test_another_split_is_refused():
    with pytest.raises(DatasetError, match="'val'; there are train, test"):
        open_clouds("val")
