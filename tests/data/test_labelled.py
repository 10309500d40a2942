"""Batches of labelled examples of any modality."""

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard
from perceiver_jax.data.labelled import labelled_batches, open_split
from tests.toy_modality import ToyData


def batches(config, *, training):
    return labelled_batches(config, training=training, seed=0, shard=Shard())


def test_training_batches_have_one_view_and_augmentation_of_their_own():
    data = batches(ToyData(batch_size=4), training=True)
    batch = data[0]
    assert batch["inputs"]["numbers"].shape == (4, 1, 5, 3)
    assert batch["input_mask"].shape == (4, 1, 5)
    assert batch["label"].dtype == np.int32
    assert "mask" not in batch
    again = batches(ToyData(batch_size=4), training=True)[0]
    np.testing.assert_array_equal(again["inputs"]["numbers"], batch["inputs"]["numbers"])
    seen = {float(x) for i in range(10) for x in data[i]["inputs"]["numbers"][:, 0, 0, 0]}
    assert len(seen) == 40, "20 examples seen twice, augmented anew"


def test_evaluation_sees_each_example_once_with_all_views():
    data = batches(ToyData(eval_batch_size=16, num_views=3), training=False)
    assert len(data) == 2
    assert data[0]["inputs"]["numbers"].shape == (16, 3, 5, 3)
    assert data[0]["input_mask"].shape == (16, 3, 5)
    np.testing.assert_array_equal(data[0]["label"], np.arange(16) % 2)
    assert data[1]["mask"].tolist() == [True] * 4 + [False] * 12


def test_labels_of_any_number_are_bools():
    batch = batches(ToyData(batch_size=4, any_number=True), training=True)[0]
    assert batch["label"].dtype == bool
    assert batch["label"].shape == (4, 2)


def test_a_split_without_examples_is_an_error():
    with pytest.raises(DatasetError, match="'test' of ToyData has no examples"):
        open_split(ToyData(num_examples=0), "test")


@pytest.mark.parametrize("field", ["batch_size", "eval_batch_size"])
def test_batches_of_nothing_are_an_error(field):
    with pytest.raises(ValueError, match=f"{field}=0 must be 1 or more"):
        ToyData(**{field: 0})
