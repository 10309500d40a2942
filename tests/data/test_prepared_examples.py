"""Examples as newcomers prepare them: what is wrong is named, with what was expected."""

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.prepared_examples import check_alike, check_views

GOOD = {
    "inputs": {"values": np.zeros(4), "deep": {"sensors": [1, 2]}},
    "input_mask": np.array([True, False]),
    "label": 1,
}


@pytest.mark.parametrize(
    "label", [0, 2, np.int64(2), np.uint8(1), np.array(2), True, np.array([True, False, True])]
)
def test_labels_are_places_of_class_names_or_a_bool_for_each(label):
    check_views([GOOD | {"label": label}, GOOD | {"label": label}], 3)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (3, r"3 \(int\)"),
        (-1, r"-1 \(int\)"),
        (1.0, r"1.0 \(float\)"),
        ("cat", r"'cat' \(str\)"),
        (None, "None"),
        (np.array([1]), r"an array of shape \(1,\) and type int64"),
        (np.array([0, 1, 0]), r"an array of shape \(3,\) and type int64"),
        (np.array([True, False]), r"an array of shape \(2,\) and type bool"),
    ],
)
def test_another_label_is_an_error_that_says_what_one_is(label, shown):
    message = rf"'label' is {shown}; .* an integer from 0 to 2, .*, 3 bools"
    with pytest.raises(DatasetError, match=message):
        check_views([GOOD | {"label": label}], 3)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (GOOD | {"mask": [True]}, "prepare returned 'mask', which .*; did you mean 'input_mask'"),
        (GOOD | {"xyz": 1}, "prepare returned 'xyz', which .*; it has inputs, input_mask, label"),
        (None, "prepare returned None; expected a dict with 'inputs'"),
        (np.zeros(3), r"prepare returned an array of shape \(3,\) and type float64; expected"),
        ({"input": 1, "label": 1}, "prepare returned a dict with 'input', 'label'; expected"),
        ({"inputs": 1}, "prepare returned a dict with 'inputs'; expected"),
        (GOOD | {"inputs": {"a": {"b": "x"}}}, "'inputs/a/b' is .*; a model takes numbers"),
        (GOOD | {"inputs": [None, 1]}, "'inputs' is .* type object; a model takes numbers"),
        (GOOD | {"input_mask": np.ones(2)}, r"'input_mask' is .* float64; .* \.astype\(bool\)"),
        (GOOD | {"input_mask": np.array([2, 0])}, r"'input_mask' is .* int64; .* \.astype\(bool\)"),
        (GOOD | {"input_mask": None}, "'input_mask' is None; leave it out where nothing is padded"),
        (
            GOOD | {"inputs": [np.zeros(2), np.zeros(3)]},
            r"'inputs' is .* \(list\) of rows of different lengths; make an array in prepare",
        ),
    ],
)
def test_another_example_is_an_error_that_says_what_one_has(example, message):
    with pytest.raises(DatasetError, match=message):
        check_views([example], 3)


def test_a_mask_of_zeros_and_ones_is_one():
    check_views([GOOD | {"input_mask": np.array([1, 0])}], 3)


@pytest.mark.parametrize("views", [GOOD, [], None, (x for x in [GOOD])])
def test_views_are_some_examples(views):
    with pytest.raises(DatasetError, match="views returned .*; expected a list of prepared"):
        check_views(views, 3)


def test_views_are_alike():
    longer = GOOD | {"input_mask": np.ones(3, bool)}
    with pytest.raises(DatasetError, match=r"'input_mask' has shape \(3,\), .* its first view"):
        check_views([GOOD, longer], 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"values": np.zeros(5), "deep": {"sensors": [1, 2]}}}, r"'inputs/values' has"),
        ({"label": np.array([True, False])}, r"'label' has shape \(2,\), but that of x has \(\);"),
        ({"inputs": np.zeros(4)}, "it has inputs, input_mask, label, but x has inputs/values"),
    ],
)
def test_examples_of_a_batch_are_alike(changes, message):
    check_alike(GOOD, GOOD | {"label": 2}, "x")
    with pytest.raises(DatasetError, match=message):
        check_alike(GOOD | changes, GOOD, "x")
