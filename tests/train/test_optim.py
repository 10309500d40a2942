"""Schedules and optimizers are their formulas, written out in NumPy, and DeepMind's numbers."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_jax.errors import UserError
from perceiver_jax.train.optim import OptimizerConfig, learning_rate_schedule, make_optimizer

STEPS = 110


def rate(step, *, num_steps=STEPS, **fields):
    config = OptimizerConfig(learning_rate=0.5, **fields)
    return float(learning_rate_schedule(config, num_steps)(step))


def cosine(fraction):
    return 0.5 * (1 + np.cos(np.pi * fraction))


SCHEDULES = {
    "constant": ({"schedule": "constant"}, {0: 1, 1: 1, 109: 1, 1000: 1}),
    "cosine": (
        {"schedule": "cosine"},
        {0: 1, 1: cosine(1 / 110), 55: 0.5, 109: cosine(109 / 110), 110: 0, 500: 0},
    ),
    "cosine to a fraction": (
        {"schedule": "cosine", "final_fraction": 0.2},
        {0: 1, 55: 0.2 + 0.8 * 0.5, 110: 0.2},
    ),
    "cosine after warm-up": (
        {"schedule": "cosine", "warmup_steps": 10},
        {0: 0, 1: 0.1, 9: 0.9, 10: 1, 60: 0.5, 110: 0},
    ),
    "constant, then cosine": (
        {"schedule": "constant_cosine"},
        {0: 1, 54: 1, 55: 1, 56: cosine(1 / 55), 110: 0},
    ),
    "constant, then cosine, after warm-up": (
        {"schedule": "constant_cosine", "warmup_steps": 10, "final_fraction": 0.5},
        {0: 0, 5: 0.5, 10: 1, 60: 1, 85: 0.75, 110: 0.5},
    ),
    "steps": (
        {"schedule": "step", "decay_rate": 0.9, "decay_steps": 20},
        {0: 1, 19: 1, 20: 0.9, 39: 0.9, 40: 0.81, 100: 0.9**5},
    ),
    "steps after warm-up": (
        {"schedule": "step", "decay_rate": 0.5, "decay_steps": 20, "warmup_steps": 10},
        {5: 0.5, 10: 1, 29: 1, 30: 0.5},
    ),
    "exponential": (
        {"schedule": "exponential", "decay_rate": 0.9, "decay_steps": 20},
        {0: 1, 10: 0.9**0.5, 20: 0.9, 50: 0.9**2.5},
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula_at_key_steps(name):
    fields, wanted = SCHEDULES[name]
    for step, fraction in wanted.items():
        assert rate(step, **fields) == pytest.approx(0.5 * fraction, rel=1e-5, abs=1e-7), step


@pytest.mark.parametrize("schedule", ["cosine", "constant_cosine"])
def test_a_run_that_is_all_warm_up_stays_finite(schedule):
    rates = [rate(step, num_steps=3, schedule=schedule, warmup_steps=5) for step in range(4)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3], rtol=1e-6)


# ---- Optimizers against NumPy --------------------------------------------------------------------

B1, B2, EPSILON, DECAY, RATES = 0.8, 0.95, 1e-3, 0.1, (0.5, 0.25, 0.125)
PARAMETERS = {"a/kernel": (4, 3), "a/bias": (3,), "norm/scale": (4,), "latents": (2, 4)}
DECAYED = {"a/kernel", "latents"}


def draw(seed):
    rng = np.random.default_rng(seed)
    return {path: rng.normal(0, 2, shape) for path, shape in PARAMETERS.items()}


def moments(gradients):
    """Adam's direction at each step, for one parameter."""
    m = v = 0.0
    for i, g in enumerate(gradients, 1):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
        yield (m / (1 - B1**i)) / (np.sqrt(v / (1 - B2**i)) + EPSILON)


def adam(p, gradients, decays):
    for rate, direction in zip(RATES, moments(gradients), strict=True):
        p = p - rate * direction
    return p


def adamw(p, gradients, decays):
    for rate, direction in zip(RATES, moments(gradients), strict=True):
        p = p - rate * (direction + DECAY * p * decays)
    return p


def lamb(p, gradients, decays):
    for rate, direction in zip(RATES, moments(gradients), strict=True):
        update = direction + DECAY * p * decays
        p = p - rate * np.linalg.norm(p) / np.linalg.norm(update) * update
    return p


def sgd(p, gradients, decays):
    velocity = 0.0
    for rate, g in zip(RATES, gradients, strict=True):
        velocity = B1 * velocity + g
        p = p - rate * velocity
    return p


def clipped(gradients, norm):
    total = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {path: g * min(1.0, norm / total) for path, g in gradients.items()}


