"""`python -m perceiver_jax.train.plan --config=FILE --mesh=data=8,fsdp=4`: a run on other devices.

- The train step is compiled for as many simulated devices as the mesh has, from shapes alone:
  there need be no such devices here, no data, and no memory for the parameters.
- Bytes of parameters, moments and batches, operations, and what devices send each other are those
  of the partitioner, and carry over to every backend. Temporaries are those of XLA's program for
  CPUs, which fuses and computes attention otherwise than that for an accelerator: an estimate.
- Times are ideals, which no run reaches: everything at its peak, and side by side.
"""

if __name__ == "__main__":  # before what takes long to import
    from perceiver_jax.command import stop_without_trace

    stop_without_trace()

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from perceiver_jax import params
from perceiver_jax.config import from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train import accelerators, command_line, parallel
from perceiver_jax.train.accelerators import ACCELERATORS, Accelerator, IdealTime
from perceiver_jax.train.batch_shapes import batch_shapes
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.program import make_program
from perceiver_jax.train.program_costs import Costs, read_costs
from perceiver_jax.train.sharding_rules import AXES, ParallelConfig

PREFIXES = ("p", "n", "µ", "m", "", "k", "M", "G", "T", "P")
"""Of units, from 1e-12 on."""
COMPILER_OPTIONS = {
    "xla_dump_hlo_pass_re": "spmd-partitioning",
    # The program is looked at and never run.
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A train step on a mesh; bytes and costs are those of each device.

    Attributes:
        mesh: size of each axis.
        batch_size: examples on all devices.
        num_parameters: of the model.
        parameters: bytes, as are the next five.
        statistics: of batch norms, and the number of the step.
        optimizer: moments.
        gradients: of what is trained; a part of the temporaries.
        batch: one of them; a run reads ahead two more.
        temporaries: what the step keeps in between, as compiled for CPUs.
        costs: operations and exchanges of one device.
        total_flops: of all devices together, if none repeated what another does.
    """

    mesh: Mapping[str, int]
    batch_size: int
    num_parameters: int
    parameters: int
    statistics: int
    optimizer: int
    gradients: int
    batch: int
    temporaries: int
    costs: Costs
    total_flops: float

    @property
    def num_devices(self) -> int:
        """Of the mesh."""
        return math.prod(self.mesh.values())

    @property
    def state(self) -> int:
        """Bytes that stay from step to step."""
        return self.parameters + self.statistics + self.optimizer

    @property
    def total(self) -> int:
        """Bytes that a device needs."""
        return self.state + self.batch + self.temporaries

    @property
    def divided(self) -> float:
        """Part of a device's operations that no other repeats."""
        done = sum(self.costs.flops.values()) * self.num_devices
        return self.total_flops / done if done else 1.0

    def ideal_time(self, accelerator: Accelerator) -> IdealTime:
        """The least time of a step.

        Raises:
            UserError: see `accelerators.ideal_time`.
        """
        moved = 2 * self.state + self.batch
        return accelerators.ideal_time(accelerator, self.costs, moved_bytes=moved)


def make_plan(config: ExperimentConfig, mesh: Mesh) -> Plan:
    """Compiles the train step, and reads from it what it takes.

    Raises:
        UserError: the batch, the parameters or the inputs cannot be divided over the mesh.
    """
    parallel.check_batch_size(
        "data.batch_size",
        config.data.batch_size,
        config.optimizer.accumulate,
        tensor=config.parallel.tensor,
    )
    program = make_program(config, mesh)
    batch = batch_shapes(config, mesh)
    lowered = program.train_step.lower(program.shapes, batch)
    whole, partitioned, temporaries = _compile(lowered)
    state = program.shapes
    return Plan(
        mesh=dict(mesh.shape),
        batch_size=config.data.batch_size,
        num_parameters=params.count(state.params),
        parameters=_bytes(state.params),
        statistics=_bytes((state.stats, state.step)),
        optimizer=_bytes(state.opt_state),
        gradients=_bytes([state.params[path] for path in program.trained]),
        batch=_bytes(batch),
        temporaries=temporaries,
        costs=read_costs(partitioned),
        total_flops=sum(read_costs(whole).flops.values()),
    )


def _compile(lowered: Any) -> tuple[str, str, int]:
    """The program before it was partitioned and after, and bytes of temporaries of a device."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = lowered.compile(compiler_options=COMPILER_OPTIONS | {"xla_dump_to": folder})
        (whole,) = Path(folder).glob("*.before_optimizations.txt")
        # For one device nothing is partitioned.
        partitioned = next(Path(folder).glob("*.after_spmd-partitioning.*"), whole)
        memory = compiled.memory_analysis()
        unaliased = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return whole.read_text(), partitioned.read_text(), memory.temp_size_in_bytes + unaliased


def _bytes(shapes: Any) -> int:
    """What one device holds of them."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
    )


