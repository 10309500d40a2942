"""What a run is: task, model, data, optimizer, and the rhythm of logging and saving."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from perceiver_jax.config import ConfigError, setting, to_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.parallel import ParallelConfig
from perceiver_jax.train.tasks import AnyTask, ImageClassification

AnyDataConfig = ImageDataConfig
"""Kinds of data that an experiment can have."""

MAY_CHANGE = ("num_steps", "log_every", "eval_every", "checkpoint", "parallel")
"""What a resumed run may have different from the run that it resumes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One training run."""

    task: AnyTask = setting(ImageClassification(), "what is asked of the model")
    model: PerceiverConfig = setting(doc="what is trained")
    data: AnyDataConfig = setting(doc="what it is trained on")
    optimizer: OptimizerConfig = setting(OptimizerConfig(), "how")
    num_steps: int = setting(doc="training steps")
    seed: int = setting(0, "of initial values, data order, augmentation and dropout")
    log_every: int = setting(100, "steps between two rows of training metrics")
    eval_every: int = setting(1000, "steps between two evaluations; the last step is evaluated too")
    checkpoint: CheckpointConfig = setting(CheckpointConfig(), "when to save, what to keep")
    parallel: ParallelConfig = setting(ParallelConfig(), "how devices share the work")

    def __post_init__(self):
        for name in ("num_steps", "log_every", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is not in [0, 2**32)")
        if self.data.batch_size % self.optimizer.accumulate:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} cannot be divided into "
                f"optimizer.accumulate={self.optimizer.accumulate} equal parts"
            )


def check_workdir(workdir: Path, config: ExperimentConfig) -> None:
    """Makes the working directory and writes its `config.json`.

    Raises:
        UserError: it cannot be written to, or it belongs to a run of another config.
    """
    path = workdir / "config.json"
    tree = to_dict(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same(json.loads(path.read_text()), tree, workdir)
        temporary = workdir / "config.json.tmp"
        temporary.write_text(json.dumps(tree, indent=2) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written to ({error.strerror}); choose another with "
            "--workdir"
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not JSON ({error}); remove it or choose another --workdir"
        ) from error


def _check_same(old: dict[str, Any], new: dict[str, Any], workdir: Path) -> None:
    differences = list(_differences(old, new))
    if differences:
        shown = "\n  ".join(differences[:10])
        more = f"\n  and {len(differences) - 10} more" if len(differences) > 10 else ""
        raise UserError(
            f"the workdir {workdir} belongs to a run of another config:\n  {shown}{more}\n"
            "Choose another --workdir for this run, or take the old values to resume the old one."
        )


def _differences(old: Any, new: Any, where: str = "config"):
    """Lines 'field: old value there, new value here', without what may change."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            if where == "config" and name in MAY_CHANGE:
                continue
            yield from _differences(old.get(name), new.get(name), f"{where}.{name}")
    elif old != new:
        yield f"{where}: {old} there, {new} here"
