import numpy as np
import pytest

from perceiver_jax.data.point_clouds import augmentation


def rng():
    return np.random.default_rng(0)


def test_training_draws_other_points_every_time_and_none_twice():
    points = np.arange(60.0).reshape(20, 3)
    first, second = (augmentation.choose(points, 8, g) for g in (rng(), np.random.default_rng(1)))
    for chosen in (first, second):
        assert len({*map(tuple, chosen)} & {*map(tuple, points)}) == 8
    assert not np.array_equal(first, second)


def test_evaluation_takes_points_in_order_each_view_its_own():
    points = np.arange(30.0).reshape(10, 3)
    np.testing.assert_array_equal(augmentation.choose(points, 4, None), points[:4])
    np.testing.assert_array_equal(augmentation.choose(points, 4, None, 1), points[4:8])
    np.testing.assert_array_equal(augmentation.choose(points, 4, None, 2), points[[8, 9, 0, 1]])


@pytest.mark.parametrize("generator", [None, rng()])
def test_of_few_points_all_are_taken_and_some_again(generator):
    points = np.arange(15.0).reshape(5, 3)
    chosen = augmentation.choose(points, 12, generator)
    assert chosen.shape == (12, 3) and {*map(tuple, chosen)} == {*map(tuple, points)}


def test_padding_comes_behind_the_points_and_is_masked():
    points, mask = augmentation.padded(np.ones((3, 6), np.float32), 5)
    np.testing.assert_array_equal(points[:, 0], [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(mask, [True, True, True, False, False])


def test_a_normalised_cloud_is_centred_and_touches_the_cube():
    cloud = rng().normal(size=(100, 3)).astype(np.float32) * [1, 5, 2] + [1000, -3, 0]
    found = augmentation.normalized(cloud.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    assert np.abs(found).max() == 1.0 == np.abs(found[:, 1]).max()
    # One factor for all axes: the shape stays as it is.
    np.testing.assert_allclose(
        np.ptp(found, axis=0) / np.ptp(found[:, 1]),
        np.ptp(cloud, axis=0) / np.ptp(cloud[:, 1]),
        rtol=1e-4,
    )


def test_coordinates_of_maps_are_centred_in_their_own_precision():
    near = rng().normal(size=(100, 3))
    far = augmentation.normalized_rows(np.concatenate([near + [512_345, 5_403_210, 0], near], 1))
    assert far.dtype == np.float32
    np.testing.assert_allclose(far[:, :3], augmentation.normalized(near), atol=1e-6)
    np.testing.assert_array_equal(far[:, 3:], near.astype(np.float32))


def test_a_cloud_of_one_place_stays_finite():
    np.testing.assert_array_equal(augmentation.normalized(np.ones((4, 3), np.float32)), 0)


@pytest.mark.parametrize(
    ("axis", "point", "wanted"),
    [("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_a_quarter_turn_is_right_handed_and_takes_normals_along(axis, point, wanted):
    rows = np.array([[*point, *point]], np.float32)
    found = augmentation.turned(rows, augmentation.rotation_about(axis, np.pi / 2))
    np.testing.assert_allclose(found, [[*wanted, *wanted]], atol=1e-6)


def test_normals_of_a_stretched_plane_stay_normal_to_it():
    normal = np.array([1, 2, 3]) / 14**0.5
    along = np.linalg.svd(normal[None])[2][1:]
    coordinates = rng().normal(size=(9, 2)) @ along
    rows = np.concatenate([coordinates, np.broadcast_to(normal, (9, 3))], axis=1)
    found = augmentation.stretched(rows.astype(np.float32), np.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(found[:, :3], coordinates * [0.5, 1.0, 2.0], atol=1e-6)
    np.testing.assert_allclose((found[:, :3] * found[:, 3:]).sum(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, 3:], axis=1), 1, atol=1e-6)
