"""Mean average precision from counts equals its definition over sorted scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.train.average_precision import PrecisionCounts
from perceiver_jax.train.metrics import average


def of(logits, targets, counted=None):
    counted = np.ones(len(logits), bool) if counted is None else counted
    return PrecisionCounts.of(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(counted))


def test_it_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    # In the middle of bins, so that ties are the same ones.
    logits = (rng.integers(-400, 400, (300, 6)) + 0.5) * 0.02
    targets = rng.random((300, 6)) < jax.nn.sigmoid(logits - 1.0)
    want = metrics.average_precision_score(targets, logits, average="macro")
    assert of(logits, targets).value() == pytest.approx(want, abs=1e-12)


def test_a_hand_made_order_has_the_value_of_its_definition():
    # Right, wrong, right: (1/1 + 2/3) / 2.
    assert of([[3.0], [2.0], [1.0]], [[True], [False], [True]]).value() == pytest.approx(5 / 6)


def test_counts_of_batches_add_up_and_padding_counts_nothing():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 2, (40, 3)), rng.random((40, 3)) < 0.3
    counted = rng.random(40) < 0.7
    parts = [
        {"map": of(logits[i : i + 10], targets[i : i + 10], counted[i : i + 10])}
        for i in range(0, 40, 10)
    ]
    whole = of(logits[counted], targets[counted]).value()
    assert average(parts)["map"] == pytest.approx(whole, abs=1e-12)


def test_classes_that_no_example_has_do_not_count():
    logits = [[2.0, 1.0], [1.0, 2.0]]
    assert of(logits, [[True, False], [False, False]]).value() == 1.0
    assert np.isnan(of(logits, [[False, False]] * 2).value())


def test_scores_beyond_the_limits_are_in_the_last_bins():
    assert of([[90.0], [-90.0]], [[True], [False]]).value() == 1.0


def test_scores_that_are_not_numbers_make_none():
    assert np.isnan(of([[np.nan], [1.0]], [[True], [False]]).value())
