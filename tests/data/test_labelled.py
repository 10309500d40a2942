"""Batches of labelled examples of any modality."""

import contextlib
import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, pipeline
from perceiver_jax.data.labelled import labelled_batches, open_split
from perceiver_jax.errors import UserError
from tests.toy_modality import ToyData, ToySource


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stumbling(ToyData):
    """Prepares all examples but one as `ToyData` does."""

    fault: BaseException | str

    def prepare(self, example, rng):
        made = super().prepare(example, rng)
        if example["number"] != 7:
            return made
        if isinstance(self.fault, BaseException):
            raise self.fault
        return made | {"short": {"input_mask": np.ones(4, bool)}, "wrong": {"label": 2}}[self.fault]

    def open(self, split):
        class Numbered(ToySource):
            def __getitem__(self, index):
                return {**super().__getitem__(index), "number": index}

        return Numbered(self.num_examples)


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


def test_a_split_without_classes_is_an_error(monkeypatch):
    monkeypatch.setattr(ToySource, "class_names", ())
    with pytest.raises(DatasetError, match="has no classes: class_names of its source, ToySource"):
        open_split(ToyData(data_dir="unnamed"), "test")


def test_a_source_that_is_none_says_who_gave_it(monkeypatch):
    monkeypatch.setattr(ToyData, "open", lambda self, split: None)
    with pytest.raises(DatasetError, match=r"what ToyData.open\('test'\) returned is None"):
        open_split(ToyData(data_dir="none"), "test")


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("training", [False, True])
class TestWhatFailsNamesItsExample:
    """In the caller's own thread, and in those that read ahead."""

    def read(self, fault, training, threads):
        data = batches(Stumbling(batch_size=10, eval_batch_size=10, fault=fault), training=training)
        if threads:
            with contextlib.closing(pipeline.iterate(data, num_threads=2)) as iterator:
                return [next(iterator) for _ in range(2)]
        return [data[i] for i in range(2)]

    def named(self, training):
        return f"example 7 of split '{'train' if training else 'test'}' of Stumbling"

    def test_an_error_of_the_dataset_is_itself_with_a_note(self, training, threads):
        fault = OSError("disk")
        with pytest.raises(OSError, match="disk") as raised:
            self.read(fault, training, threads)
        assert raised.value is fault
        assert f"This was {self.named(training)}." in raised.value.__notes__

    def test_a_sentence_for_users_begins_with_the_example(self, training, threads):
        fault = UserError("it is torn; get it again")
        with pytest.raises(DatasetError) as raised:
            self.read(fault, training, threads)
        assert str(raised.value) == f"{self.named(training)}: it is torn; get it again"
        assert raised.value.__cause__ is fault

    def test_so_does_what_is_found_wrong(self, training, threads):
        with pytest.raises(DatasetError, match=f"{self.named(training)}: 'label' is 2 "):
            self.read("wrong", training, threads)

    def test_shapes_that_differ_within_a_batch_name_both_examples(self, training, threads):
        with pytest.raises(
            DatasetError, match=r"^example \d+ of .*'input_mask' has shape"
        ) as raised:
            self.read("short", training, threads)
        assert "(4,)" in str(raised.value) and "(5,)" in str(raised.value)
        assert str(raised.value).count("example 7") == 1


@pytest.mark.parametrize("field", ["batch_size", "eval_batch_size"])
def test_batches_of_nothing_are_an_error(field):
    with pytest.raises(ValueError, match=f"{field}=0 must be 1 or more"):
        ToyData(**{field: 0})
