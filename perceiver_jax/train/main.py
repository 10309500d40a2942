"""`python -m perceiver_jax.train.main --config=FILE`: trains, or goes on training.

One run, top to bottom. What a task is lies in `tasks`, what a step does in `step`.
"""

if __name__ == "__main__":  # before what takes long to import
    from perceiver_jax.command import stop_without_trace

    stop_without_trace()

import contextlib
import functools
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import grain
import jax
from absl import flags
from ml_collections import config_dict, config_flags

from perceiver_jax import params as parameters
from perceiver_jax.config import from_dict, to_dict
from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Release
from perceiver_jax.pretrained import open_source
from perceiver_jax.train import command_line, full_disk, hosts, parallel
from perceiver_jax.train.checkpoint import Checkpoints, newest
from perceiver_jax.train.config import (
    ExperimentConfig,
    check_resumable,
    check_same_card,
    make_workdir,
    write_card,
    write_config,
)
from perceiver_jax.train.device_meter import DeviceMeter
from perceiver_jax.train.evaluation import Evaluator
from perceiver_jax.train.initialisation import (
    check_tokenizer,
    described_start,
    inherited,
    initial_arrays,
)
from perceiver_jax.train.interruption import Interruption, Preempted, Request
from perceiver_jax.train.metrics import MetricsWriter, read_rows
from perceiver_jax.train.plots import plot_curves, save_picture
from perceiver_jax.train.program import make_program
from perceiver_jax.train.progress import ProgressReport
from perceiver_jax.train.stopwatch import Stopwatch
from perceiver_jax.train.tasks import Media, Task
from perceiver_jax.train.trace import Tracer
from perceiver_jax.typing import Params


def train(
    config: ExperimentConfig | config_dict.ConfigDict, workdir: str | os.PathLike[str]
) -> dict[str, float]:
    """Trains a model, resuming where an earlier run in the same workdir stopped.

    Args:
        config: the whole run, also as config files return it.
        workdir: where checkpoints, metrics and plots go.

    Returns:
        Held-out metrics after the last step.

    Raises:
        UserError: something outside the code is wrong: the data, the workdir, a full disk, a loss
            that is no longer finite.
        Preempted: SIGTERM came; the run is saved and goes on when it is called again.
        KeyboardInterrupt: Ctrl-C was pressed; the same.
    """
    whole, folder = from_dict(ExperimentConfig, config), Path(workdir)
    with full_disk.explained(folder), contextlib.ExitStack() as stack:
        return _train(whole, folder, stack)


