import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, TimeSeriesDataConfig
from perceiver_jax.data.labelled import labelled_batches
from perceiver_jax.data.time_series.picture import HEIGHT, WIDTH

PLAIN = TimeSeriesDataConfig(dataset="synthetic", normalise=False, max_length=6)


def example(length, channels=2, index=0):
    """Step i has the values 1 + i, and it is at the time 100 + 2 i."""
    steps = np.arange(length)
    values = np.repeat(1.0 + steps[:, None], channels, axis=1).astype(np.float32)
    return {"values": values, "times": 100.0 + 2.0 * steps, "label": 1, "index": index}


def write_ts(folder, train, test):
    folder.mkdir(exist_ok=True)
    for split, lines in (("TRAIN", train), ("TEST", test)):
        text = "@classLabel true a b\n@data\n" + "\n".join(lines)
        (folder / f"Toy_{split}.ts").write_text(text)


def changed(**fields):
    return dataclasses.replace(PLAIN, **fields)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_short_series_are_padded_and_masked():
    made = PLAIN.prepare(example(4), None)
    np.testing.assert_array_equal(made["inputs"]["values"][:, 0], [1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(made["inputs"]["times"], [0, 2, 4, 6, 0, 0])
    np.testing.assert_array_equal(made["input_mask"], [True] * 4 + [False] * 2)
    assert made["label"] == 1
    assert {x.dtype for x in made["inputs"].values()} == {np.dtype(np.float32)}


def test_of_long_series_evaluation_takes_the_middle_and_training_any_part():
    assert PLAIN.prepare(example(10), None)["inputs"]["values"][:, 0].tolist() == [3, 4, 5, 6, 7, 8]
    firsts = set()
    for seed in range(40):
        inputs = PLAIN.prepare(example(10), rng(seed))["inputs"]
        assert np.diff(inputs["values"][:, 0]).tolist() == [1] * 5
        assert inputs["times"].tolist() == [0, 2, 4, 6, 8, 10]
        firsts.add(inputs["values"][0, 0])
    assert firsts == {1, 2, 3, 4, 5}


def test_views_are_spread_evenly_over_a_long_series():
    views = changed(num_views=3).views(example(10))
    assert [view["inputs"]["values"][0, 0] for view in views] == [1, 3, 5]
    assert len(changed(num_views=3).views(example(4))) == 3
    assert len(PLAIN.views(example(10))) == 1


def test_a_part_of_the_steps_is_kept_with_their_times():
    config = changed(keep_fraction=0.5)
    draws = {tuple(config.prepare(example(6), rng(i))["inputs"]["times"][:3]) for i in range(99)}
    assert len(draws) == 20
    made = config.prepare(example(6), rng())
    assert made["input_mask"].sum() == 3
    values, times = made["inputs"]["values"][:3, 0], made["inputs"]["times"][:3]
    np.testing.assert_array_equal(times, 2 * (values - 1))
    assert (np.diff(times) > 0).all()
    assert changed(keep_fraction=0.01).prepare(example(6), None)["input_mask"].sum() == 1


def test_in_evaluation_the_draw_is_fixed_and_another_for_each_example():
    config = changed(keep_fraction=0.5)
    draws = [config.prepare(example(6, index=i), None)["inputs"]["times"] for i in range(5)]
    again = [config.prepare(example(6, index=i), None)["inputs"]["times"] for i in range(5)]
    np.testing.assert_array_equal(draws, again)
    assert len({tuple(x) for x in draws}) > 2


def test_training_adds_noise_and_stretches_times():
    noisy = changed(value_noise=0.5, max_length=4000).prepare(example(4000), rng())
    plain = changed(max_length=4000).prepare(example(4000), rng())
    noise = noisy["inputs"]["values"] - plain["inputs"]["values"]
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    jittered = changed(time_jitter=0.3, max_length=4000).prepare(example(4000), rng())
    jitter = jittered["inputs"]["times"] - plain["inputs"]["times"]
    assert jitter.std() == pytest.approx(0.3, rel=0.05)
    lasts = [changed(time_stretch=0.2).prepare(example(6), rng(i)) for i in range(200)]
    factors = np.array([x["inputs"]["times"][5] / 10 for x in lasts])
    assert 0.8 <= factors.min() < 0.82 and 1.18 < factors.max() <= 1.2
    for config in (changed(value_noise=0.5), changed(time_jitter=0.3), changed(time_stretch=0.2)):
        inputs = config.prepare(example(6), None)["inputs"]
        for name in inputs:
            np.testing.assert_array_equal(
                inputs[name], PLAIN.prepare(example(6), None)["inputs"][name]
            )


def test_a_new_series_has_no_label():
    new = {name: x for name, x in example(4).items() if name in ("values", "times")}
    for made in (PLAIN.prepare(new, None), *changed(num_views=2).views(new)):
        assert made.keys() == {"inputs", "input_mask"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": 0}, "the example has no 'values', but 'label'; expected .steps, channels."),
        ({"values": np.ones((4, 2))}, "has no 'times', but 'values'; expected .steps. numbers"),
        (np.ones((4, 2)), "the example is a ndarray; expected a dict with 'values'"),
        (example(4) | {"times": np.arange(3)}, r"has shape \(4, 2\) and 'times' \(3,\); expected"),
        (example(4) | {"values": np.ones((2, 4))}, r"shape \(2, 4\) and 'times' \(4,\); expected"),
        (example(4) | {"values": np.ones(4)}, r"shape \(4,\) and 'times' \(4,\); expected"),
        (example(0), r"shape \(0, 2\) and 'times' \(0,\); expected .* one step at least"),
        (example(4) | {"times": [0, 1, np.nan, 3]}, "'times' has one that is not finite"),
    ],
)
def test_a_series_of_another_form_is_an_error(wrong, message):
    for prepare in (lambda: PLAIN.prepare(wrong, None), lambda: changed(num_views=2).views(wrong)):
        with pytest.raises(DatasetError, match=message):
            prepare()


def test_missing_values_stay_missing():
    one = example(4)
    one["values"][2, 1] = np.nan
    made = changed(value_noise=0.1).prepare(one, rng())
    np.testing.assert_array_equal(np.argwhere(np.isnan(made["inputs"]["values"])), [[2, 1]])


def test_channels_are_normalised_by_the_training_split(tmp_path):
    write_ts(tmp_path, ["1,3:5,5:7,?:a", "5:5:?:b"], ["3,4:6,5:7,9:a"])
    config = TimeSeriesDataConfig(dataset="ts", data_dir=str(tmp_path), max_length=2)
    (one,) = config.open("test")
    values = config.prepare(one, None)["inputs"]["values"]
    deviation = np.std([1, 3, 5])
    # What is constant in training is left as it is, but for its mean.
    want = [[0, 1, 0], [1 / deviation, 0, 2]]
    np.testing.assert_allclose(values, want, atol=1e-6)


def test_splits_of_other_channels_are_told(tmp_path):
    write_ts(tmp_path, ["1,3:a"], ["3,4:6,5:a"])
    config = TimeSeriesDataConfig(dataset="ts", data_dir=str(tmp_path), max_length=2)
    with pytest.raises(DatasetError, match="has 2 channels, but those of split 'train' have 1"):
        config.views(config.open("test")[0])


def test_files_sorted_by_class_are_mixed(tmp_path):
    write_ts(tmp_path, [*["1:a"] * 20, *["2:b"] * 20], ["1:a"])
    config = TimeSeriesDataConfig(dataset="ts", data_dir=str(tmp_path))
    labels = [x["label"] for x in config.open("train")]
    assert sorted(labels) == [0] * 20 + [1] * 20 and 5 <= sum(labels[:20]) <= 15
    assert [x["label"] for x in config.open("train")] == labels
    assert [x["index"] for x in config.open("train")] == list(range(40))


def test_batches_have_one_shape_whatever_the_lengths():
    config = dataclasses.replace(
        PLAIN, max_length=20, normalise=True, batch_size=8, eval_batch_size=30, num_views=2
    )
    for training in (True, False):
        batch = labelled_batches(config, training=training, seed=0, shard=Shard())[0]
        size, views = (8, 1) if training else (30, 2)
        assert batch["inputs"]["values"].shape == (size, views, 20, 2)
        assert batch["inputs"]["times"].shape == batch["input_mask"].shape == (size, views, 20)
        assert batch["label"].shape == (size,)
        real = batch["inputs"]["values"][batch["input_mask"]]
        assert np.isnan(real).any() and np.abs(np.nanmean(real)) < 0.3


def test_a_csv_folder_is_a_dataset(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "a.csv").write_text("when,x\n3,1\n7,2\n")
    config = TimeSeriesDataConfig(dataset="csv", data_dir=str(tmp_path), time_column="when")
    (one,) = config.open("test")
    assert config.prepare(one, None)["inputs"]["times"][:2].tolist() == [0, 4]


def test_synthetic_series_are_seeded_and_of_all_classes():
    train, test = PLAIN.open("train"), PLAIN.open("test")
    assert {x["label"] for x in train} == {x["label"] for x in test} == {0, 1, 2, 3}
    assert not np.array_equal(train[0]["times"], test[0]["times"])
    np.testing.assert_array_equal(train[3]["values"], PLAIN.open("train")[3]["values"])
    assert len({len(x["times"]) for x in train}) > 5
    with pytest.raises(DatasetError, match="no split 'val'; it has train, test"):
        PLAIN.open("val")


def test_a_folder_has_to_be_named():
    for dataset in ("ts", "csv"):
        with pytest.raises(DatasetError, match=f"'{dataset}' is a folder; name it with --config"):
            TimeSeriesDataConfig(dataset=dataset).open("train")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"max_length": 0}, "max_length=0 must be 1 or more"),
        ({"keep_fraction": 0.0}, "keep_fraction=0.0 is not above 0 and at most 1"),
        ({"keep_fraction": 1.5}, "keep_fraction=1.5"),
        ({"time_jitter": -1.0}, "time_jitter=-1.0 must be finite and 0 or more"),
        ({"value_noise": float("nan")}, "value_noise=nan"),
        ({"time_stretch": 1.0}, r"time_stretch=1.0 is not in \[0, 1\)"),
        ({"num_views": 0}, "num_views=0 is too small"),
        ({"dataset": "other"}, "dataset='other' is none of"),
    ],
)
def test_configs_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        changed(**fields)


def test_a_picture_shows_every_channel_and_leaves_gaps():
    one = example(6, channels=3)
    full = PLAIN.picture(PLAIN.prepare(one, None)["inputs"])
    assert full.shape == (HEIGHT, WIDTH, 3) and full.dtype == np.uint8
    assert len(np.unique(full.reshape(-1, 3), axis=0)) > 2
    one["values"][:, 1] += 10
    one["values"][2:4, 1] = np.nan
    gaps = PLAIN.picture(PLAIN.prepare(one, None)["inputs"])
    middle = gaps[: HEIGHT // 3, 2 * WIDTH // 5 : 3 * WIDTH // 5]
    assert (middle == 255).all()


def test_a_picture_of_nothing_is_white():
    nothing = {"values": np.full((4, 2), np.nan), "times": np.zeros(4)}
    assert (PLAIN.picture(nothing) == 255).all()
    flat = {"values": np.ones((1, 2)), "times": np.zeros(1)}
    assert (PLAIN.picture(flat) < 255).any()
