import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.known_values import check_indices, known, rows, warn_outside, within

REMEDY = "mend it"


def test_values_are_known_outside_of_jit_alone():
    seen = []
    jax.jit(lambda x: seen.append(known(x)))(jnp.arange(3))
    assert seen == [None]
    for x in ([0, 1, 2], np.arange(3), jnp.arange(3)):
        np.testing.assert_array_equal(known(x), [0, 1, 2])


def test_indices_within_are_let_pass():
    check_indices(np.array([[0, 2]]), 3, "ids", REMEDY)
    check_indices(np.zeros((2, 0), int), 3, "ids", REMEDY)
    jax.jit(lambda x: check_indices(x, 3, "ids", REMEDY))(np.array([9]))


def test_indices_of_padding_may_be_anything():
    mask = np.array([[True, False]])
    check_indices(np.array([[2, -1]]), 3, "ids", REMEDY, mask)
    check_indices(np.array([[2, -1], [0, 9]]), 3, "ids", REMEDY, mask)
    with pytest.raises(ValueError, match="ids from 2 to 5"):
        check_indices(np.array([[2, -1], [5, 9]]), 3, "ids", REMEDY, mask)
    padded = jax.jit(lambda x, m: within(x, 3, m))(np.array([[7, -1], [1, 2]]), mask)
    np.testing.assert_array_equal(padded, [[7, 0], [1, 2]])


def test_a_warning_names_the_line_that_called():
    with pytest.warns(UserWarning, match="places go from") as told:
        warn_outside(np.array([5.0]), -1.0, 1.0, "places", REMEDY)
    assert told[0].filename == __file__


@pytest.mark.parametrize("indices", [[0, 3], [-1, 2]])
def test_indices_outside_are_refused(indices):
    least, most = indices
    with pytest.raises(ValueError, match=f"ids from {least} to {most} are not .* 0 to 2; mend it"):
        check_indices(indices, 3, "ids", REMEDY)


def test_numbers_within_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside(np.array([-1.0, 1.01, np.nan, np.inf]), -1.0, 1.0, "places", REMEDY)
        mask = np.array([True, False])
        warn_outside(np.array([0.0, 50.0]), -1.0, 1.0, "places", REMEDY, mask)
        warn_outside(np.array([50.0]), -1.0, 1.0, "places", REMEDY, np.array([False]))
        jax.jit(lambda x: warn_outside(x, -1.0, 1.0, "places", REMEDY))(np.array([50.0]))
        jax.jit(lambda m: warn_outside(np.array([50.0]), -1.0, 1.0, "x", REMEDY, m))(mask[:1])


@pytest.mark.parametrize("numbers", [[-1.5, 0.0], [0.0, 1.5, np.nan]])
def test_numbers_outside_are_told(numbers):
    with pytest.warns(UserWarning, match="places go from .* where -1 to 1 is expected; mend it"):
        warn_outside(np.array(numbers), -1.0, 1.0, "places", REMEDY)


def test_rows_that_a_table_does_not_have_are_nan():
    table = jnp.arange(6.0).reshape(3, 2)
    taken = np.asarray(jax.jit(rows)(table, jnp.array([[2, -1, 3, 0]])))[0]
    np.testing.assert_array_equal(taken[[0, 3]], [[4.0, 5.0], [0.0, 1.0]])
    assert np.isnan(taken[[1, 2]]).all()


def test_gradients_reach_the_rows_that_were_taken():
    gradient = jax.grad(lambda table: rows(table, jnp.array([2, 2, 0])).sum())(jnp.ones((3, 2)))
    np.testing.assert_array_equal(gradient, [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
