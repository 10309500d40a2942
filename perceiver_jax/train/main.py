"""`python -m perceiver_jax.train.main --config=FILE`: trains, or goes on training.

One run, top to bottom. What a task is lies in `tasks`, what a step does in `step`.
"""

import contextlib
import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import jax
from absl import flags
from ml_collections import config_flags

from perceiver_jax import params as parameters
from perceiver_jax.config import from_dict, to_dict
from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Release
from perceiver_jax.pretrained import open_source
from perceiver_jax.train import command_line, parallel
from perceiver_jax.train.checkpoint import Checkpoints, newest
from perceiver_jax.train.config import (
    ExperimentConfig,
    check_resumable,
    check_same_card,
    make_workdir,
    write_card,
    write_config,
)
from perceiver_jax.train.evaluation import Evaluator
from perceiver_jax.train.initialisation import inherited, initial_arrays
from perceiver_jax.train.interruption import Interruption
from perceiver_jax.train.metrics import MetricsWriter, read_rows
from perceiver_jax.train.plots import plot_curves, save_picture
from perceiver_jax.train.program import make_program
from perceiver_jax.train.progress import ProgressReport
from perceiver_jax.train.tasks import Media, Task
from perceiver_jax.typing import Params


def train(config: ExperimentConfig, workdir: Path) -> dict[str, float]:
    """Trains a model, resuming where an earlier run in the same workdir stopped.

    Args:
        config: the whole run.
        workdir: where checkpoints, metrics and plots go.

    Returns:
        Held-out metrics after the last step.

    Raises:
        UserError: something outside the code is wrong: the data, the workdir, a loss that is no
            longer finite.
    """
    with contextlib.ExitStack() as stack:
        return _train(config, workdir, stack)


def _train(
    config: ExperimentConfig, workdir: Path, stack: contextlib.ExitStack
) -> dict[str, float]:
    """The run; what it opens is closed with the stack."""
    # ---- Config ---------------------------------------------------------------------------------
    task = cast(Task, config.task)
    task.check(config.model, config.data)
    card, files = task.card(config.model, config.data), task.files(config.data)
    parallel.check_batch_size(
        "data.batch_size", config.data.batch_size, config.optimizer.accumulate
    )

    # ---- What will be compiled, and where to start: nothing large has been read or written yet --
    mesh = parallel.make_mesh(config.parallel)
    program = make_program(config, mesh)
    earlier = newest(workdir)
    initial: Params = {}
    if earlier is not None:
        check_resumable(earlier.config, config, earlier.step, workdir)
        check_same_card(workdir, card, files)
    elif config.pretrained.source is not None:
        found = open_source(config.pretrained.source)
        wanted = Release(config=config.model, arrays={}, card=card, files=files)
        initial = initial_arrays(found, config.pretrained, wanted, program.skeleton)
        card = inherited(card, found.card, config.pretrained)

    # ---- Data -----------------------------------------------------------------------------------
    batches = task.batches(
        config.data,
        training=True,
        seed=config.seed,
        shard=Shard(jax.process_index(), jax.process_count()),
    )
    evaluator = Evaluator(config, program.skeleton, mesh)
    config.checkpoint.check(evaluator.metric_names())
    make_workdir(workdir)

    # ---- State: fresh, or restored --------------------------------------------------------------
    checkpoints = Checkpoints(workdir, config.checkpoint)
    stack.callback(checkpoints.close)
    iterator = iterate(batches)
    stack.callback(iterator.close)
    first_step = checkpoints.latest() or 0
    if first_step:
        train_state, position = checkpoints.restore(first_step, program.shapes)
        iterator.set_state(dict(position))
    else:
        train_state = parallel.replaced(program.create(), initial)
        write_card(workdir, card, files)
    write_config(workdir, config)

    # ---- Loop -----------------------------------------------------------------------------------
    interruption = stack.enter_context(Interruption())
    writer = stack.enter_context(MetricsWriter(workdir, first_step=first_step))
    report = stack.enter_context(ProgressReport(config.num_steps, first_step))
    report.line(
        f"{described_size(program.skeleton.params, program.trained)}, {jax.device_count()} "
        f"{jax.devices()[0].platform} device(s), steps {first_step:,} to {config.num_steps:,}, "
        f"workdir {workdir}"
    )
    stopwatch = Stopwatch()
    held_out: dict[str, float] = {}
    media = Media()
    before: tuple[int, Any] | None = None
    data = parallel.read_ahead(iterator, mesh)
    for step in range(first_step + 1, config.num_steps + 1):
        with stopwatch.waiting():
            batch, position = next(data)
        with jax.transfer_guard("disallow"):
            train_state, metrics = program.train_step(train_state, batch)
        # The device works on this step while the one before is looked at.
        if before is not None:
            check_finite(*before, workdir)
        before = step, metrics
        report.step(step)

        last = step == config.num_steps
        saving = step % config.checkpoint.every == 0 or last
        row: dict[str, float] = {}
        if step % config.log_every == 0 or last:
            row |= tagged("train", check_finite(step, metrics, workdir))
            row |= stopwatch.lap(step - first_step, config.data.batch_size)
            report.metrics(step, row)
        if step % config.eval_every == 0 or saving:
            check_finite(step, metrics, workdir)
            with stopwatch.paused():
                held_out = evaluator.metrics(train_state.params, train_state.stats)
                media = evaluator.show(train_state.params, train_state.stats)
            row |= tagged("eval", held_out)
            writer.media(step, media.images, media.texts, media.sounds)
            report.line(f"step {step:,}  held-out  {described(held_out)}")
            for line in media.lines:
                report.line(line)
        if row:
            writer.scalars(step, row)
        if saving:
            with stopwatch.paused():
                checkpoints.save(
                    train_state,
                    step=step,
                    data=position,
                    config=to_dict(config),
                    metrics=held_out,
                )
        interruption.check()

    # ---- Final evaluation: that of the last step, or anew where no step was left -------------
    if not held_out:
        held_out = evaluator.metrics(train_state.params, train_state.stats)
        media = evaluator.show(train_state.params, train_state.stats)
    checkpoints.wait()
    writer.hyperparameters(config.num_steps, to_dict(config), tagged("final", held_out))
    report.line(f"final  held-out  {described(held_out)}")
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


