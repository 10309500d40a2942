"""`python -m perceiver_jax.train.evaluate --workdir=DIR`: held-out metrics of a checkpoint."""

import dataclasses
import json
from pathlib import Path

from absl import flags

from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.train import command_line, parallel
from perceiver_jax.train.checkpoint import Checkpoints
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.evaluation import Evaluator


def evaluate(
    workdir: Path, *, step: int | None = None, split: str | None = None
) -> dict[str, float]:
    """Held-out metrics of a checkpoint.

    Args:
        workdir: of the run.
        step: which checkpoint; None: the newest.
        split: which split; None: the config's `data.eval_split`.

    Raises:
        UserError: there is no such checkpoint or split.
    """
    checkpoints = Checkpoints(workdir)
    step = checkpoints.find(step)
    config = from_dict(ExperimentConfig, checkpoints.config(step))
    if split is not None:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, eval_split=split)
        )
    structure = models.skeleton(config.model)
    mesh = parallel.make_mesh(config.parallel)
    evaluator = Evaluator(config, structure, mesh)
    shardings = parallel.parameter_shardings(structure.params, mesh, config.parallel)
    params, stats = checkpoints.restore_model(
        step,
        (
            {path: parallel.place(x, shardings[path]) for path, x in structure.params.items()},
            {p: parallel.place(x, parallel.replicated(mesh)) for p, x in structure.stats.items()},
        ),
    )
    checkpoints.close()
    return {"step": step} | evaluator.metrics(params, stats)


def main() -> None:
    """Prints the metrics as one line of JSON."""
    values = flags.FLAGS
    print(json.dumps(evaluate(Path(values.workdir), step=values.step, split=values.split)))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "directory of the run", required=True)
    flags.DEFINE_integer("step", None, "checkpoint to read; the newest by default")
    flags.DEFINE_string("split", None, "split to evaluate on; the config's by default")
    command_line.run(main)
