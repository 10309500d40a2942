"""What the `tensor` axis divides: the work of a device, its memory, and saved states."""

import dataclasses
import json
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from perceiver_jax.train import parallel
from perceiver_jax.train.parallel import ParallelConfig
from tests.train.test_parallel import LAYOUTS, adam, config, layout_of, restored, saved
from tests.train.tiny_runs import Run

GROUP = 4
"""Devices that share an example where work is counted."""
DIVIDED = ("heads", "inputs", "latents")
BFLOAT16_TOLERANCE = 0.01
READ_INTO = ("data=8", "data=4, fsdp=2", "8 heads", "2x2x2 latents", "2x4 latents")


def work_of_a_device(what, size):
    """Multiplications and additions of a step on so many devices that share the work.

    Of loops one turn is counted.
    """
    run = config("rows")
    if what == "inputs":
        shape, channels, layers = (2, 2048, 1), 8, {}
    else:
        shape, channels = (16, 16, 1), 64
        layers = {"num_self_attention_layers_per_block": 4, "num_self_attention_heads": 4}
    encoder = dataclasses.replace(
        run.model.encoder, image_shape=shape, num_cross_attention_qk_channels=channels, **layers
    )
    model = dataclasses.replace(
        run.model, encoder=encoder, num_latents=32, num_latent_channels=channels
    )
    data = dataclasses.replace(run.data, synthetic_shape=shape, batch_size=4)
    layout = ParallelConfig(tensor=size, tensor_divides=what)
    run = dataclasses.replace(run, model=model, data=data, parallel=layout)
    mesh = Mesh(np.array(jax.devices()[:size]).reshape(1, 1, size), parallel.AXES)
    run = Run(run, mesh=mesh, donate=True)
    return run.step.lower(run.like, run.batch(0)).compile().cost_analysis()["flops"]


def losses_in(dtype, layout):
    """Losses of steps in float32 parameters, products in this type."""
    run = config("rows", layout)
    encoder = dataclasses.replace(run.model.encoder, compute_dtype=dtype)
    decoder = dataclasses.replace(run.model.decoder, compute_dtype=dtype)
    model = dataclasses.replace(run.model, encoder=encoder, decoder=decoder)
    run = Run(dataclasses.replace(run, model=model))
    return run.losses(run.fresh(), range(4))[1]


def on_many_devices(workdir):
    """Everything that needs eight devices, as plain data."""
    result = {"work": {what: [work_of_a_device(what, n) for n in (1, GROUP)] for what in DIVIDED}}
    result["bfloat16"] = {
        layout: losses_in("bfloat16", layout) for layout in LAYOUTS if layout.startswith("2x2x2")
    }
    # Saved from one layout, read into each other.
    run = Run(adam("2x2x2 heads"))
    state, _ = run.losses(run.fresh(), range(1))
    saved(workdir, state, 1)
    wanted = jax.device_get(state)
    result["same"] = {}
    for layout in READ_INTO:
        other = Run(adam(layout))
        found = restored(workdir, other, 1)
        pairs = zip(jax.tree.leaves(jax.device_get(found)), jax.tree.leaves(wanted), strict=True)
        lies = jax.tree.map(lambda x, where: x.sharding == where, found, other.shardings)
        result["same"][layout] = [
            all(np.array_equal(a, b) for a, b in pairs),
            all(jax.tree.leaves(lies)),
        ]
    moments = state.opt_state[0]
    result["layouts"] = {
        path: [layout_of(x) for x in (array, moments.mu[path], moments.nu[path])]
        for path, array in state.params.items()
    }
    return result


@pytest.fixture(scope="module")
def many(on_eight_devices, tmp_path_factory):
    """What eight devices found."""
    workdir = str(tmp_path_factory.mktemp("tensor"))
    code = f"""
        import json, pathlib
        from tests.train import test_parallel_tensor
        print(json.dumps(test_parallel_tensor.on_many_devices(pathlib.Path({workdir!r}))))
    """
    return json.loads(on_eight_devices(textwrap.dedent(code)).splitlines()[-1])


@pytest.mark.parametrize("what", DIVIDED)
def test_the_work_of_a_device_is_divided(many, what):
    alone, shared = many["work"][what]
    assert shared < 1.6 * alone / GROUP, shared / alone


def test_bfloat16_trains_as_float32_does(many):
    want = losses_in("float32", None)
    for layout, got in many["bfloat16"].items():
        np.testing.assert_allclose(got, want, rtol=BFLOAT16_TOLERANCE, err_msg=layout)
        assert not np.array_equal(got, want), layout


@pytest.mark.parametrize("layout", READ_INTO)
def test_a_checkpoint_is_read_into_any_layout_bit_for_bit(many, layout):
    same_values, where_they_lie = many["same"][layout]
    assert same_values and where_they_lie


def test_moments_are_divided_like_their_parameters(many):
    parts = {}
    for path, (parameter, *moments) in many["layouts"].items():
        assert all(moment == parameter for moment in moments), path
        parts[path] = parameter["parts"]
    layer = "encoder/block/0/layer/0/"
    assert parts[layer + "attention/query/kernel"] == [[4, 4]]
    assert parts[layer + "attention/query/bias"] == [[4]]
    assert parts[layer + "mlp/output/kernel"] == [[4, 4]]
