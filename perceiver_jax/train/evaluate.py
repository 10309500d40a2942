"""`python -m perceiver_jax.train.evaluate --workdir=DIR`: held-out metrics of a checkpoint."""

if __name__ == "__main__":  # before what takes long to import
    from perceiver_jax.command import stop_without_trace

    stop_without_trace()

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Literal

from absl import flags

from perceiver_jax.config import from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train import command_line, parallel
from perceiver_jax.train.checkpoint import Checkpoints
from perceiver_jax.train.config import ExperimentConfig, read_card
from perceiver_jax.train.evaluation import Evaluator
from perceiver_jax.train.program import make_program
from perceiver_jax.train.sharding_rules import ParallelConfig


def evaluate(
    workdir: str | os.PathLike[str],
    *,
    step: int | Literal["best"] | None = None,
    split: str | None = None,
    data_dir: str | None = None,
) -> dict[str, float]:
    """Held-out metrics of a checkpoint, on whatever devices there are.

    Args:
        workdir: of the run.
        step: which checkpoint; None: the newest; "best": the best by held-out metric.
        split: which split; None: the config's `data.eval_split`.
        data_dir: where prepared datasets lie; None: where the config says.

    Raises:
        UserError: there is no such checkpoint or split.
    """
    workdir = Path(workdir)
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        found = checkpoints.find(step)
        config = from_dict(ExperimentConfig, checkpoints.config(found))
        given = {"eval_split": split, "data_dir": data_dir, "tokenizer": _own_tokenizer(workdir)}
        data = dataclasses.replace(config.data, **{k: v for k, v in given.items() if v is not None})
        config = dataclasses.replace(config, data=data)
        # Where parameters lay in training says nothing about where they lie here.
        config = dataclasses.replace(config, parallel=ParallelConfig())
        program = make_program(config, parallel.make_mesh(config.parallel))
        evaluator = Evaluator(config, program)
        shapes = program.shapes
        params, stats = checkpoints.restore_model(found, (shapes.params, shapes.stats))
        return {"step": found} | evaluator.metrics(params, stats)


def _own_tokenizer(workdir: Path) -> str | None:
    """The tokenizer that the run keeps in its workdir, whatever lies where it once came from."""
    card, files = read_card(workdir)
    return str(workdir) if card.text is not None and files else None


def main() -> None:
    """Prints the metrics as one line of JSON."""
    values = flags.FLAGS
    if values.workdir is None:
        raise UserError("give --workdir=DIR, the directory of the run")
    step = values.step if values.step in (None, "best") else int(values.step)
    result = evaluate(values.workdir, step=step, split=values.split, data_dir=values.data_dir)
    print(json.dumps(result))


def _is_step(text: str | None) -> bool:
    return text is None or text == "best" or text.isdigit()


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "directory of the run")
    flags.DEFINE_string("step", None, "checkpoint to read, or 'best'; the newest by default")
    flags.DEFINE_string("split", None, "split to evaluate on; the config's by default")
    flags.DEFINE_string("data_dir", None, "where prepared datasets lie; the config's by default")
    flags.register_validator("step", _is_step, "takes a number of steps, or 'best'")
    command_line.run(main, expected=("workdir",))
