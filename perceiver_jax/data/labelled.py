"""Examples with labels, of any modality: what a dataset has to say of itself, and batches of it.

- A dataset is a frozen dataclass that extends `LabelledDataConfig`: where its examples are, and how
  one is made ready. Importing its file is all it takes for configs to know it.
- Batches are `{"inputs": [B, V, ...], "label": [B] int32}`, inputs an array or a dict of arrays; of
  examples with any number of classes `"label": [B, classes] bool`. Where examples are padded there
  is `"input_mask": [B, V, M] bool`. Evaluation adds `"mask"`.
- V are the views of an example whose predictions are averaged; in training it is one.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from perceiver_jax.config import OpenChoice, check_ranges, setting
from perceiver_jax.data import pipeline
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.sources import DatasetError, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataConfig(OpenChoice, abc.ABC):
    """Labelled examples: where from, and what is done to them."""

    data_dir: str | None = setting(
        None, "the dataset's own folder, or where prepared datasets lie; None: the default place"
    )
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting("test", "held-out split")
    batch_size: int = setting(64, "training examples per step, over all devices")
    eval_batch_size: int = setting(64, "held-out examples per step, over all devices")

    def __post_init__(self):
        check_ranges(self)
        for name in ("batch_size", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    @abc.abstractmethod
    def open(self, split: str) -> Source:
        """The source of a split: its examples as they are stored, and the names of its classes.

        Raises:
            DatasetError: it is not there.
        """

    @abc.abstractmethod
    def prepare(self, example: Example, rng: np.random.Generator | None) -> Example:
        """Makes an example ready.

        Args:
            example: of the source.
            rng: draws the augmentation; None in evaluation, which has none.

        Returns:
            `{"inputs": array or dict of arrays, "label": int or [classes] bool}`, with
            `"input_mask": [M] bool` where inputs are padded; shapes are the same for all examples.
        """

    def views(self, example: Example) -> Sequence[Example]:
        """The views of an example that evaluation averages over, each as `prepare` returns it."""
        return [self.prepare(example, None)]

    def constants(self) -> Mapping[str, Sequence[float]]:
        """Numbers by which inputs are made ready and which no field has: the data tells them.

        Raises:
            DatasetError: the data is not there.
        """
        return {}

    def picture(self, inputs: Any) -> np.ndarray | None:
        """[H, W, 3] uint8 of one view's `inputs`, for people to look at; None: there is none."""
        return None


@functools.lru_cache(maxsize=8)
def open_split(config: LabelledDataConfig, split: str) -> Source:
    """The source that a split is read from, opened once.

    Raises:
        DatasetError: it is not there, or has no examples.
    """
    source = config.open(split)
    if not len(source):
        raise DatasetError(
            f"split '{split}' of {type(config).__name__} has no examples; choose another"
        )
    return source


def labelled_batches(
    config: LabelledDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`."""
    if training:
        return pipeline.training_batches(
            open_split(config, config.train_split),
            _TrainingTransform(config),
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
        )
    return pipeline.evaluation_batches(
        open_split(config, config.eval_split),
        _EvaluationTransform(config),
        batch_size=config.eval_batch_size,
        shard=shard,
    )


@dataclasses.dataclass(frozen=True)
class _TrainingTransform:
    config: LabelledDataConfig

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return _together([self.config.prepare(example, rng)])


@dataclasses.dataclass(frozen=True)
class _EvaluationTransform:
    config: LabelledDataConfig

    def __call__(self, example: Example) -> Example:
        return _together(self.config.views(example))


def _together(views: Sequence[Example]) -> Example:
    """One example of all views; they have one label."""
    label = np.asarray(views[0]["label"])
    joined: dict[str, Any] = {"label": label if label.ndim else label.astype(np.int32)}
    for name in ("inputs", "input_mask"):
        if name in views[0]:
            joined[name] = _stacked([view[name] for view in views])
    return joined


def _stacked(trees: Sequence[Any]) -> Any:
    if isinstance(trees[0], Mapping):
        return {name: _stacked([tree[name] for tree in trees]) for name in trees[0]}
    return np.stack(trees)
