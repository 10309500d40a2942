import numpy as np
import pytest

from perceiver_jax.config import ConfigError, from_dict, to_dict
from perceiver_jax.data import DatasetError, PointCloudDataConfig
from perceiver_jax.data.labelled import labelled_batches
from perceiver_jax.data.pipeline import Shard
from tests.data.point_clouds.conftest import off_file

FIELDS = {"dataset": "synthetic", "num_points": 16, "num_stored_points": 64}


def make(**fields):
    return PointCloudDataConfig(**(FIELDS | fields))


def example(count=64, columns=6, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(3, 2, (count, 6)).astype(np.float32)
    rows[:, 3:] /= np.linalg.norm(rows[:, 3:], axis=1, keepdims=True)
    return {"points": rows[:, :columns], "label": 3}


def rng(seed=0):
    return np.random.default_rng(seed)


def check_normalised(coordinates):
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-5)
    assert np.isclose(np.abs(coordinates).max(), 1.0)


@pytest.mark.parametrize("generator", [None, rng()])
@pytest.mark.parametrize("normals", [False, True])
def test_a_ready_cloud_is_normalised_and_has_normals_if_asked(normals, generator):
    config = make(normals=normals, max_rotation=180.0, max_stretch=0.3, jitter=0.02)
    ready = config.prepare(example(), generator)
    assert ready.keys() == {"inputs", "label"} and ready["label"] == 3
    assert ready["inputs"].shape == (16, 6 if normals else 3)
    assert ready["inputs"].dtype == np.float32
    check_normalised(ready["inputs"][:, :3])
    if normals:
        np.testing.assert_allclose(np.linalg.norm(ready["inputs"][:, 3:], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_a_new_cloud_has_no_label(padded):
    new = {"points": example()["points"]}
    for made in (make(padded=padded).prepare(new, None), *make(padded=padded).views(new)):
        assert made.keys() == ({"inputs", "input_mask"} if padded else {"inputs"})


@pytest.mark.parametrize(
    ("normals", "wrong", "message"),
    [
        (False, {"cloud": 1}, "no 'points', but 'cloud'; expected .points, 3 or more. numbers"),
        (False, {"points": np.ones(3)}, r"'points' has shape \(3,\); expected .points, 3 or more."),
        (False, {"points": np.ones((0, 3))}, r"'points' has shape \(0, 3\); expected"),
        (False, {"points": np.ones((9, 2))}, r"'points' has shape \(9, 2\); expected"),
        (True, {"points": np.ones((9, 3))}, r"'points' has shape \(9, 3\); expected .points, 6."),
    ],
)
def test_a_cloud_of_another_form_is_an_error(normals, wrong, message):
    with pytest.raises(DatasetError, match=message):
        make(normals=normals).prepare(wrong, None)


def test_training_scales_each_point_by_a_number_of_its_own():
    cloud = example(16)
    still = make(num_points=16, point_scale=0.0).prepare(cloud, rng())["inputs"]
    scaled = make(num_points=16, point_scale=0.01).prepare(cloud, rng())["inputs"]
    # The second normalisation moves all points alike, by much less.
    ratios = np.linalg.norm(scaled, axis=1) / np.linalg.norm(still, axis=1)
    assert 0.004 < np.ptp(ratios) < 0.04
    assert np.abs(np.cross(scaled, still)).max() < 0.02


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_training_turns_clouds_about_the_axis_that_is_up(axis):
    options = {"point_scale": 0.0, "up_axis": axis, "normals": True}
    cloud = example(16)
    still = make(**options).prepare(cloud, rng())["inputs"]
    turned = make(**options, max_rotation=180.0).prepare(cloud, rng())["inputs"]
    up = "xyz".index(axis)
    scale = turned[0, up] / still[0, up]
    np.testing.assert_allclose(turned[:, up], scale * still[:, up], atol=1e-5)
    np.testing.assert_allclose(turned[:, 3 + up], still[:, 3 + up], atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(turned[:, :3], axis=1),
        scale * np.linalg.norm(still[:, :3], axis=1),
        atol=1e-5,
    )
    assert np.abs(turned - still).max() > 0.1


def test_a_small_turn_stays_small():
    options = {"point_scale": 0.0, "normals": True}
    still = make(**options).prepare(example(16), rng())["inputs"]
    for seed in range(20):
        config = make(**options, max_rotation=10.0)
        turned = config.prepare(example(16), rng(seed))["inputs"]
        angles = np.arctan2(turned[:, 4], turned[:, 3])
        # Points are drawn in another order with every seed.
        order = np.argsort(turned[:, 5]), np.argsort(still[:, 5])
        difference = angles[order[0]] - np.arctan2(still[:, 4], still[:, 3])[order[1]]
        difference = (difference + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(difference).max() < np.deg2rad(10.0) + 1e-4


def test_stretching_and_jitter_change_the_shape():
    still = make(point_scale=0.0).prepare(example(16), rng())["inputs"]
    stretched = make(point_scale=0.0, max_stretch=0.3).prepare(example(16), rng())["inputs"]
    factors = stretched / still
    np.testing.assert_allclose(factors, np.broadcast_to(factors[0], factors.shape), rtol=1e-3)
    assert np.ptp(factors[0]) > 0.05
    moved = make(point_scale=0.0, jitter=0.01).prepare(example(16), rng())["inputs"] - still
    assert 0.003 < moved.std() < 0.03 and np.abs(moved).max() < 0.15


def test_views_are_of_other_points_of_the_cloud():
    config = make(num_views=3)
    views = [view["inputs"] for view in config.views(example())]
    assert [view.shape for view in views] == [(16, 3)] * 3
    assert np.abs(views[0] - views[1]).max() > 0.1 and np.abs(views[1] - views[2]).max() > 0.1
    np.testing.assert_array_equal(views[0], config.prepare(example(), None)["inputs"])


@pytest.mark.parametrize("generator", [None, rng()])
def test_small_clouds_are_padded_and_masked_where_that_is_asked_for(generator):
    config = make(padded=True)
    ready = config.prepare(example(5), generator)
    assert ready["inputs"].shape == (16, 3) and ready["input_mask"].sum() == 5
    check_normalised(ready["inputs"][:5])
    assert not ready["inputs"][5:].any() and ready["input_mask"][:5].all()
    assert config.prepare(example(40), generator)["input_mask"].all()
    repeated = make().prepare(example(5), generator)
    assert "input_mask" not in repeated and len({*map(tuple, repeated["inputs"])}) <= 16


def test_batches_of_files_are_what_a_task_takes(write, tmp_path):
    for split, number in (("train", 1), ("train", 2), ("test", 3)):
        for name in ("chair", "lamp"):
            write(f"net/{name}/{split}/{name}_{number:04}.off", off_file())
    config = make(
        dataset="modelnet40",
        data_dir=str(tmp_path / "net"),
        cache_dir=str(tmp_path / "cache"),
        batch_size=4,
        eval_batch_size=4,
        num_views=2,
    )
    options = {"seed": 0, "shard": Shard()}
    batch = labelled_batches(config, training=True, **options)[0]
    assert batch["inputs"].shape == (4, 1, 16, 3) and sorted(batch["label"]) == [0, 0, 1, 1]
    held_out = labelled_batches(config, training=False, **options)
    assert len(held_out) == 1 and held_out[0]["inputs"].shape == (4, 2, 16, 3)
    assert held_out[0]["mask"].tolist() == [True, True, False, False]
    assert len([*(tmp_path / "cache" / "point_clouds").rglob("*.npy")]) == 6


def test_shapes_have_as_many_examples_as_asked_for():
    config = make(num_train_shapes=30, num_eval_shapes=20)
    assert [len(config.open(split)) for split in ("train", "test")] == [30, 20]
    assert config.open("train")[0]["points"].shape == (64, 6)


def test_a_picture_shows_near_points_before_far_ones():
    config = make()
    empty = config.picture(np.full((1, 3), 50.0))
    assert empty.shape == (160, 160, 3) and empty.dtype == np.uint8 and (empty == 255).all()
    # The eye is in front (negative y), on the right and above.
    towards = np.array([0.52, -0.74, 0.42])
    middle = config.picture(np.array([towards, -towards]))[80, 80].astype(int)
    assert middle[0] > middle[2]
    behind = config.picture(np.array([[0.8, 0.57, 0.0], -towards]))[80, 80].astype(int)
    assert behind[2] > behind[0]


def test_up_is_up_in_a_picture():
    drawn = (make().picture(np.array([[0, 0, 0.9, 1, 0, 0]])) < 255).any(axis=-1)
    rows = np.flatnonzero(drawn.any(axis=1))
    assert rows.max() < 60


def test_a_config_survives_its_dict():
    config = make(dataset="folders", data_dir="there", normals=True, up_axis="y")
    assert from_dict(PointCloudDataConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "modelnet"}, "dataset='modelnet' is not valid; it takes 'modelnet40'"),
        ({"num_points": 1}, "num_points=1 is too small"),
        ({"num_points": 65}, "num_stored_points=64 are too few .* raise it to 65"),
        ({"num_views": 5}, "num_stored_points=64 are too few .* raise it to 80"),
        ({"num_views": 0}, "num_views=0 is too small"),
        ({"point_scale": 1.0}, r"point_scale=1.0 is not in \[0, 1\)"),
        ({"max_stretch": -0.1}, "max_stretch=-0.1 is not in"),
        ({"jitter": float("nan")}, "jitter=nan is not in"),
        ({"max_rotation": 181.0}, "max_rotation=181.0 is not in"),
        ({"up_axis": "w"}, "up_axis='w' is not valid"),
        ({"num_train_shapes": 0}, "num_train_shapes=0 is too small"),
        ({"num_eval_shapes": 0}, "num_eval_shapes=0 is too small"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(PointCloudDataConfig, FIELDS | fields)