def steps(config, gradients):
    """Parameters after one step per entry of `gradients`."""
    optimizer = make_optimizer(config, STEPS)
    params = {path: jnp.asarray(p) for path, p in draw(0).items()}
    state = optimizer.init(params)
    for g in gradients:
        updates, state = optimizer.update(
            {path: jnp.asarray(x) for path, x in g.items()}, state, params
        )
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("clip_norm", [None, 3.0, 1e6])
@pytest.mark.parametrize("reference", [adam, adamw, lamb, sgd])
def test_three_steps_of_an_optimizer_are_its_formula(float64, reference, clip_norm):
    config = OptimizerConfig(
        name=reference.__name__,
        learning_rate=RATES[0],
        schedule="step",
        decay_rate=0.5,
        decay_steps=1,
        weight_decay=DECAY,
        b1=B1,
        b2=B2,
        epsilon=EPSILON,
        clip_norm=clip_norm,
    )
    gradients = [draw(seed) for seed in (1, 2, 3)]
    got = steps(config, gradients)
    if clip_norm is not None:
        gradients = [clipped(g, clip_norm) for g in gradients]
    for path, start in draw(0).items():
        want = reference(start, [g[path] for g in gradients], path in DECAYED)
        np.testing.assert_allclose(got[path], want, rtol=1e-6, atol=1e-8, err_msg=path)


def test_sgd_without_momentum_is_plain_descent(float64):
    config = OptimizerConfig(name="sgd", learning_rate=0.5, b1=0.0)
    got = steps(config, [draw(1), draw(2)])
    for path, start in draw(0).items():
        want = start - 0.5 * (draw(1)[path] + draw(2)[path])
        np.testing.assert_allclose(got[path], want, rtol=1e-6, atol=1e-8)


def test_muon_moves_kernels_along_all_their_directions_alike(float64):
    config = OptimizerConfig(name="muon", learning_rate=0.5, weight_decay=0.0)
    got = steps(config, [draw(1)])
    gradient = draw(1)["a/kernel"]
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    update = (got["a/kernel"] - draw(0)["a/kernel"]) / -0.5
    along = u.T @ update @ v.T
    np.testing.assert_allclose(along - np.diag(np.diag(along)), 0.0, atol=1e-6)
    # Of an orthogonal [4, 3] matrix the root mean square is 4 ** -0.5; Newton-Schulz is not exact.
    assert ((0.6 < np.diag(along) / (0.2 * 4**0.5)) & (np.diag(along) < 1.3 * 0.4)).all()


def test_muon_moves_all_but_kernels_as_nadam(float64):
    config = OptimizerConfig(name="muon", learning_rate=0.5, weight_decay=0.0)
    got = steps(config, [draw(1), draw(2)])
    want, optimizer = draw(0), optax.nadam(0.5)
    state = optimizer.init(want)
    for seed in (1, 2):
        updates, state = optimizer.update(draw(seed), state)
        want = optax.apply_updates(want, updates)
    for path in ("a/bias", "norm/scale", "latents"):
        np.testing.assert_allclose(got[path], want[path], rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_parameters_that_a_pattern_names_do_not_decay(float64, name):
    def run(**fields):
        return steps(OptimizerConfig(name=name, learning_rate=0.1, **fields), [draw(1)])

    free = run(weight_decay=0.0)
    for no_decay, spared in (
        ((), set()),
        ((r"bias$", r"norm/scale$"), {"a/bias", "norm/scale"}),
        (("latents",), {"latents"}),
        ((".",), set(PARAMETERS)),
    ):
        got = run(weight_decay=0.5, no_decay=no_decay)
        same = {path for path in PARAMETERS if np.allclose(got[path], free[path], rtol=1e-9)}
        assert same == spared


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 0}, "accumulate=0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"decay_steps": 0}, "decay_steps=0"),
        ({"no_decay": ("(",)}, r"no_decay has '\(', no regular expression"),
    ],
)
def test_an_impossible_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**fields)


# ---- DeepMind's ImageNet training ----------------------------------------------------------------

# Peak 5e-4 * 1024 / 256; of the cosine one only what follows its warm-up, which starts above zero.
GOLDEN_SCHEDULES = {
    "constant_cosine": ({"schedule": "constant_cosine"}, 0),
    "cosine": ({"schedule": "cosine", "warmup_steps": 20, "final_fraction": 0.002}, 20),
}
GOLDEN_PATHS = {
    "perceiver_encoder/~/self_attention/attention/linear/w": "attention/query/kernel",
    "perceiver_encoder/~/self_attention/attention/linear/b": "attention/query/bias",
    "perceiver_encoder/~/self_attention/layer_norm/scale": "attention_norm/scale",
    "perceiver_encoder/~/self_attention/layer_norm/offset": "attention_norm/bias",
    "perceiver_encoder/~/trainable_position_encoding/pos_embs": "encoder/input_adapter/positions",
    "image_preprocessor/~/conv2_d_downsample/~/batchnorm/scale": "stem/norm/scale",
    "image_preprocessor/~/conv2_d_downsample/~/batchnorm/offset": "stem/norm/bias",
}
NO_DECAY = (r"bias$", r"norm/scale$")
GOLDEN_OPTIMIZERS = {
    "lamb": {"name": "lamb", "epsilon": 1e-6, "clip_norm": 10.0, "no_decay": NO_DECAY},
    "lamb_no_pos_decay": {
        "name": "lamb",
        "epsilon": 1e-6,
        "clip_norm": 10.0,
        "no_decay": (*NO_DECAY, "positions$"),
    },
    # What that code calls Adam decays weights, decoupled.
    "adam": {"name": "adamw", "epsilon": 1e-8, "no_decay": NO_DECAY},
}


