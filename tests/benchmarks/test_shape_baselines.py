"""What the baselines of shapes see."""

import numpy as np
import pytest

from benchmarks.shape_baselines import clouds_and_labels, distance_features, voxel_features
from perceiver_jax.data import PointCloudDataConfig


@pytest.fixture
def cloud():
    return np.random.default_rng(0).uniform(-1, 1, (200, 3)) * [1.0, 0.6, 0.2]


def test_distances_do_not_change_with_pose_and_size(cloud):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    want = distance_features(cloud)
    np.testing.assert_allclose(distance_features(0.5 * cloud @ rotation.T + 3), want, atol=3e-3)
    assert want[:-3].sum() == pytest.approx(1, abs=0.01)
    # Of a uniform box, extents are as its sides.
    np.testing.assert_allclose(want[-3:], [1, 0.6, 0.2], atol=0.06)
    assert np.abs(distance_features(cloud * [1, 1, 5]) - want).max() > 0.1


def test_voxels_tell_where_points_are():
    found = voxel_features(np.array([[-1.0, -1, -1], [1, 1, 1], [0.9, 0.9, 0.9], [-1, -1, 1]]))
    assert found.shape == (512,)
    assert (found[0], found[7], found[-1]) == (0.25, 0.25, 0.5)


def test_clouds_are_those_of_the_config():
    data = PointCloudDataConfig(
        dataset="synthetic", num_points=8, num_stored_points=8, num_eval_shapes=13
    )
    clouds, labels = clouds_and_labels(data, "test")
    assert clouds.shape == (13, 8, 3) and labels.tolist() == [*range(12), 0]
    np.testing.assert_allclose(np.abs(clouds).max(axis=(1, 2)), 1)
