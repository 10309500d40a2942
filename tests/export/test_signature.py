"""What the arrays of a call are, where the model leaves sizes open or tells nothing."""

import dataclasses
import types

import numpy as np
import pytest

from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.adapters.input_arrays import FreeSize, InputArray
from perceiver_jax.data import PointCloudDataConfig
from perceiver_jax.errors import UserError
from perceiver_jax.export.signature import signature
from tests.export.families import FAMILIES, SIZES
from tests.toy_modality import ToyData, toy_model


def shape(found, argument="inputs"):
    return found.arrays[argument].shape


def test_texts_are_as_long_as_the_model_takes_or_as_asked():
    config = FAMILIES["mlm"][0]
    assert shape(signature(config, {}, None)) == (12,)
    found = signature(config, {"tokens": 5}, None)
    assert shape(found) == shape(found, "input_mask") == (5,)


def test_the_number_of_points_is_that_of_the_runs_data_or_as_asked():
    config, data = (
        FAMILIES["points"][0],
        PointCloudDataConfig(dataset="synthetic", num_points=16, num_stored_points=64),
    )
    assert shape(signature(config, {}, data)) == (16, 3)
    assert shape(signature(config, {"points": 9}, data)) == (9, 3)


def test_a_resampler_takes_as_many_frames_as_it_knows_and_any_features():
    config = FAMILIES["resampler_frames"][0]
    found = signature(config, {"features": 7}, None)
    assert shape(found) == (3, 7, 6) and shape(found, "input_mask") == (3, 7)
    with pytest.raises(UserError, match="--size features=N$"):
        signature(config, {}, None)


def test_of_two_sizes_one_may_be_asked_for_and_the_other_read():
    numbers = InputArray(
        shape=(FreeSize("rows"), FreeSize("columns")), dtype="float32", meaning="numbers"
    )
    encoder = types.SimpleNamespace(input_arrays=lambda: {"inputs": {"numbers": numbers}})
    found = signature(types.SimpleNamespace(encoder=encoder), {"rows": 4}, ToyData())
    assert found.arrays["inputs"]["numbers"].shape == (4, 3)


def test_a_size_that_nothing_tells_is_asked_for():
    with pytest.raises(UserError, match="--size axis0=N --size axis1=N"):
        signature(FAMILIES["array"][0], {}, None)
    with pytest.raises(UserError, match="--size axis1=N$"):
        signature(FAMILIES["array"][0], {"axis0": 3}, None)


@pytest.mark.parametrize(("family", "known"), [("mlm", "it has tokens"), ("image", "all are")])
def test_an_unknown_size_is_an_error(family, known):
    with pytest.raises(UserError, match=f"--size points: .*{known}"):
        signature(FAMILIES[family][0], {"points": 3}, None)


def test_a_modality_of_ones_own_is_told_by_its_data():
    found = signature(toy_model(), {}, ToyData())
    assert found.arrays["inputs"]["numbers"].shape == (5, 3)
    assert found.arrays["input_mask"].dtype == "bool"
    given, example = found.drawn(2), ToyData().views(ToyData().open("test")[0])[0]
    assert list(given) == ["inputs", "input_mask"]
    np.testing.assert_array_equal(given["inputs"]["numbers"][1], example["inputs"]["numbers"])
    with pytest.raises(UserError, match="ToyModality does not tell .* input_arrays"):
        signature(toy_model(), {}, None)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "own"])
def test_drawn_arrays_lie_in_their_ranges(family):
    config, data = FAMILIES[family]
    found = signature(config, SIZES.get(family, {}), data)
    for name, tree in found.drawn(2).items():
        told = found.arrays[name]
        pairs = [(tree[k], told[k]) for k in tree] if isinstance(tree, dict) else [(tree, told)]
        for array, one in pairs:
            assert array.shape == (2, *one.shape) and array.dtype == one.dtype
            if one.dtype == "bool":
                assert array[..., 0].all()
            elif one.least is not None:
                assert one.least <= array.min() < array.max() <= one.most


def test_every_modality_of_the_library_tells_its_arrays():
    ours = [c for c in ModalityConfig.__subclasses__() if c.__module__.startswith("perceiver_jax")]
    assert len(ours) >= 4
    for kind in ours:
        assert kind.input_arrays is not ModalityConfig.input_arrays, kind
    assert all(dataclasses.is_dataclass(kind) for kind in ours)
