"""Eight devices compute what one does, however they share the work, and hold what they should."""

import dataclasses
import json
import textwrap

import jax
import numpy as np
import pytest

from perceiver_jax.train import parallel
from perceiver_jax.train.checkpoint import CheckpointConfig, Checkpoints
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.parallel import ParallelConfig
from tests.train import tiny_music, tiny_texts
from tests.train.tiny_runs import Run, experiment

STEPS = 4
IMAGES = {
    "pixels": {"dropout": 0.1},
    "conv": {"preprocessing": "conv", "num_preprocessing_channels": 8},
    # Attended to by structure, in rows of 16 columns.
    "rows": {"dropout": 0.0, "image_shape": (16, 16, 1)},
}
LAYOUTS = {
    "data=8": ParallelConfig(),
    "data=4, fsdp=2": ParallelConfig(fsdp=2, min_fsdp_mib=0.0),
    "data=2, fsdp=4, rules": ParallelConfig(
        fsdp=4,
        rules=(
            (r"block/.*/query/kernel$", (None, "fsdp")),
            (r"mlp/.*kernel$", ("data", "fsdp")),
            ("", ()),
        ),
    ),
    **{
        f"2x2x2 {what}": ParallelConfig(fsdp=2, tensor=2, tensor_divides=what, min_fsdp_mib=0.0)
        for what in ("heads", "inputs", "latents")
    },
    "8 heads": ParallelConfig(tensor=8),
    "8 inputs": ParallelConfig(tensor=8, tensor_divides="inputs"),
    "2x4 latents": ParallelConfig(tensor=4, tensor_divides="latents"),
}
COMPARED = {
    "pixels": [layout for layout in LAYOUTS if layout not in ("8 inputs", "2x4 latents")],
    "conv": ["data=4, fsdp=2", "2x2x2 heads"],
    "rows": ["2x2x2 inputs", "8 inputs", "2x4 latents"],
    "accumulated": ["data=8", "2x2x2 heads"],
    "texts": ["2x2x2 heads", "2x2x2 inputs"],
    "music": ["2x2x2 heads", "2x2x2 inputs"],
}
"""Layouts by kind of run; what is accumulated in two parts is compared with a whole batch."""


def config(kind, layout=None, *, folder=None, parts=1):
    """A run whose losses stay close: Adam would blow up small differences of gradients."""
    changes = {
        "optimizer": OptimizerConfig(
            name="sgd", learning_rate=0.02, clip_norm=1.0, accumulate=parts
        ),
        "parallel": LAYOUTS.get(layout, ParallelConfig()),
    }
    if kind == "texts":
        return tiny_texts.language_model(folder, **changes)
    if kind == "music":
        return tiny_music.music_model(folder, **changes)
    encoder = IMAGES.get(kind, IMAGES["rows"])
    shape = encoder.get("image_shape", (8, 8, 1))
    return experiment(
        # As many as devices can share; by default they are those of the inputs.
        encoder=encoder | {"num_cross_attention_qk_channels": 8},
        data={"batch_size": 16, "synthetic_shape": shape},
        **changes,
    )


def adam(layout):
    """A run with an optimizer that keeps moments."""
    return dataclasses.replace(config("pixels", layout), optimizer=OptimizerConfig())


def saved(workdir, state, step):
    checkpoints = Checkpoints(workdir, CheckpointConfig(keep_last=9, keep_best=0))
    checkpoints.save(state, step=step, data={}, config={}, metrics={"accuracy": 0.0})
    checkpoints.close()


def restored(workdir, run, step):
    checkpoints = Checkpoints(workdir)
    state, _ = checkpoints.restore(step, run.like)
    checkpoints.close()
    return state


def layout_of(x):
    """How an array lies: its spec, and the shapes of its parts on the devices."""
    shapes = {shard.data.shape for shard in x.addressable_shards}
    return {"spec": str(x.sharding.spec), "shape": x.shape, "parts": sorted(shapes)}


def exactly(run, start):
    """Losses in float64, in which steps do not blow up how a layout rounds, and what they make.

    That are the lengths of all parameters and statistics after the steps, by path.
    """

    def widened(x):
        x = np.asarray(x)
        return np.float64(x) if np.issubdtype(x.dtype, np.floating) else x

    with jax.enable_x64(True):
        start = jax.device_put(jax.tree.map(widened, start), run.shardings)
        state, losses = run.losses(start, range(STEPS))
        after = jax.device_get({**state.params, **state.stats})
    return {"losses": losses, "after": {k: float(np.linalg.norm(x)) for k, x in after.items()}}


def on_eight(kind, folder):
    """What eight devices make of a kind of run, by layout."""
    result, start = {}, None
    for layout in COMPARED[kind]:
        run = Run(config(kind, layout, folder=folder, parts=2 if kind == "accumulated" else 1))
        start = jax.device_get(run.fresh()) if start is None else start
        result[layout] = exactly(run, start)
    return result