def _train(
    config: ExperimentConfig, workdir: Path, stack: contextlib.ExitStack
) -> dict[str, float]:
    """The run; what it opens is closed with the stack."""
    # ---- Config ---------------------------------------------------------------------------------
    task = cast(Task, config.task)
    check_tokenizer(config.data, config.pretrained)
    task.check(config.model, config.data)
    card, files = task.card(config.model, config.data), task.files(config.data)

    # ---- What will be compiled, and where to start: nothing large has been read or written yet --
    mesh = parallel.make_mesh(config.parallel)
    parallel.check_batch_size(
        "data.batch_size",
        config.data.batch_size,
        config.optimizer.accumulate,
        tensor=config.parallel.tensor,
    )
    program = make_program(config, mesh)
    earlier = newest(workdir)
    initial: Params = {}
    start: str | None = None
    if earlier is not None:
        check_resumable(earlier.config, config, earlier.step, workdir)
        check_same_card(workdir, card, files)
    elif config.pretrained.source is not None:
        found = open_source(config.pretrained.source)
        wanted = Release(config=config.model, arrays={}, card=card, files=files)
        initial = initial_arrays(found, config.pretrained, wanted, program.skeleton)
        start = described_start(
            config.pretrained.source, found.card.origin, initial, program.skeleton
        )
        card = inherited(card, found.card, config.pretrained)

    # ---- Data -----------------------------------------------------------------------------------
    batches = task.batches(
        config.data,
        training=True,
        seed=config.seed,
        shard=Shard(jax.process_index(), jax.process_count()),
    )
    evaluator = Evaluator(config, program)
    config.checkpoint.check(evaluator.metric_names())
    make_workdir(workdir)

    # ---- State: fresh, or restored --------------------------------------------------------------
    checkpoints = Checkpoints(workdir, config.checkpoint)
    stack.callback(checkpoints.close)
    iterator = iterate(batches)
    stack.callback(iterator.close)
    save = functools.partial(checkpoints.save, config=to_dict(config))
    first_step = 0 if earlier is None else earlier.step
    if first_step:
        by_position = isinstance(batches, grain.MapDataset)
        train_state, position = checkpoints.restore(
            first_step, program.shapes, by_position=by_position
        )
        iterator.set_state(dict(position))
    else:
        train_state = parallel.replaced(program.create(), initial)
        write_card(workdir, card, files)
    write_config(workdir, config)

    # ---- Loop -----------------------------------------------------------------------------------
    interruption = stack.enter_context(Interruption())
    greatest = hosts.Greatest(mesh)
    writer = stack.enter_context(MetricsWriter(workdir, first_step=first_step))
    report = stack.enter_context(ProgressReport(config.num_steps, first_step))
    report.line(
        f"{described_size(program.skeleton.params, program.trained)}, {jax.device_count()} "
        f"{jax.devices()[0].platform} device(s), steps {first_step:,} to {config.num_steps:,}, "
        f"workdir {workdir}"
    )
    report.line(f"every row of metrics: {writer.path}")
    if start is not None:
        report.line(start)
    tracer = stack.enter_context(Tracer(workdir, report.line))
    stopwatch, meter = Stopwatch(), None
    held_out: dict[str, float] = {}
    media = Media()
    before: dict[int, Any] = {}
    data = parallel.read_ahead(iterator, mesh)
    for step in range(first_step + 1, config.num_steps + 1):
        with stopwatch.waiting_for_data():
            batch, position = next(data)
        tracer.before_step()
        with jax.transfer_guard("disallow"):
            train_state, metrics = program.train_step(train_state, batch)
        tracer.after_step(metrics)
        report.step(step)

        last = step == config.num_steps
        logging = step % config.log_every == 0 or last
        saving = step % config.checkpoint.every == 0 or last
        evaluating = step % config.eval_every == 0 or saving
        with stopwatch.waiting_for_devices():
            request = greatest(interruption.request)
        ending = request != Request.GO_ON
        interruption.unsaved = step - checkpoints.saved

        # The device works on this step while the one before is looked at.
        now = {step: metrics}
        looked_at = before | now if logging or evaluating or ending else before
        with stopwatch.waiting_for_devices():
            values = {number: on_host(found) for number, found in looked_at.items()}
        for number, found in values.items():
            if not all(map(math.isfinite, found.values())):
                save(train_state, step=step, data=position, metrics={})
                checkpoints.wait()
                raise UserError(broken_down(number, found, step, workdir))
        before = now

        row: dict[str, float] = {}
        if logging:
            row |= tagged("train", values[step])
            row |= stopwatch.lap(step - first_step, config.data.batch_size)
            with stopwatch.paused():
                meter = meter or DeviceMeter(config, batch)
            row |= meter.row(row["perf/steps_per_s"])
            report.metrics(step, row)
        if evaluating and not ending:
            with stopwatch.paused():
                held_out = evaluator.metrics(train_state.model_params, train_state.stats)
                media = evaluator.show(train_state.model_params, train_state.stats)
            row |= tagged("eval", held_out)
            writer.media(step, media.images, media.texts, media.sounds)
            when = "final" if last else f"step {step:,}"
            report.line(f"{when}  held-out  {described(held_out)}")
            for line in media.lines:
                report.line(line)
        if row:
            writer.scalars(step, row)
        if ending:
            save(train_state, step=step, data=position, metrics={})
            checkpoints.wait()
            saved = f"saved step {step:,}; the same command goes on from there"
            if request == Request.STOP:
                raise KeyboardInterrupt(f"stopped; {saved}")
            report.line(f"{saved} (exit code 75)")
            raise Preempted
        if saving:
            with stopwatch.paused():
                save(train_state, step=step, data=position, metrics=held_out)

    # ---- Final evaluation: that of the last step, or anew where no step was left -------------
    if not held_out:
        held_out = evaluator.metrics(train_state.model_params, train_state.stats)
        media = evaluator.show(train_state.model_params, train_state.stats)
        report.line(f"final  held-out  {described(held_out)}")
    checkpoints.wait()
    writer.hyperparameters(config.num_steps, to_dict(config), tagged("final", held_out))
    if jax.process_index() == 0:
        plots = plot_curves(read_rows(writer.path), workdir / "plots")
        for name, picture in media.images.items():
            plots.append(workdir / "plots" / f"{name}.png")
            save_picture(picture, plots[-1])
        report.line(
            f"plots        {', '.join(path.name for path in plots)} in {workdir / 'plots'}\n"
            f"metrics      {writer.path}\n"
            f"tensorboard  tensorboard --logdir {workdir / 'tensorboard'}\n"
            f"model        perceiver_jax.load_checkpoint({str(workdir)!r})"
        )
    return held_out


def on_host(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a step, when it is done."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def broken_down(step: int, metrics: Mapping[str, float], saved: int, workdir: Path) -> str:
    """What to say of a step whose metrics are not all finite."""
    broken = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    return (
        f"training broke down at step {step:,}: {described(broken)}; the step changed nothing, and "
        f"step {saved:,} is saved. If it was the batch, the same command goes on behind it. If it "
        "happens again, lower --config.optimizer.learning_rate, lengthen the warm-up or set "
        "--config.optimizer.clip_norm, and start in another workdir with "
        f"--config.pretrained.source={workdir}"
    )


def tagged(tag: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metric names with a tag in front, where they have none."""
    return {name if "/" in name else f"{tag}/{name}": value for name, value in values.items()}


def described(values: Mapping[str, float]) -> str:
    """Metrics as words on a line."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())


def described_size(shapes: Params, trained: Collection[str]) -> str:
    """How many parameters a model has, and how many of them are trained."""
    total = parameters.count(shapes)
    learning = parameters.count({path: shapes[path] for path in trained})
    part = "" if learning == total else f" ({learning:,} of them trained)"
    return f"{total:,} parameters{part}"


def main() -> None:
    """Reads the flags and trains."""
    if flags.FLAGS.config is None:
        raise UserError(f"give --config=FILE or one of {', '.join(command_line.shipped_configs())}")
    config = from_dict(ExperimentConfig, flags.FLAGS.config)
    hosts.join(config.hosts)
    train(config, flags.FLAGS.workdir or default_workdir())


def default_workdir() -> str:
    """`runs/NAME` of the config file, `runs/NAME-VARIANT` of a variant."""
    file, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    name = Path(file).stem
    return f"runs/{name}-{variant}" if variant else f"runs/{name}"


if __name__ == "__main__":
    command_line.define_config()
    flags.DEFINE_string("workdir", None, "directory of the run; runs/NAME by default")
    command_line.run(main, expected=("config", "workdir"))