@pytest.mark.parametrize("name", GOLDEN_SCHEDULES)
def test_a_schedule_is_that_of_deepmind(golden_training, name):
    fields, first = GOLDEN_SCHEDULES[name]
    schedule = learning_rate_schedule(OptimizerConfig(learning_rate=2e-3, **fields), 100)
    at = golden_training["inputs/lr/steps"]
    got = [schedule(step) for step in at[at >= first]]
    want = golden_training[f"outputs/lr/{name}"][at >= first]
    assert len(want) >= 5
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", GOLDEN_OPTIMIZERS)
def test_four_steps_of_an_optimizer_are_those_of_deepmind(golden_training, name):
    config = OptimizerConfig(
        learning_rate=2e-3,
        schedule="constant_cosine",
        weight_decay=0.1,
        **GOLDEN_OPTIMIZERS[name],
    )

    def read(prefix):
        return {
            ours: jnp.asarray(golden_training[f"{prefix}/{theirs}"])
            for theirs, ours in GOLDEN_PATHS.items()
        }

    optimizer = make_optimizer(config, 4)
    params = read("params/opt")
    state = optimizer.init(params)
    for step in range(4):
        updates, state = optimizer.update(read(f"inputs/opt/grads{step}"), state, params)
        params = optax.apply_updates(params, updates)
        for path, want in read(f"outputs/opt/{name}/step{step}").items():
            np.testing.assert_allclose(params[path], want, rtol=2e-6, atol=2e-8, err_msg=path)


# ---- Frozen parameters, and rates by path --------------------------------------------------------

PATHS = ("encoder/a/kernel", "encoder/b/kernel", "decoder/kernel", "decoder/bias")


def test_all_but_the_frozen_parameters_are_trained():
    assert OptimizerConfig().trained(PATHS) == list(PATHS)
    frozen = OptimizerConfig(frozen=("^encoder/a", "bias$"))
    assert frozen.trained(PATHS) == ["encoder/b/kernel", "decoder/kernel"]
    assert frozen.trained(PATHS, fixed=("^decoder",)) == ["encoder/b/kernel"]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"frozen": ("encoderr",)}, "frozen has 'encoderr', .* begin with decoder/bias"),
        ({"learning_rate_factors": (("x", 0.1),)}, "learning_rate_factors has 'x'"),
        ({"frozen": ("coder",)}, "freezes every parameter"),
    ],
)
def test_patterns_that_leave_nothing_or_fit_nothing_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**fields).trained(PATHS)


def test_patterns_and_factors_are_checked():
    with pytest.raises(ValueError, match="frozen has '\\('"):
        OptimizerConfig(frozen=("(",))
    with pytest.raises(ValueError, match="factors are 0 or more"):
        OptimizerConfig(learning_rate_factors=(("a", -1.0),))


@pytest.mark.parametrize("name", ["adamw", "lamb", "adam", "sgd", "muon"])
def test_factors_are_multiples_of_the_rate_decay_included(name):
    rng = np.random.default_rng(0)
    params, gradients = (
        {path: jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for path in PATHS}
        for _ in range(2)
    )

    def updates(**fields):
        config = OptimizerConfig(
            name=name, learning_rate=0.1, weight_decay=0.1, no_decay=(), **fields
        )
        optimizer = make_optimizer(config, 10)
        state = optimizer.init(params)
        _, state = optimizer.update(gradients, state, params)
        return optimizer.update(gradients, state, params)[0]

    factors = (("^encoder/a", 0.5), ("^encoder/", 0.1))
    whole, scaled = updates(), updates(learning_rate_factors=factors)
    for path, factor in zip(PATHS, (0.5, 0.1, 1.0, 1.0), strict=True):
        np.testing.assert_allclose(scaled[path], factor * whole[path], rtol=1e-5, err_msg=path)
        slower = OptimizerConfig(
            name=name, learning_rate=0.1 * factor, weight_decay=0.1, no_decay=()
        )
        optimizer = make_optimizer(slower, 10)
        state = optimizer.init(params)
        _, state = optimizer.update(gradients, state, params)
        alone = optimizer.update(gradients, state, params)[0]
        np.testing.assert_allclose(scaled[path], alone[path], rtol=1e-4, err_msg=path)
