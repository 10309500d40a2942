"""Averages of parameters are what a pencil finds, and what is evaluated, saved and restored."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_jax.train import parallel
from perceiver_jax.train.averaging import average_params, averaged
from perceiver_jax.train.checkpoint import CheckpointConfig, Checkpoints
from perceiver_jax.train.optim import OptimizerConfig
from tests.train.tiny_runs import Run, experiment

DECAY = 0.4


@pytest.fixture(scope="module")
def run():
    return Run(experiment(optimizer=OptimizerConfig(average_decay=DECAY, frozen=("^decoder/",))))


def kept(updates):
    """What of the average is kept at that update."""
    return min(DECAY, (1 + updates) / (10 + updates))


def test_the_average_follows_the_parameters_and_is_young_at_first():
    optimizer = optax.chain(optax.sgd(1.0), average_params(DECAY))
    params = {"w": jnp.asarray([1.0, 2.0])}
    state, want = optimizer.init(params), np.asarray(params["w"])
    for n in range(1, 9):
        updates, state = optimizer.update({"w": jnp.asarray([0.5, -1.0])}, state, params)
        params = optax.apply_updates(params, updates)
        want = kept(n) * want + (1 - kept(n)) * np.asarray(params["w"])
        np.testing.assert_allclose(averaged(params, state)["w"], want, rtol=1e-6)
    assert kept(1) < kept(2) < kept(8) == DECAY


def test_without_averages_the_model_is_the_parameters():
    state = Run(experiment()).fresh()
    assert state.model_params is state.params


def test_a_run_averages_what_it_trains(run):
    first = run.fresh()
    state, _ = run.losses(first, range(1))
    for path, old in first.params.items():
        new, mean = state.params[path], state.model_params[path]
        np.testing.assert_allclose(mean, kept(1) * old + (1 - kept(1)) * new, rtol=1e-5, atol=1e-7)
    changed = [path for path, old in first.params.items() if (state.params[path] != old).any()]
    assert changed and not any(path.startswith("decoder/") for path in changed)


def test_the_checkpoint_has_averages_as_its_model_and_the_run_goes_on_from_its_own(run, tmp_path):
    state, _ = run.losses(run.fresh(), range(3))
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(keep_best=0))
    checkpoints.save(state, step=3, data={}, config={}, metrics={})
    checkpoints.wait()
    back, _ = checkpoints.restore(3, run.like)
    model, _ = checkpoints.restore_model(3, (run.like.params, run.like.stats))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, back, state)
    jax.tree.map(np.testing.assert_array_equal, model, dict(state.model_params))
    path = "encoder/latents"
    assert (model[path] != state.params[path]).any()


def test_a_run_that_starts_from_weights_averages_from_there(run):
    arrays = {"encoder/latents": np.full((4, 8), 7.0, np.float32)}
    state = parallel.replaced(run.fresh(), arrays)
    np.testing.assert_array_equal(state.model_params["encoder/latents"], 7.0)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_impossible_decay_is_refused(decay):
    with pytest.raises(ValueError, match=r"average_decay=.* must be in \[0, 1\)"):
        dataclasses.replace(OptimizerConfig(), average_decay=decay)
