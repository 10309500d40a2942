"""Eight devices compute what one does, hold what they should, and refuse what cannot be divided."""

import dataclasses
import json
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from perceiver_jax.errors import UserError
from perceiver_jax.train import parallel
from perceiver_jax.train.checkpoint import CheckpointConfig, Checkpoints
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.parallel import ParallelConfig
from tests.train.tiny_runs import Run, experiment

STEPS = 4
ENCODERS = {
    "pixels": {"dropout": 0.1},
    "conv": {"preprocessing": "conv", "num_preprocessing_channels": 8},
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
}
COMPARED = [*(("pixels", layout) for layout in LAYOUTS), ("conv", "data=4, fsdp=2")]


def config(encoder, layout=None):
    """A run whose losses stay close: Adam would blow up small differences of gradients."""
    return experiment(
        encoder=ENCODERS[encoder],
        data={"batch_size": 16},
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.02, clip_norm=1.0),
        parallel=LAYOUTS.get(layout, ParallelConfig()),
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


def exact_losses(run, start):
    """Losses in float64, in which steps do not blow up how a layout rounds."""

    def widened(x):
        x = np.asarray(x)
        return np.float64(x) if np.issubdtype(x.dtype, np.floating) else x

    with jax.enable_x64(True):
        start = jax.device_put(jax.tree.map(widened, start), run.shardings)
        return run.losses(start, range(STEPS))[1]


def on_many_devices(workdir):
    """Everything that needs eight devices, in one process: numbers and layouts as plain data."""
    result = {"devices": jax.device_count(), "losses": {}, "layouts": {}, "step_after": {}}
    starts = {}
    for encoder, layout in COMPARED:
        run = Run(config(encoder, layout))
        if encoder not in starts:
            starts[encoder] = jax.device_get(run.fresh())
        result["losses"][f"{encoder}, {layout}"] = exact_losses(run, starts[encoder])
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
    result["pmap"] = differences_to_pmap(starts["pixels"].params)
    return result


def differences_to_pmap(params):
    """Largest relative differences of loss and gradients to a step by `jax.pmap`, in float64."""
    run = Run(experiment(encoder={"dropout": 0.0}, data={"batch_size": 16}))
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
def single():
    """Losses of one device by encoder."""
    runs = {encoder: Run(config(encoder)) for encoder in ENCODERS}
    starts = {encoder: jax.device_get(run.fresh()) for encoder, run in runs.items()}
    return {encoder: exact_losses(run, starts[encoder]) for encoder, run in runs.items()}


@pytest.fixture(scope="module")
def many(on_eight_devices, tmp_path_factory):
    """What eight devices found, after and before steps of one device; see `on_many_devices`."""
    workdir = tmp_path_factory.mktemp("shared")
    run = Run(adam(None))
    state, _ = run.losses(run.fresh(), range(2))
    saved(workdir, state, 2)
    _, straight_on = run.losses(state, range(2, 4))
    code = f"""
        import json, pathlib
        from tests.train import test_parallel
        print(json.dumps(test_parallel.on_many_devices(pathlib.Path({str(workdir)!r}))))
    """
    result = json.loads(on_eight_devices(textwrap.dedent(code)).splitlines()[-1])
    _, back = run.losses(restored(workdir, run, 3), range(3, 4))
    return result | {"straight_on": straight_on, "back": back}


@pytest.mark.parametrize(("encoder", "layout"), COMPARED)
def test_eight_devices_compute_the_losses_of_one(single, many, encoder, layout):
    assert many["devices"] == 8
    got = many["losses"][f"{encoder}, {layout}"]
    np.testing.assert_allclose(got, single[encoder], rtol=1e-9)
    assert len(set(got)) == STEPS


def test_a_jitted_step_equals_a_pmapped_step(many):
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


def test_what_cannot_be_divided_is_refused_on_eight_devices(on_eight_devices):
    code = """
        from perceiver_jax.errors import UserError
        from perceiver_jax.train import parallel
        from perceiver_jax.train.parallel import ParallelConfig

        for make in (
            lambda: parallel.check_batch_size("data.batch_size", 12),
            lambda: parallel.check_batch_size("data.batch_size", 24, 2),
            lambda: parallel.make_mesh(ParallelConfig(fsdp=3)),
        ):
            try:
                make()
            except UserError as error:
                print(error)
    """
    over, parts, fsdp = on_eight_devices(code).splitlines()
    assert over == ("data.batch_size=12 cannot be divided over 8 devices; choose a multiple of 8")
    assert parts.startswith("data.batch_size=24 cannot be divided over 8 devices times 2 parts")
    assert fsdp == "parallel.fsdp=3 does not divide the 8 devices; choose a divisor"


# ---- Rules, on an abstract mesh ------------------------------------------------------------------

SHAPES = {
    "a/kernel": jax.ShapeDtypeStruct((512, 1024), np.float32),
    "a/bias": jax.ShapeDtypeStruct((1024,), np.float32),
    "odd/kernel": jax.ShapeDtypeStruct((511, 1023), np.float32),
}


def specs(layout, sizes=(4, 2)):
    mesh = jax.sharding.AbstractMesh(sizes, parallel.AXES)
    shardings = parallel.parameter_shardings(SHAPES, mesh, layout)
    return {path: sharding.spec for path, sharding in shardings.items()}


def test_without_fsdp_and_rules_every_parameter_is_whole_everywhere():
    assert set(specs(ParallelConfig(), (8, 1)).values()) == {PartitionSpec()}


def test_fsdp_divides_only_what_is_large_and_divisible():
    got = specs(ParallelConfig(fsdp=2))
    assert got == {
        "a/kernel": PartitionSpec(None, "fsdp"),
        "a/bias": PartitionSpec(),
        "odd/kernel": PartitionSpec(),
    }
    assert specs(ParallelConfig(fsdp=2, min_fsdp_mib=0.0))["a/bias"] == PartitionSpec("fsdp")


def test_the_first_rule_found_in_the_path_decides():
    rules = (("^a/", ("data",)), ("kernel", ("fsdp", None)), ("", ()))
    got = specs(ParallelConfig(fsdp=2, rules=(rules[0], rules[2])))
    assert got["a/kernel"] == got["a/bias"] == PartitionSpec("data")
    assert got["odd/kernel"] == PartitionSpec()


@pytest.mark.parametrize(
    "rule",
    [("odd", ("fsdp",)), ("bias", (None, "fsdp")), ("a/kernel", (None, None, "data"))],
)
def test_a_rule_that_does_not_fit_names_the_parameter(rule):
    with pytest.raises(UserError, match="the sharding rule .* does not fit .* of shape"):
        specs(ParallelConfig(fsdp=2, rules=(rule,)))


def test_a_rule_with_an_unknown_mesh_axis_is_refused():
    with pytest.raises(ValueError, match=r"rule for 'kernel' names the mesh axes \['model'\]"):
        ParallelConfig(rules=(("kernel", ("model",)),))
    with pytest.raises(ValueError, match="fsdp=0 must be 1 or more"):
        ParallelConfig(fsdp=0)