# ---- What is shown -------------------------------------------------------------------------------


def report(
    plan: Plan, chosen: Mapping[str, Accelerator], remedies: Sequence[str] = ()
) -> RenderableType:
    """A plan in words and tables, with the least time of a step on some accelerators.

    Args:
        plan: what is shown.
        chosen: accelerators by name.
        remedies: what makes the plan take less memory; said where it does not fit.
    """
    axes = " × ".join(f"{axis}={size}" for axis, size in plan.mesh.items())
    lines = [
        Text(
            f"{plan.num_parameters:,} parameters, batch {plan.batch_size:,}, "
            f"{plan.num_devices:,} device(s): {axes}"
        ),
        _memory_table(plan),
        _work_table(plan),
    ]
    if plan.costs.collectives:
        lines.append(_exchange_table(plan))
    lines.append(_time_table(plan, chosen))
    too_small = {
        name: accelerator.memory
        for name, accelerator in chosen.items()
        if plan.total / 1e9 > accelerator.memory
    }
    if too_small:
        lines.append(Text(_misfit(plan, too_small, remedies)))
    if plan.costs.unknown_loops:
        lines.append(
            Text(
                f"{plan.costs.unknown_loops} loop(s) run as often as their data says; their bodies "
                "are counted once."
            )
        )
    lines.append(
        Text(
            "≈ is an estimate from XLA's program for CPUs, which keeps much of bfloat16 in "
            "float32; full is the part of an accelerator's memory that this takes. Times are "
            "ideals: all at peak and side by side, without reads and writes of temporaries."
        )
    )
    return Group(*lines)


def _misfit(plan: Plan, too_small: Mapping[str, float], remedies: Sequence[str]) -> str:
    """What does not fit into accelerators, by name the GB of each, and what would help."""
    names = ", ".join(f"{name} ({memory:g} GB)" for name, memory in too_small.items())
    misfit = f"does not fit: a device needs ≈ {plan.total / 1e9:,.3g} GB, more than {names}; "
    if plan.state / 1e9 > max(too_small.values()):
        return (
            f"{misfit}parameters and moments alone are {plan.state / 1e9:,.3g} GB: divide them "
            "over more devices by fsdp"
        )
    return misfit + ", ".join([*remedies, "or more devices" if remedies else "take more devices"])


def _memory_table(plan: Plan) -> Table:
    table = _table("memory of a device", "")
    for name, number, mark in (
        ("parameters", plan.parameters, ""),
        ("optimizer", plan.optimizer, ""),
        ("batch statistics, step", plan.statistics, ""),
        ("batch", plan.batch, ""),
        ("temporaries", plan.temporaries, "≈ "),
        ("  gradients among them", plan.gradients, ""),
        ("in all", plan.total, "≈ "),
    ):
        table.add_row(name, f"{mark}{with_prefix(number, 'B')}")
    return table


def _work_table(plan: Plan) -> Table:
    table = _table("operations of a step", "")
    for dtype, number in sorted(plan.costs.flops.items()):
        table.add_row(f"of a device, {dtype}", with_prefix(number, "FLOP"))
    table.add_row("of all, if none repeats another's", with_prefix(plan.total_flops, "FLOP"))
    table.add_row("part that none repeats", f"{plan.divided:.1%}")
    return table


def _exchange_table(plan: Plan) -> Table:
    table = _table("exchange", "devices", "times", "arrays", "sent by each")
    rows: dict[tuple[str, int], tuple[int, float, float]] = {}
    for one, times in plan.costs.collectives.items():
        key = (one.kind, len(one.group))
        count, size, sent = rows.get(key, (0, 0.0, 0.0))
        rows[key] = (
            count + times,
            size + times * one.num_bytes,
            sent + times * one.sent_bytes,
        )
    for (kind, devices), (count, size, sent) in sorted(rows.items(), key=lambda row: -row[1][2]):
        moved = with_prefix(size, "B"), with_prefix(sent, "B")
        table.add_row(kind, str(devices), f"{count:,}", *moved)
    return table


