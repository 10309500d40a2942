"""Plans against sums by hand and published counts, and the command that prints them."""

import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import clm_small, imagenet_a, japanese_vowels, mnist
from perceiver_jax import params
from perceiver_jax.config import from_dict
from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.errors import UserError
from perceiver_jax.train import parallel
from perceiver_jax.train.accelerators import ACCELERATORS
from perceiver_jax.train.batch_shapes import batch_shapes
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.parallel import ParallelConfig
from perceiver_jax.train.plan import make_plan, memory_remedies, mesh_sizes, report, with_prefix
from perceiver_jax.train.program import make_program
from perceiver_jax.train.program_costs import read_costs
from tests.conftest import ROOT
from tests.train.tiny_runs import experiment

LAYOUTS = {
    "data=8": ParallelConfig(),
    "data=4, fsdp=2": ParallelConfig(fsdp=2, min_fsdp_mib=0.0),
    # Eleven channels of the input cannot be divided.
    "data=4, tensor=2": ParallelConfig(tensor=2, rules=(("encoder/cross_attention", ()),)),
}


def tiny(layout="data=8"):
    return experiment(data={"batch_size": 16}, parallel=LAYOUTS[layout])


def mesh():
    return parallel.make_mesh(ParallelConfig())


@pytest.fixture(scope="module")
def single():
    return make_plan(tiny(), mesh())


@pytest.fixture(scope="module")
def on_eight(on_eight_devices):
    """Plans of eight devices by layout, as plain data."""
    code = """
        import json
        from perceiver_jax.train import parallel
        from perceiver_jax.train.plan import make_plan
        from tests.train import test_plan

        plans = {}
        for layout in test_plan.LAYOUTS:
            config = test_plan.tiny(layout)
            plan = make_plan(config, parallel.make_mesh(config.parallel))
            kinds = {}
            for one, times in plan.costs.collectives.items():
                kinds[one.kind] = kinds.get(one.kind, 0) + times * one.num_bytes
            own = {"divided": plan.divided, "flops": dict(plan.costs.flops), "kinds": kinds}
            plans[layout] = vars(plan) | {"costs": None} | own
        print(json.dumps(plans))
    """
    return json.loads(on_eight_devices(code).splitlines()[-1])


def test_bytes_of_one_device_are_those_of_all_arrays(single):
    program = make_program(tiny(), mesh())
    num_parameters = params.count(program.shapes.params)
    assert single.num_parameters == num_parameters
    assert single.parameters == single.gradients == 4 * num_parameters
    # Adam has two moments, and counts its steps and those of the schedule.
    assert 2 * single.parameters <= single.optimizer <= 2 * single.parameters + 64
    assert single.batch == 16 * (8 * 8 * 4 + 4)
    assert single.statistics == 4
    assert single.temporaries > single.gradients
    assert single.total == single.state + single.batch + single.temporaries
    assert single.divided == 1.0


def test_work_grows_with_the_batch(single):
    twice = make_plan(experiment(data={"batch_size": 32}), mesh())
    assert 1.95 < twice.total_flops / single.total_flops <= 2.0