def on_many_devices(workdir):
    """What else needs eight devices, in one process: numbers and layouts as plain data."""
    result = {"devices": jax.device_count(), "layouts": {}, "step_after": {}}
    layout = "data=4, fsdp=2"
    run = Run(adam(layout))
    # What one device wrote, continued here; and written here, to be continued on one.
    state, result["step_after"]["one to eight"] = run.losses(restored(workdir, run, 2), range(2, 3))
    saved(workdir, state, 3)
    moments = state.opt_state[0]
    for path, x in state.params.items():
        result["layouts"][path] = [layout_of(y) for y in (x, moments.mu[path], moments.nu[path])]
    result["batch"] = layout_of(run.batch(0)["image"])
    _, result["step_after"]["eight to one"] = run.losses(state, range(3, 4))
    result["pmap"] = differences_to_pmap(state.params)
    return result


def differences_to_pmap(params):
    """Largest relative differences of loss and gradients to a step by `jax.pmap`, in float64."""
    kept = config("pixels")
    encoder = dataclasses.replace(kept.model.encoder, dropout=0.0)
    model = dataclasses.replace(kept.model, encoder=encoder)
    run = Run(dataclasses.replace(kept, model=model))
    task, batch = run.config.task, run.batch(0)
    batch = {"image": np.float64(batch["image"]), "label": np.asarray(batch["label"])}
    params = {path: np.float64(x) for path, x in params.items()}

    def loss(params, batch):
        total, weight = task.loss(run.skeleton.bind(params), batch, jax.random.key(0))["loss"]
        return total / weight

    def device_step(params, batch):
        return jax.lax.pmean(jax.value_and_grad(loss)(params, batch), "device")

    parts = {name: np.asarray(x).reshape(8, -1, *x.shape[1:]) for name, x in batch.items()}
    with jax.enable_x64(True):
        mapped = jax.pmap(device_step, axis_name="device", in_axes=(None, 0))(params, parts)
        want = jax.tree.map(lambda x: np.asarray(x)[0], mapped)
        jitted = jax.jit(jax.value_and_grad(loss))
        got = jax.device_get(jitted(params, parallel.to_devices(batch, run.mesh)))

    def error(a, b):
        """Relative to the scale, but for biases of keys: their gradients are rounding errors."""
        return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6))

    errors = jax.tree.map(error, got, want)
    return {"loss": errors[0], "gradients": max(errors[1].values())}


# ---- In this process, on one device --------------------------------------------------------------


@pytest.fixture(scope="module")
def run_there(on_eight_devices):
    """A function that evaluates an expression of this module where there are eight devices."""

    def run(expression):
        code = f"""
            import json, pathlib
            from tests.train import test_parallel as here
            print(json.dumps({expression}))
        """
        return json.loads(on_eight_devices(textwrap.dedent(code)).splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def many(run_there, tmp_path_factory):
    """What eight devices found, after and before steps of one device; see `on_many_devices`."""
    workdir = tmp_path_factory.mktemp("shared")
    run = Run(adam(None))
    state, _ = run.losses(run.fresh(), range(2))
    saved(workdir, state, 2)
    _, straight_on = run.losses(state, range(2, 4))
    result = run_there(f"here.on_many_devices(pathlib.Path({str(workdir)!r}))")
    _, back = run.losses(restored(workdir, run, 3), range(3, 4))
    return result | {"straight_on": straight_on, "back": back}


@pytest.mark.parametrize("kind", COMPARED)
def test_eight_devices_compute_what_one_does(run_there, tmp_path, kind):
    run = Run(config(kind, folder=tmp_path))
    want = exactly(run, jax.device_get(run.fresh()))
    assert len(set(want["losses"])) == STEPS
    for layout, got in run_there(f"here.on_eight({kind!r}, {str(tmp_path)!r})").items():
        np.testing.assert_allclose(got["losses"], want["losses"], rtol=1e-9, err_msg=layout)
        assert got["after"] == pytest.approx(want["after"], rel=1e-8, abs=1e-12), layout


def test_a_jitted_step_equals_a_pmapped_step(many):
    assert many["devices"] == 8
    assert many["pmap"]["loss"] <= 1e-12
    assert many["pmap"]["gradients"] <= 1e-9


def test_fsdp_divides_parameters_and_their_moments(many):
    divided = 0
    for path, (parameter, *moments) in many["layouts"].items():
        assert all(moment == parameter for moment in moments), path
        shape, parts = parameter["shape"], parameter["parts"]
        if any(size % 2 == 0 for size in shape):
            axis = max((i for i, n in enumerate(shape) if n % 2 == 0), key=lambda i: shape[i])
            assert parts == [[n // 2 if i == axis else n for i, n in enumerate(shape)]], path
            divided += 1
        else:
            assert parts == [shape], path
    assert divided > 20


def test_a_batch_is_divided_over_all_devices(many):
    assert many["batch"]["parts"] == [[2, 8, 8, 1]]


def test_a_checkpoint_of_one_device_goes_on_on_eight_and_back(many):
    third, fourth = many["straight_on"]
    assert many["step_after"]["one to eight"] == pytest.approx([third], rel=1e-6)
    assert many["step_after"]["eight to one"] == pytest.approx([fourth], rel=1e-6)
    assert many["back"] == pytest.approx([fourth], rel=1e-6)
