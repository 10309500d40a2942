"""Losses are their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.train.losses import (
    classification_loss,
    multi_label_loss,
    smooth,
    token_losses,
)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (5, 7))


@pytest.fixture
def targets():
    return np.random.default_rng(1).dirichlet(np.ones(7), 5)


def test_cross_entropy_is_minus_the_expected_log_softmax(float64, logits, targets):
    log_softmax = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    got = classification_loss(jnp.asarray(logits), jnp.asarray(targets), "cross_entropy")
    np.testing.assert_allclose(got, -(targets * log_softmax).sum(-1), rtol=1e-12)


def test_cross_entropy_of_uniform_logits_is_the_log_of_the_number_of_classes():
    got = classification_loss(jnp.zeros((2, 10)), jnp.eye(10)[:2], "cross_entropy")
    np.testing.assert_allclose(got, np.log(10), rtol=1e-6)


def test_squared_error_is_the_mean_over_classes(float64, logits, targets):
    got = classification_loss(jnp.asarray(logits), jnp.asarray(targets), "mean_squared_error")
    np.testing.assert_allclose(got, ((logits - targets) ** 2).sum(-1) / 7, rtol=1e-12)


@pytest.mark.parametrize("kind", ["cross_entropy", "mean_squared_error"])
def test_losses_of_half_precision_logits_are_computed_in_float32(kind):
    logits = jnp.asarray([[200.0, 0.0, 0.3]], jnp.bfloat16)
    targets = jnp.asarray([[0.0, 1.0, 0.0]])
    got = classification_loss(logits, targets, kind)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(
        got, classification_loss(logits.astype(jnp.float32), targets, kind)
    )


def test_huge_logits_give_finite_losses():
    got = classification_loss(
        jnp.asarray([[1e4, -1e4]]), jnp.asarray([[0.0, 1.0]]), "cross_entropy"
    )
    np.testing.assert_allclose(got, 2e4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_spreads_its_mass_evenly(float64, smoothing):
    got = np.asarray(smooth(jnp.eye(4), smoothing))
    np.testing.assert_allclose(got.sum(-1), 1)
    np.testing.assert_allclose(np.diag(got), 1 - smoothing + smoothing / 4)
    np.testing.assert_allclose(got[~np.eye(4, dtype=bool)], smoothing / 4)


def test_the_smoothed_loss_of_mixed_labels_is_that_of_deepmind(golden_training):
    golden = {name: golden_training[f"inputs/loss/{name}"] for name in ("labels", "mix_labels")}
    one_hot = {name: np.eye(11)[labels] for name, labels in golden.items()}
    ratio = golden_training["inputs/loss/ratio"][:, None]
    mixed = ratio * one_hot["labels"] + (1 - ratio) * one_hot["mix_labels"]
    got = classification_loss(
        golden_training["inputs/loss/logits"],
        smooth(jnp.asarray(mixed, jnp.float32), 0.1),
        "cross_entropy",
    )
    np.testing.assert_allclose(got, golden_training["outputs/loss/per_example"], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("factor", [0.0, 0.01])
def test_token_losses_are_their_formula(float64, logits, smoothing, factor):
    targets = np.array([3, 0, 6, 6, 1])
    log_z = np.log(np.exp(logits).sum(-1))
    spread = np.full((5, 7), smoothing / 6)
    spread[np.arange(5), targets] = 1 - smoothing
    least = -(spread * np.log(np.maximum(spread, 1e-300))).sum(-1)
    wanted = -(spread * (logits - log_z[:, None])).sum(-1) - least + factor * log_z**2
    got = token_losses(jnp.asarray(logits), targets, label_smoothing=smoothing, z_loss=factor)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)


def test_the_loss_of_any_number_of_classes_adds_that_of_each_by_itself(float64, logits):
    targets = np.random.default_rng(2).random(logits.shape) < 0.5
    right = 1 / (1 + np.exp(np.where(targets, -logits, logits)))
    got = multi_label_loss(jnp.asarray(logits), jnp.asarray(targets))
    np.testing.assert_allclose(got, -np.log(right).sum(-1), rtol=1e-12)