def _time_table(plan: Plan, chosen: Mapping[str, Accelerator]) -> Table:
    table = _table("least time of a step", "compute", "memory", "links", "all", "limit", "full")
    for name, accelerator in chosen.items():
        full = f"≈ {plan.total / 1e9 / accelerator.memory:,.0%}"
        try:
            time = plan.ideal_time(accelerator)
        except UserError:
            if len(chosen) == 1:
                raise
            table.add_row(name, "", "", "", "", "pod size", full)
            continue
        numbers = (time.compute, time.memory, time.links, time.total)
        table.add_row(name, *(with_prefix(number, "s") for number in numbers), time.limit, full)
    return table


def with_prefix(number: float, unit: str) -> str:
    """Three significant digits with the prefix that suits: 1.57 TB, 35.7 ms, 0 B."""
    if not number:
        return f"0 {unit}"
    number = float(f"{number:.2e}")  # 999.9 is 1,000, and takes the next prefix
    power = min(max(math.floor(math.log10(number) / 3), -4), 5)
    scaled = number / 1000.0**power
    digits = max(0, 2 - math.floor(math.log10(scaled)))
    if unit == "B" and power == 0:  # there are no parts of bytes
        digits = 0
    return f"{scaled:,.{digits}f} {PREFIXES[power + 4]}{unit}"


def _table(first: str, *numbers: str) -> Table:
    """A table whose first column has names and whose others have numbers."""
    table = Table(first, box=box.SIMPLE_HEAD)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def memory_remedies(config: ExperimentConfig, mesh: Mapping[str, int]) -> list[str]:
    """What a user can change in a config so that a device needs less memory.

    Args:
        config: what was planned.
        mesh: size of each axis.
    """
    found = []
    groups = math.prod(size for axis, size in mesh.items() if axis != "tensor")
    if config.data.batch_size > groups * config.optimizer.accumulate:
        found = ["lower data.batch_size", "raise optimizer.accumulate"]
    model = config.model
    halves = {f"model.{half}": getattr(model, half, None) for half in ("encoder", "decoder")}
    parts = {"model": model} | halves
    wide = [
        f"{name}.compute_dtype"
        for name, part in parts.items()
        if getattr(part, "compute_dtype", None) == "float32"
    ]
    if wide:
        found.append(f"take {' and '.join(wide)} bfloat16")
    for name, part in parts.items():
        remat = getattr(part, "remat", "full")
        if remat in ("none", "dots", False):
            found.append(f"take {name}.remat {'full' if remat == 'dots' else 'dots or full'}")
    return found


# ---- The command ---------------------------------------------------------------------------------


def mesh_sizes(written: str, config: ParallelConfig) -> dict[str, int]:
    """`data=8,fsdp=4` as sizes of all mesh axes; the config's where an axis is not named.

    Raises:
        UserError: it is written otherwise.
    """
    sizes = {"data": 1, "fsdp": config.fsdp, "tensor": config.tensor}
    named: set[str] = set()
    for part in written.split(","):
        axis, _, size = part.strip().partition("=")
        if axis not in AXES or axis in named or not size.isdecimal() or int(size) < 1:
            raise UserError(
                f"--mesh={written} is no mesh: '{part}' should be one of {', '.join(AXES)}, each "
                "once, with a number of devices, as in data=8,fsdp=4"
            )
        named.add(axis)
        sizes[axis] = int(size)
    return sizes


def main() -> None:
    """Reads the flags, simulates the devices, and prints the plan."""
    values = flags.FLAGS
    if values.config is None or values.mesh is None:
        raise UserError("give --config=FILE and --mesh=data=8,fsdp=4, or another mesh")
    chosen = (
        {values.accelerator: accelerators.find(values.accelerator)}
        if values.accelerator
        else ACCELERATORS
    )
    config = from_dict(ExperimentConfig, values.config)
    sizes = mesh_sizes(values.mesh, config.parallel)
    layout = dataclasses.replace(config.parallel, fsdp=sizes["fsdp"], tensor=sizes["tensor"])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", math.prod(sizes.values()))
    # A program that is found on disk is not partitioned again.
    jax.config.update("jax_enable_compilation_cache", False)
    config = dataclasses.replace(config, parallel=layout)
    plan = make_plan(config, parallel.make_mesh(layout))
    Console().print(report(plan, chosen, memory_remedies(config, sizes)))


if __name__ == "__main__":
    command_line.define_config()
    flags.DEFINE_string("mesh", None, "devices on each axis of the mesh, as in data=8,fsdp=4")
    flags.DEFINE_string("accelerator", None, f"one of {', '.join(ACCELERATORS)}; all by default")
    command_line.run(main, expected=("config", "mesh"))
