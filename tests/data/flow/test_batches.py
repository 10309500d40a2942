"""Batches of pairs."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, pipeline
from perceiver_jax.data.flow import FlowDataConfig, flow_batches, open_split, photos, write_flow

CONFIG = FlowDataConfig(
    dataset="synthetic",
    textures="noise",
    image_size=(24, 32),
    max_flow=6.0,
    num_layers=2,
    batch_size=4,
    eval_batch_size=4,
    num_eval_examples=6,
    max_scale=0.5,
    random_flip=True,
    brightness=0.2,
)


def batches(config=CONFIG, training=True, seed=0, shard=Shard()):  # noqa: B008
    return flow_batches(config, training=training, seed=seed, shard=shard)


@pytest.fixture
def kitti(make_picture, tmp_path):
    """Two pairs of 20×30 pixels to train on, and three held out, as a config."""
    rng = np.random.default_rng(0)
    for i in (0, 1, 160, 161, 162):
        for j in (10, 11):
            make_picture(f"training/image_2/{i:06}_{j}.png", seed=i + j)
        flow = np.full((20, 30, 2), (i + 1, -2), np.float32)
        write_flow(tmp_path / f"training/flow_occ/{i:06}_10.png", flow, rng.random((20, 30)) < 0.4)
    return FlowDataConfig(
        dataset="kitti2015",
        data_dir=str(tmp_path),
        image_size=(16, 20),
        batch_size=2,
        eval_batch_size=2,
    )


@pytest.mark.parametrize("training", [True, False])
def test_batches_are_as_documented(training):
    batch = batches(training=training)[0]
    shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
    want = {
        "frames": ((4, 2, 24, 32, 3), "float32"),
        "flow": ((4, 24, 32, 2), "float32"),
        "valid": ((4, 24, 32), "bool"),
    }
    assert shapes == (want if training else want | {"mask": ((4,), "bool")})
    assert -1.0 <= batch["frames"].min() < -0.5 and 0.5 < batch["frames"].max() <= 1.0


def test_evaluation_is_the_held_out_pairs_once_and_in_order():
    held_out = open_split(CONFIG, "val")
    ready = batches(training=False)
    assert len(ready) == 2
    np.testing.assert_array_equal(ready[1]["mask"], [True, True, False, False])
    for i in range(6):
        row = {name: array[i % 4] for name, array in ready[i // 4].items()}
        frames = held_out[i]["frames"].astype(np.float64)
        np.testing.assert_allclose(row["frames"], frames / 127.5 - 1, atol=1e-6)
        np.testing.assert_array_equal(row["flow"], held_out[i]["flow"])


def test_training_is_a_function_of_the_seed_and_the_position():
    first, again, other = batches(), batches(), batches(seed=1)
    for position in (0, 1000, 10**6):
        for name, array in first[position].items():
            np.testing.assert_array_equal(array, again[position][name])
        assert (first[position]["frames"] != other[position]["frames"]).any()


def test_processes_share_a_batch():
    whole = batches()[3]
    parts = [batches(shard=Shard(i, 2))[3] for i in range(2)]
    for name, array in whole.items():
        joined = np.stack([part[name] for part in parts], axis=1).reshape(array.shape)
        np.testing.assert_array_equal(array, joined)


def test_batches_are_read_ahead():
    iterator = pipeline.iterate(batches())
    try:
        np.testing.assert_array_equal(next(iterator)["flow"], batches()[0]["flow"])
    finally:
        iterator.close()


def test_training_and_held_out_pairs_differ():
    train, held_out = open_split(CONFIG, "train"), open_split(CONFIG, "val")
    assert len(held_out) == 6 < len(train)
    # Motions, too, not the textures alone.
    assert (train[0]["flow"] != held_out[0]["flow"]).any()
    with pytest.raises(DatasetError, match="no split is called 'test'; there are train, val"):
        open_split(CONFIG, "test")


def test_held_out_pairs_show_no_photo_of_the_training_split(toy_wheel, tmp_path):
    photos.prepare(toy_wheel, str(tmp_path))
    config = dataclasses.replace(CONFIG, textures="photos", data_dir=str(tmp_path))
    splits = {split: open_split(config, split) for split in ("train", "val")}
    shown = {
        split: {texture.tobytes() for texture in source._textures}
        for split, source in splits.items()
    }
    assert shown["train"] and shown["val"] and not shown["train"] & shown["val"]


def test_a_split_that_does_not_end_is_not_evaluated_on():
    config = dataclasses.replace(CONFIG, eval_split="train")
    with pytest.raises(DatasetError, match="split 'train' does not end; evaluate on eval_split"):
        batches(config, training=False)


def test_the_motorcycle_is_evaluated_on(toy_wheel, tmp_path, disparity):
    photos.prepare(toy_wheel, str(tmp_path))
    config = FlowDataConfig(
        dataset="middlebury", data_dir=str(tmp_path), image_size=(20, 30), eval_batch_size=2
    )
    batch = batches(config, training=False)[0]
    np.testing.assert_array_equal(batch["mask"], [True, False])
    np.testing.assert_array_equal(batch["valid"][0], np.isfinite(disparity))


@pytest.mark.parametrize("scale", [0.0, 0.6])
def test_a_folder_is_trained_on_where_its_flow_is_known(kitti, scale):
    config = dataclasses.replace(kitti, max_scale=scale, random_flip=True)
    ready, lengths = batches(config), set()
    for i in range(20):
        batch = ready[i]
        assert 0.2 < batch["valid"].mean() < 0.6
        assert not batch["flow"][~batch["valid"]].any()
        for flow, valid in zip(batch["flow"], batch["valid"], strict=True):
            known = np.unique(flow[valid].round(4), axis=0)
            assert len(known) == 1  # nothing is mixed with the 0 of what is not known
            lengths.add(abs(float(known[0, 1])))
    assert (lengths == {2.0}) == (scale == 0.0)


def test_the_centre_of_a_folder_s_frames_is_evaluated_on(kitti):
    ready = batches(kitti, training=False)
    source = open_split(kitti, "val")
    assert [bool(x) for batch in ready for x in batch["mask"]] == [True, True, True, False]
    np.testing.assert_array_equal(ready[0]["valid"][1], source[1]["valid"][2:18, 5:25])
    np.testing.assert_allclose(
        ready[0]["frames"][1], source[1]["frames"][:, 2:18, 5:25] / 127.5 - 1, atol=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
def test_frames_that_are_too_small_are_refused_before_the_work_starts(kitti, training):
    config = dataclasses.replace(kitti, image_size=(16, 32))
    with pytest.raises(DatasetError, match="frames of 20×30 pixels are smaller than crops of 16×3"):
        batches(config, training=training)


def test_a_folder_must_be_named():
    config = FlowDataConfig(dataset="sintel")
    with pytest.raises(DatasetError, match="'sintel' is a folder .* name it in --config.data.data"):
        batches(config)


def test_a_split_is_opened_once():
    assert open_split(CONFIG, "train") is open_split(dataclasses.replace(CONFIG), "train")
