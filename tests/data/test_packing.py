import numpy as np
import pytest

from perceiver_jax.data.packing import pack


def test_every_element_lies_in_its_row_and_nothing_overlaps():
    lengths = np.random.default_rng(0).integers(1, 20, 50)
    packing = pack(lengths.tolist(), 32)
    examples = [np.full((n, 2), i) for i, n in enumerate(lengths)]
    rows = packing.place(examples, fill=-1)
    assert rows.shape == (packing.num_rows, 32, 2)
    for i, n in enumerate(lengths):
        assert (rows[..., 0] == i).sum() == n
        place = packing.row[i], slice(packing.start[i], packing.start[i] + n)
        assert (rows[place] == i).all()
        assert (packing.segments[place] == packing.segment[i]).all()
    np.testing.assert_array_equal(packing.segments == -1, rows[..., 0] == -1)
    # No two examples of a row have the same number.
    assert len({(r, s) for r, s in zip(packing.row, packing.segment, strict=True)}) == 50


def test_few_rows_are_needed():
    lengths = np.random.default_rng(0).integers(1, 20, 50)
    assert pack(lengths, 32).num_rows <= -(-lengths.sum() // 32) * 11 / 9 + 1
    assert pack([5, 5, 5, 5], 10).num_rows == 2


def test_segments_go_back_to_their_examples():
    packing = pack([4, 7, 2, 3, 1], 10)
    rows = np.full((packing.num_rows, packing.num_segments), -1)
    rows[packing.row, packing.segment] = range(5)
    np.testing.assert_array_equal(packing.taken(rows), range(5))


@pytest.mark.parametrize("lengths", [[], [0, 2], [3, 11]])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(ValueError, match="examples have 1 to 10 elements"):
        pack(lengths, 10)


def test_other_examples_than_those_packed_are_refused():
    with pytest.raises(ValueError, match="not those that were packed"):
        pack([2, 3], 10).place([np.zeros(3), np.zeros(2)])


def test_rows_hold_whatever_any_example_has():
    rows = pack([2, 2], 4).place([np.array([1, 2]), np.array([0.5, 0.7])])
    np.testing.assert_array_equal(rows, [[1, 2, 0.5, 0.7]])
