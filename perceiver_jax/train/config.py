"""What a run is: task, model, data, optimizer, and the rhythm of logging and saving."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from perceiver_jax.card import ModelCard
from perceiver_jax.config import ConfigError, check_fields, from_dict, setting, to_dict
from perceiver_jax.data import (
    FlowDataConfig,
    ImageDataConfig,
    LabelledDataConfig,
    MusicDataConfig,
    TextDataConfig,
    VideoDataConfig,
)
from perceiver_jax.data.copy_task import CopyTaskConfig
from perceiver_jax.data.image_sequences import ImageSequenceDataConfig
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig
from perceiver_jax.models.release import tokenizer_files
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.hosts import HostsConfig
from perceiver_jax.train.initialisation import PretrainedConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.parallel import ParallelConfig
from perceiver_jax.train.tasks import AnyTask, ImageClassification
from perceiver_jax.whole_files import write_whole

AnyDataConfig = (
    ImageDataConfig
    | TextDataConfig
    | MusicDataConfig
    | CopyTaskConfig
    | ImageSequenceDataConfig
    | FlowDataConfig
    | VideoDataConfig
    | LabelledDataConfig
)
"""Kinds of data that an experiment can have; of `LabelledDataConfig`, any imported subclass."""

CARD = "card.json"
MAY_CHANGE = (
    "num_steps",
    "log_every",
    "eval_every",
    "checkpoint",
    "parallel",
    "peak_tflops",
    "hosts",
    "data.data_dir",
    "data.cache_dir",
    "data.eval_batch_size",
    "task.num_shown",
    "task.predict_k",
    "task.predict_prompt",
    "task.predict_samples",
    "task.predict_tokens",
    "task.predict_top_k",
)
"""What a resumed run may have different from the run that it resumes.

More steps stretch a cosine: the learning rate goes on from where the longer schedule is.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One training run."""

    task: AnyTask = setting(ImageClassification(), "what is asked of the model")
    model: AnyModelConfig = setting(doc="what is trained")
    data: AnyDataConfig = setting(doc="what it is trained on")
    pretrained: PretrainedConfig = setting(PretrainedConfig(), "weights to start from")
    optimizer: OptimizerConfig = setting(OptimizerConfig(), "how")
    num_steps: int = setting(doc="training steps")
    seed: int = setting(0, "of initial values, data order, augmentation and dropout")
    log_every: int = setting(100, "steps between two rows of training metrics")
    eval_every: int = setting(1000, "steps between evaluations; what is saved is evaluated, too")
    checkpoint: CheckpointConfig = setting(CheckpointConfig(), "when to save, what to keep")
    parallel: ParallelConfig = setting(ParallelConfig(), "how devices share the work")
    peak_tflops: float | None = setting(
        None,
        "peak of a device that utilisation is measured against; None: the bfloat16 peak of its "
        "data sheet, where it is known",
    )
    hosts: HostsConfig = setting(HostsConfig(), "which processes train together")

    def __post_init__(self):
        check_fields(self)
        for name in ("log_every", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.peak_tflops is not None and not 0 < self.peak_tflops < float("inf"):
            raise ValueError(f"peak_tflops={self.peak_tflops} must be finite and above 0")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} is not in [0, 2**32)")
        if self.data.batch_size % self.optimizer.accumulate:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} cannot be divided into "
                f"optimizer.accumulate={self.optimizer.accumulate} equal parts"
            )


def is_smoke(variant: str | None, *others: str) -> bool:
    """Whether a config is asked for its `smoke` variant, which every shipped config has.

    Args:
        variant: what it is asked for, if anything.
        *others: the further variants that it has.

    Raises:
        ConfigError: it is asked for one that it has not.
    """
    known = ("smoke", *others)
    if variant not in (None, *known):
        listed = " and ".join(f"'{name}'" for name in known)
        raise ConfigError(f"this config has no variant '{variant}'; it has {listed}")
    return variant == "smoke"


def make_workdir(workdir: Path) -> None:
    """Makes the working directory.

    Raises:
        UserError: it cannot be written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written to ({error.strerror}); choose another with "
            "--workdir"
        ) from error


def write_card(workdir: Path, card: ModelCard, files: Mapping[str, bytes]) -> None:
    """Writes what a user of the model has to know to `card.json`, and the files that it names."""
    if jax.process_index() == 0:
        for name, content in files.items():
            write_whole(workdir / name, content)
        write_whole(workdir / CARD, json.dumps(to_dict(card), indent=2).encode())


def check_same_card(workdir: Path, card: ModelCard, files: Mapping[str, bytes]) -> None:
    """Compares classes and tokenizer with those that a run began with.

    Raises:
        UserError: they differ: what the run has learned would mean something else.
    """
    old, old_files = read_card(workdir)
    changed = []
    if old.text is not None and (old.text != card.text or dict(old_files) != dict(files)):
        changed.append("the tokenizer")
    if old.labels and old.labels != card.labels:
        changed.append("the classes of the dataset")
    if changed:
        raise UserError(
            f"{' and '.join(changed)} changed since the run in {workdir} began; bring back what "
            "was there, or choose another --workdir"
        )


def read_card(workdir: Path) -> tuple[ModelCard, dict[str, bytes]]:
    """What `write_card` wrote; of a run that wrote none, an empty card.

    Raises:
        UserError: the card is damaged, or a file that it names is not there.
    """
    path = workdir / CARD
    if not path.is_file():
        return ModelCard(), {}
    try:
        card = from_dict(ModelCard, json.loads(path.read_text(encoding="utf-8")), CARD)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it to do without") from error
    return card, tokenizer_files(workdir, card)


def write_config(workdir: Path, config: ExperimentConfig) -> None:
    """Writes the resolved config to `config.json`, for people and other programs to read."""
    if jax.process_index() == 0:
        write_whole(
            workdir / "config.json", (json.dumps(to_dict(config), indent=2) + "\n").encode()
        )


def check_resumable(
    saved: Mapping[str, Any], config: ExperimentConfig, step: int, workdir: Path
) -> None:
    """Compares a config with the one that a checkpoint was trained with.

    Args:
        saved: config in the newest checkpoint.
        config: of this run.
        step: of that checkpoint.
        workdir: where both lie.

    Raises:
        UserError: they differ in more than `MAY_CHANGE`, or the run would end before the step.
    """
    # A field that did not exist when the run began has its default value.
    completed = to_dict(from_dict(ExperimentConfig, saved))
    differences = list(_differences(completed, to_dict(config)))
    if differences:
        shown = "\n  ".join(differences[:10])
        more = f"\n  and {len(differences) - 10} more" if len(differences) > 10 else ""
        raise UserError(
            f"the workdir {workdir} belongs to a run of another config:\n  {shown}{more}\n"
            "Choose another --workdir for this run, or take the old values to resume the old one; "
            "to go on from its weights with other settings, take another --workdir and "
            f"--config.pretrained.source={workdir}"
        )
    if config.num_steps < step:
        raise UserError(
            f"the run in {workdir} is at step {step:,} already, past num_steps={config.num_steps:,}"
            "; raise it, or choose another --workdir"
        )


def _differences(old: Any, new: Any, where: str = "config"):
    """Lines 'field: old value there, new value here', without what may change."""
    if where.removeprefix("config.") in MAY_CHANGE or where.endswith(".implementation"):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            yield from _differences(old.get(name), new.get(name), f"{where}.{name}")
    elif old != new:
        yield f"{where}: {old} there, {new} here"