def test_eight_devices_divide_the_batch_and_the_work(single, on_eight):
    plan = on_eight["data=8"]
    assert plan["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1}
    assert plan["parameters"] == single.parameters
    assert plan["batch"] == single.batch / 8
    # What does not depend on the batch, such as queries made of latents, every device does itself.
    assert 0.8 < plan["divided"] <= 1.0
    assert set(plan["kinds"]) == {"all-reduce"}


def test_fsdp_divides_what_stays_and_gathers_it_again(single, on_eight):
    plan = on_eight["data=4, fsdp=2"]
    shapes = [x.shape for x in make_program(tiny(), mesh()).shapes.params.values()]
    halved = [math.prod(shape) // (2 if any(n % 2 == 0 for n in shape) else 1) for shape in shapes]
    assert plan["parameters"] == plan["gradients"] == 4 * sum(halved) < single.parameters
    counters = single.optimizer - 2 * single.parameters
    assert plan["optimizer"] == 2 * plan["parameters"] + counters
    # Each parameter once; activations would be many times as much.
    kinds = plan["kinds"]
    assert 0.5 * single.parameters < kinds["all-gather"] <= single.parameters
    # The compiler may exchange the gradient of the few queries otherwise: some bytes.
    assert kinds.keys() - {"all-gather", "all-reduce"} <= {"collective-permute"}
    assert kinds.get("collective-permute", 0) < 0.01 * single.parameters


def test_tensor_divides_parameters_and_work(single, on_eight):
    plan = on_eight["data=4, tensor=2"]
    assert plan["batch"] == single.batch / 4
    assert plan["parameters"] < 0.8 * single.parameters
    assert "all-reduce" in plan["kinds"]


def test_operations_of_imagenet_a_are_those_of_the_paper():
    """Tower 360.8 and whole model 406 GFLOP an image, by the sizes of its matrices; times three.

    The input is attended to by its structure, in fewer operations than the matrices have.
    """
    config = from_dict(ExperimentConfig, imagenet_a.get_config())
    program = make_program(config, mesh())
    lowered = program.train_step.lower(program.shapes, batch_shapes(config, mesh()))
    flops = read_costs(lowered.as_text(dialect="hlo")).flops
    assert set(flops) == {"f32"}
    per_image = flops["f32"] / config.data.batch_size / 1e9
    assert 3 * 360.8 < per_image < 3 * 406


# ---- Shapes of batches ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "mixed images", "text"])
def test_shapes_are_those_of_the_batches_of_the_run(name):
    config = {
        "images": experiment,
        "mixed images": lambda: from_dict(ExperimentConfig, imagenet_a.get_config("smoke")),
        "text": lambda: from_dict(ExperimentConfig, clm_small.get_config("smoke")),
    }[name]()
    batches = config.task.batches(config.data, training=True, seed=0, shard=Shard())
    iterator = iterate(batches)
    batch = jax.tree.map(np.asarray, dict(next(iterator)))
    iterator.close()
    got = batch_shapes(config, mesh())
    assert {k: (x.shape, x.dtype) for k, x in got.items()} == {
        k: (x.shape, x.dtype) for k, x in batch.items()
    }


def test_no_dataset_is_needed_but_for_other_labelled_data(tmp_path):
    config = from_dict(ExperimentConfig, imagenet_a.get_config())
    got = batch_shapes(config, mesh())
    assert got["image"].shape == (1024, 224, 224, 3)
    assert got["target"].shape == (1024, 1000)
    digits = batch_shapes(from_dict(ExperimentConfig, mnist.get_config()), mesh())
    assert digits["image"].shape[1:] == (28, 28, 1)
    series = from_dict(ExperimentConfig, japanese_vowels.get_config())
    data = dataclasses.replace(series.data, dataset="csv", data_dir=str(tmp_path))
    with pytest.raises(UserError):
        batch_shapes(dataclasses.replace(series, data=data), mesh())


# ---- Memory --------------------------------------------------------------------------------------


def said(plan, chosen, remedies=()):
    """What a report says of accelerators with so many bytes of memory."""
    any_one = ACCELERATORS["h200"]
    console = Console(width=400, record=True, file=io.StringIO())
    made = {
        name: dataclasses.replace(any_one, memory=num_bytes / 1e9)
        for name, num_bytes in chosen.items()
    }
    console.print(report(plan, made, remedies))
    return [line for line in console.export_text().splitlines() if "does not fit" in line]


def test_what_does_not_fit_is_said_with_remedies(single):
    chosen = {"enough": single.total, "small": single.total - 1, "tiny": single.state + 1}
    (line,) = said(single, chosen, ["lower this", "take that"])
    assert "small (" in line and "tiny (" in line and "enough" not in line
    assert line.endswith("; lower this, take that, or more devices")
    assert said(single, {"enough": single.total}) == []


def test_parameters_that_do_not_fit_can_only_be_divided(single):
    (line,) = said(single, {"tiny": single.state - 1}, ["lower this"])
    assert "parameters and moments alone are" in line and line.endswith("by fsdp")
    assert "lower this" not in line


def test_only_remedies_that_apply_to_the_config_are_given():
    config = from_dict(ExperimentConfig, imagenet_a.get_config())
    batch = ["lower data.batch_size", "raise optimizer.accumulate"]
    dtypes = "take model.encoder.compute_dtype and model.decoder.compute_dtype bfloat16"
    remat = "take model.encoder.remat dots or full"
    assert memory_remedies(config, {"data": 8, "tensor": 2}) == [*batch, dtypes, remat]
    assert memory_remedies(config, {"data": 512, "fsdp": 2}) == [dtypes, remat]
    whole: Any = config.model
    half = dataclasses.replace(whole.encoder, compute_dtype="bfloat16", remat="dots")
    halved = dataclasses.replace(config, model=dataclasses.replace(whole, encoder=half))
    assert memory_remedies(halved, {"data": 8}) == [
        *batch,
        "take model.decoder.compute_dtype bfloat16",
        "take model.encoder.remat full",
    ]
    causal = from_dict(ExperimentConfig, clm_small.get_config())
    model = dataclasses.replace(causal.model, compute_dtype="bfloat16", remat="full")
    causal = dataclasses.replace(causal, model=model)
    assert memory_remedies(causal, {"data": 1}) == batch


# ---- The command ---------------------------------------------------------------------------------


def test_a_mesh_takes_from_the_config_what_is_not_named():
    config = ParallelConfig(fsdp=4)
    assert mesh_sizes("data=8", config) == {"data": 8, "fsdp": 4, "tensor": 1}
    assert mesh_sizes("tensor=2, fsdp=1", config) == {"data": 1, "fsdp": 1, "tensor": 2}


@pytest.mark.parametrize(
    "written", ["", "8", "data", "data=0", "data=x", "model=2", "data=2,data=4"]
)
def test_what_is_no_mesh_is_refused(written):
    with pytest.raises(UserError, match="is no mesh: .* should be one of data, fsdp, tensor"):
        mesh_sizes(written, ParallelConfig())


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "perceiver_jax.train.plan", *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_plans_for_devices_that_are_not_there():
    done = command(
        "--config=tests/train/tiny_runs.py",
        "--config.data.batch_size=16",
        "--config.parallel.min_fsdp_mib=0.0",
        "--mesh=data=4,fsdp=4",
    )
    assert done.returncode == 0, done.stderr
    assert "batch 16, 16 device(s): data=4 × fsdp=4 × tensor=1" in done.stdout
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
    assert {"parameters", "all-reduce", "all-gather", "h200", "tpu_v6e"} <= set(rows)
    assert rows["h200"][-3:] == ["links", "≈", "0%"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config=FILE and --mesh"),
        (["--mesh=data=3"], "data.batch_size=8 cannot be divided over 3 devices"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments, message):
    done = command("--config=tests/train/tiny_runs.py", *arguments)
    assert done.returncode == 1
    assert f"error: {message}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "unit", "said"),
    [
        (0, "B", "0 B"),
        (4, "B", "4 B"),
        (999, "B", "999 B"),
        (6_924, "B", "6.92 kB"),
        (1.5712e12, "B", "1.57 TB"),
        (999_960, "B", "1.00 MB"),
        (0.0357, "s", "35.7 ms"),
        (4.5e-10, "s", "450 ps"),
        (1.143e15, "FLOP", "1.14 PFLOP"),
        (2e19, "FLOP", "20,000 PFLOP"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(number, unit, said):
    assert with_prefix(number, unit) == said


def test_no_quantity_of_a_small_model_is_shown_as_nothing(single):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report(single, ACCELERATORS))
    shown = console.export_text()
    assert "0.000" not in shown and "0.0 ms" not in shown
    assert f"parameters  {with_prefix(single.parameters, 'B'):>10}".split() == next(
        line.split() for line in shown.splitlines() if line.split()[:1] == ["parameters"]
    )
