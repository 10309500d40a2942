"""A step is traced once, accumulates exactly, draws anew and changes what it should."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.step import _accumulate, make_evaluation_step
from perceiver_jax.train.tasks import ImageClassification
from tests.train.tiny_runs import Run, experiment
from tests.train.tiny_texts import language_model

SGD = OptimizerConfig(name="sgd", learning_rate=0.1)
HALVING = {"schedule": "step", "decay_rate": 0.5, "decay_steps": 1}
CALM = {"encoder": {"dropout": 0.0}, "optimizer": SGD}
CONV = {"preprocessing": "conv", "num_preprocessing_channels": 4, "dropout": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountedTask(ImageClassification):
    """Notes each time that its loss is traced."""

    traces = []

    def loss(self, model, batch, key):
        self.traces.append(batch["image"].shape)
        return super().loss(model, batch, key)


def same_arrays(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def lively():
    """A run with dropout and donation, its state after no step."""
    return Run(experiment(task=CountedTask()), donate=True)


@pytest.fixture(scope="module")
def conv():
    """A run with batch norms."""
    return Run(experiment(encoder=CONV, optimizer=SGD))


def test_many_steps_are_traced_once_and_free_the_state_before(lively):
    CountedTask.traces.clear()
    before = lively.fresh()
    after, losses = lively.losses(before, range(5))
    assert len(CountedTask.traces) == 1
    assert int(after.step) == 5
    assert np.isfinite(losses).all()
    assert all(x.is_deleted() for x in jax.tree.leaves((before.params, before.opt_state)))


def test_the_same_step_draws_the_same_and_another_step_draws_anew(lively):
    def loss(step):
        state = lively.fresh()
        state = dataclasses.replace(state, step=state.step + step)
        return float(lively.step(state, lively.batch(0))[1]["loss"])

    first, again, second = loss(0), loss(0), loss(1)
    assert first == again
    assert first != second


def test_metrics_hold_the_documented_names_and_their_values(lively):
    before = jax.device_get(lively.fresh())
    state, metrics = lively.step(lively.fresh(), lively.batch(0))
    state, metrics = jax.device_get((state, metrics))
    optim = {
        f"optim/{n}" for n in ("learning_rate", "gradient_norm", "update_norm", "parameter_norm")
    }
    assert set(metrics) == {"loss", "accuracy"} | optim

    def norm(tree):
        return np.sqrt(sum(np.square(x, dtype=np.float64).sum() for x in tree.values()))

    updates = {path: state.params[path] - before.params[path] for path in state.params}
    assert metrics["optim/parameter_norm"] == pytest.approx(norm(state.params), rel=1e-5)
    assert metrics["optim/update_norm"] == pytest.approx(norm(updates), rel=1e-3, abs=1e-7)
    # The first step of a warm-up from zero changes nothing.
    assert metrics["optim/learning_rate"] == 0
    assert metrics["optim/gradient_norm"] > 0


def test_accumulating_parts_of_a_batch_equals_the_whole_batch():
    whole = Run(experiment(**CALM))
    dealt = Run(experiment(**CALM | {"optimizer": dataclasses.replace(SGD, accumulate=4)}))
    start = whole.fresh()
    one, many = (run.step(start, whole.batch(0)) for run in (whole, dealt))
    for path, x in one[0].params.items():
        # Updates rather than parameters: small gradients count as much as large weights. Sums in
        # float32 are in another order on every kind of processor: an update may differ by some
        # units in the last place of the largest one of its array.
        update, want = many[0].params[path] - start.params[path], x - start.params[path]
        tolerance = 1e-4 * float(abs(want).max()) + 1e-7
        np.testing.assert_allclose(update, want, rtol=0, atol=tolerance, err_msg=path)
    for name in one[1]:
        assert float(many[1][name]) == pytest.approx(float(one[1][name]), rel=1e-5), name


def test_parts_are_dealt_out_with_keys_of_their_own_and_statistics_passed_on():
    def loss_and_gradients(params, stats, batch, key):
        drawn = jax.random.uniform(key)
        first, last = batch["x"][0], batch["x"][-1]
        gradients = {"drawn": drawn, "square": drawn**2, "first": first, "last": last}
        return gradients, {"s": 10 * stats["s"] + first}, {"loss": (last, jnp.ones(()))}

    zeros = {name: jnp.zeros(()) for name in ("drawn", "square", "first", "last")}
    state = TrainState(jnp.zeros((), jnp.int32), zeros, {"s": jnp.ones(())}, None)
    batch = {"x": jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])}
    gradients, stats, sums = _accumulate(loss_and_gradients, state, batch, jax.random.key(0), 3)
    # The parts are [1, 4], [2, 5] and [3, 6].
    assert (float(gradients["first"]), float(gradients["last"])) == (6, 15)
    assert float(stats["s"]) == 1123
    assert [float(x) for x in sums["loss"]] == [15, 3]
    assert float(gradients["square"] / 3 - (gradients["drawn"] / 3) ** 2) > 1e-3


def test_training_updates_batch_statistics_and_evaluation_does_not(conv):
    before = jax.device_get(conv.fresh())
    assert before.stats
    state, _ = conv.step(conv.fresh(), conv.batch(0))
    for path, x in jax.device_get(state.stats).items():
        assert not np.array_equal(x, before.stats[path]), path
    batch = conv.batch(0) | {"mask": np.ones(8, bool)}
    evaluate = jax.jit(make_evaluation_step(conv.config.task, conv.skeleton.bind))
    same_arrays(
        evaluate(state.params, state.stats, batch), evaluate(state.params, state.stats, batch)
    )
    other = conv.fresh()
    assert float(evaluate(state.params, state.stats, batch)["loss"][0]) != float(
        evaluate(state.params, other.stats, batch)["loss"][0]
    )


def test_evaluation_ignores_padding_and_uses_no_dropout(lively, call):
    state = lively.fresh()
    evaluate = jax.jit(make_evaluation_step(lively.config.task, lively.skeleton.bind))
    batch = lively.batch(0)
    mask = np.arange(8) < 5
    sums = evaluate(state.params, state.stats, batch | {"mask": mask})
    junk = batch | {
        "mask": mask,
        "image": np.where(mask[:, None, None, None], batch["image"], 99.0),
    }
    same_arrays(evaluate(state.params, state.stats, junk), sums)
    model = lively.skeleton.bind(state.params, state.stats)
    logits = np.asarray(call(model, batch["image"]), np.float64)[:5]
    labels = np.asarray(batch["label"])[:5]
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(5), labels]
    assert float(sums["loss"][0]) == pytest.approx(losses.sum(), rel=1e-5)
    assert [float(weight) for _, weight in sums.values()] == [5, 5]


def test_training_lowers_the_loss():
    config = experiment(
        encoder={"dropout": 0.0, "init_method": "variance_scaling"},
        decoder={"init_method": "variance_scaling", "num_classes": 2},
        data={"synthetic_classes": 2, "max_shift": 0.0},
        optimizer=OptimizerConfig(learning_rate=0.01),
    )
    run = Run(config)
    _, losses = run.losses(run.fresh(), range(40))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_parts_of_different_weight_make_the_mean_over_all_tokens(tmp_path):
    runs = [
        Run(language_model(tmp_path, optimizer=dataclasses.replace(SGD, accumulate=parts)))
        for parts in (1, 4)
    ]
    start = runs[0].fresh()

    def step(run):
        batch = run.batch(0)
        # Most masked tokens are in two of the eight rows.
        few = np.where(np.arange(8)[:, None] % 4 == 0, True, np.arange(80)[None] < 12)
        batch = dict(batch) | {"predicted": batch["predicted"] & few}
        after, metrics = run.step(start, batch)
        return {p: after.params[p] - start.params[p] for p in start.params}, metrics

    (whole, one), (dealt, many) = (step(run) for run in runs)
    assert float(one["loss"]) == pytest.approx(float(many["loss"]), rel=1e-5)
    for path, update in whole.items():
        tolerance = 1e-4 * float(abs(update).max()) + 1e-7
        np.testing.assert_allclose(dealt[path], update, rtol=0, atol=tolerance, err_msg=path)


# ---- A step that breaks down ---------------------------------------------------------------------


def spoiled(batch):
    """A batch of which one number is not one."""
    image = np.array(batch["image"])
    image[3, 0, 0, 0] = np.nan
    return dict(batch) | {"image": image}


@pytest.mark.parametrize(
    "fields",
    [{}, {"accumulate": 2}, {"frozen": ("query",), "name": "lamb"}, {"name": "sgd", "b1": 0.9}],
    ids=["adamw", "accumulated", "frozen", "momentum"],
)
def test_a_broken_step_changes_nothing_but_its_number_and_the_place_in_the_schedule(fields):
    optimizer = OptimizerConfig(**(HALVING | fields))
    run = Run(experiment(encoder=CONV, optimizer=optimizer))
    good, _ = run.step(run.fresh(), run.batch(0))
    broken, metrics = run.step(good, spoiled(run.batch(1)))
    assert not np.isfinite(float(metrics["loss"]))
    assert good.stats and int(broken.step) == int(good.step) + 1
    same_arrays((broken.params, broken.stats), (good.params, good.stats))

    def counts(state):
        leaves = jax.tree.leaves_with_path(state.opt_state)
        return {jax.tree_util.keystr(keys): np.asarray(x) for keys, x in leaves}

    before, after = counts(good), counts(broken)
    changed = [keys for keys in before if not np.array_equal(before[keys], after[keys])]
    assert len(changed) == 1 and int(after[changed[0]]) == int(before[changed[0]]) + 1
    _, metrics = run.step(broken, run.batch(2))
    assert np.isfinite([float(value) for value in metrics.values()]).all()


def test_the_schedule_goes_on_over_a_broken_step():
    run = Run(experiment(**CALM | {"optimizer": dataclasses.replace(SGD, b1=0.0, **HALVING)}))
    broken, _ = run.step(run.fresh(), spoiled(run.batch(0)))
    _, metrics = run.step(broken, run.batch(1))
    assert float(metrics["optim/learning_rate"]) == pytest.approx(0.05)
    rate = float(metrics["optim/update_norm"]) / float(metrics["optim/gradient_norm"])
    assert rate == pytest.approx(0.05, rel=1e-5)
