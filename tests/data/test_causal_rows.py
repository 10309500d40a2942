"""Rows for causal models: what comes next, and where rows are filled up."""

import numpy as np

from perceiver_jax.data.causal_rows import causal_row, fill_left


def test_targets_are_what_follows_and_rows_are_filled_up_on_the_left():
    row = causal_row(np.array([7, 8, 9], np.uint16), length=5, pad_id=1)
    assert row["ids"].tolist() == [1, 1, 1, 7, 8]
    assert row["targets"].tolist() == [1, 1, 1, 8, 9]
    assert row["input_mask"].tolist() == row["predicted"].tolist() == [False] * 3 + [True] * 2
    assert row["ids"].dtype == row["targets"].dtype == np.int32


def test_a_full_row_has_no_padding_and_some_of_it_may_be_predicted():
    predicted = np.array([False, True, True])
    row = causal_row(np.arange(4), length=3, pad_id=0, predicted=predicted)
    assert row["ids"].tolist() == [0, 1, 2] and row["targets"].tolist() == [1, 2, 3]
    assert row["input_mask"].all()
    assert row["predicted"].tolist() == predicted.tolist()


def test_filling_keeps_what_stands_behind_the_first_axis():
    filled = fill_left(np.ones((2, 3), np.int32), 4, 0)
    assert filled.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
    assert fill_left(np.ones(0), 2, 5).tolist() == [5, 5]