def check_finite(step: int, metrics: Mapping[str, Any], workdir: Path) -> dict[str, float]:
    """The metrics of a step on the host.

    Raises:
        UserError: the loss, or a norm of gradients, updates or new parameters, is not finite.
    """
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    broken = {name: value for name, value in values.items() if not math.isfinite(value)}
    if broken:
        raise UserError(
            f"training broke down at step {step:,}: {described(broken)}; checkpoints in "
            f"{workdir / 'checkpoints'} are from before. Lower --config.optimizer.learning_rate, "
            "lengthen the warm-up or set --config.optimizer.clip_norm, and start in another workdir"
        )
    return values


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


class Stopwatch:
    """Speed of the training steps alone, without evaluations and saves."""

    def __init__(self):
        self._start, self._steps, self._paused, self._waited = time.monotonic(), 0, 0.0, 0.0

    @contextlib.contextmanager
    def paused(self):
        """Time inside does not count."""
        start = time.monotonic()
        yield
        self._paused += time.monotonic() - start

    @contextlib.contextmanager
    def waiting(self):
        """Time inside counts as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def lap(self, steps: int, batch_size: int) -> dict[str, float]:
        """Speed since the last lap, steps counted from the start; the first lap compiles, too."""
        seconds = max(time.monotonic() - self._start - self._paused, 1e-9)
        rate = (steps - self._steps) / seconds
        result = {
            "perf/steps_per_s": rate,
            "perf/examples_per_s": rate * batch_size,
            "perf/data_wait_fraction": self._waited / seconds,
        }
        self._start, self._steps, self._paused, self._waited = time.monotonic(), steps, 0.0, 0.0
        return result


def main() -> None:
    """Reads the flags and trains."""
    if flags.FLAGS.config is None:
        raise UserError(f"give --config=FILE or one of {', '.join(command_line.shipped_configs())}")
    config = from_dict(ExperimentConfig, flags.FLAGS.config)
    train(config, Path(flags.FLAGS.workdir or default_workdir()))


def default_workdir() -> str:
    """`runs/NAME` of the config file, `runs/NAME-VARIANT` of a variant."""
    file, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    name = Path(file).stem
    return f"runs/{name}-{variant}" if variant else f"runs/{name}"


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "config file or name of a shipped config")
    flags.DEFINE_string("workdir", None, "directory of the run; runs/NAME by default")
    command_line.run(main)
