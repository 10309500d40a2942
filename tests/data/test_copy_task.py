"""The copy task: rows and their mirror images, endless in training and fixed in evaluation."""

import contextlib
import dataclasses

import numpy as np
import pytest

from perceiver_jax import config as configs
from perceiver_jax.data import Shard, pipeline
from perceiver_jax.data.causal_rows import causal_row
from perceiver_jax.data.copy_task import CopyTaskConfig, copy_batches
from perceiver_jax.data.marked_bytes import EOS_ID, PAD_ID, SOS_ID, VOCAB_SIZE
from perceiver_jax.errors import UserError

ALONE = Shard()
SMALL = CopyTaskConfig(seq_len=12, batch_size=4, eval_batch_size=4, num_eval=6)


def batches(config=SMALL, *, training=True, seed=0, shard=ALONE):
    return copy_batches(config, training=training, seed=seed, shard=shard)


def whole(batch):
    """Rows with the tokens that are only predicted."""
    return np.concatenate([batch["ids"][:, :1], batch["targets"]], axis=1)


@pytest.mark.parametrize("training", [True, False])
def test_a_row_is_random_bytes_and_their_mirror_image_between_markers(training):
    batch = batches(training=training)[0]
    rows = whole(batch)
    assert rows.shape == (4, 12)
    assert (rows[:, 0] == SOS_ID).all() and (rows[:, -1] == EOS_ID).all()
    np.testing.assert_array_equal(rows[:, 1:6], rows[:, 10:5:-1])
    np.testing.assert_array_equal(batch["ids"][:, 1:], batch["targets"][:, :-1])
    assert batch["input_mask"].all()
    assert ("mask" in batch) == (not training)
    assert batch["ids"].dtype == batch["targets"].dtype == np.int32


def test_only_the_mirror_image_is_predicted():
    batch = batches()[0]
    np.testing.assert_array_equal(whole(batch)[:, 6:11], batch["targets"][:, 5:10])
    assert batch["predicted"].tolist() == [[False] * 5 + [True] * 5 + [False]] * 4


def test_bytes_are_all_256():
    config = CopyTaskConfig(seq_len=20_002, batch_size=2)
    values = batches(config)[0]["ids"][:, 1:]
    assert set(values.flat) == set(range(3, VOCAB_SIZE)) and VOCAB_SIZE == 259


def test_training_is_endless_and_decided_by_seed_and_position():
    dataset, again = batches(), batches()
    for i in (0, 5, 10**9):
        np.testing.assert_array_equal(dataset[i]["ids"], again[i]["ids"])
    rows = {tuple(row) for i in range(20) for row in dataset[i]["ids"]}
    rows |= {tuple(row) for i in range(20) for row in batches(seed=1)[i]["ids"]}
    rows |= {tuple(row) for i in range(2) for row in batches(training=False)[i]["ids"][:2]}
    assert len(rows) == 80 + 80 + 4


def test_held_out_rows_are_the_same_for_every_seed():
    dataset, other = (batches(training=False, seed=seed) for seed in (0, 1))
    assert len(dataset) == 2
    assert dataset[1]["mask"].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(dataset[1]["ids"], other[1]["ids"])


def test_processes_share_a_batch():
    parts = [batches(shard=Shard(i, 2))[3]["ids"] for i in (0, 1)]
    assert parts[0].shape == parts[1].shape == (2, 11)
    assert len({tuple(row) for part in parts for row in part}) == 4
    with pytest.raises(UserError, match="a batch of 4 cannot be divided over 3 processes"):
        batches(shard=Shard(0, 3))


@pytest.mark.parametrize("training", [True, False])
def test_rows_are_those_of_any_causal_model(training):
    config = dataclasses.replace(SMALL, random_min_seq_len=6)
    batch, tokens = batches(config, training=training)[2 if training else 0], []
    for i, mask in enumerate(batch["input_mask"]):
        tokens.append(np.append(batch["ids"][i, mask], batch["targets"][i, -1]))
        predicted = batch["predicted"][i, mask]
        row = causal_row(tokens[i], length=11, pad_id=PAD_ID, predicted=predicted)
        assert all(np.array_equal(row[name], batch[name][i]) for name in row)
        assert all(row[name].dtype == batch[name].dtype for name in row)


def test_an_iterator_resumes_with_the_same_batches():
    config = CopyTaskConfig(seq_len=12, batch_size=4, random_min_seq_len=6)
    with contextlib.closing(pipeline.iterate(batches(config))) as iterator:
        next(iterator)
        position = iterator.get_state()
        expected = next(iterator)
    with contextlib.closing(pipeline.iterate(batches(config))) as resumed:
        resumed.set_state(position)
        for name, values in next(resumed).items():
            np.testing.assert_array_equal(values, expected[name])


def test_beginnings_of_rows_stand_at_the_end():
    config = CopyTaskConfig(seq_len=12, batch_size=4, random_min_seq_len=6)
    lengths = set()
    for i in range(30):
        batch, rows = batches(config)[i], batches()[i]
        for ids, mask, predicted, row in zip(
            batch["ids"], batch["input_mask"], batch["predicted"], rows["ids"], strict=True
        ):
            length = int(mask.sum())
            lengths.add(length)
            np.testing.assert_array_equal(ids[11 - length :], row[:length])
            assert (ids[~mask] == PAD_ID).all() and not predicted[~mask].any()
            assert predicted.sum() == min(length - 5, 5)
    assert lengths == set(range(6, 12))
    assert batches(config, training=False)[0]["input_mask"].all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seq_len": 31}, "seq_len=31 must be an even number of 4 or more"),
        ({"seq_len": 2}, "seq_len=2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_eval": 0}, "num_eval=0 must be 1"),
        ({"random_min_seq_len": 15}, "random_min_seq_len=15 is not from 16, .* to 31"),
        ({"random_min_seq_len": 32}, "random_min_seq_len=32"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        CopyTaskConfig(**fields)


def test_a_config_goes_through_a_dict_and_back():
    tree = configs.to_dict(SMALL)
    assert configs.from_dict(CopyTaskConfig, tree) == SMALL
    assert configs.from_dict(CopyTaskConfig, configs.to_config_dict(SMALL)) == SMALL
