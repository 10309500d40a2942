"""Examples with labels, of any modality: what a dataset has to say of itself, and batches of it.

- A dataset is a frozen dataclass that extends `LabelledDataConfig`: where its examples are, and how
  one is made ready. Importing its file is all it takes for configs to know it.
- Batches are `{"inputs": [B, V, ...], "label": [B] int32}`, inputs an array or a dict of arrays; of
  examples with any number of classes `"label": [B, classes] bool`. Where examples are padded there
  is `"input_mask": [B, V, M] bool`. Evaluation adds `"mask"`.
- V are the views of an example whose predictions are averaged; in training it is one.
"""

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from perceiver_jax.config import OpenChoice, check_fields, setting
from perceiver_jax.data import pipeline
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.prepared_examples import check_alike, check_views
from perceiver_jax.data.sources import DatasetError, Source, check_source
from perceiver_jax.errors import UserError


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
        check_fields(self)
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
            example: of the source; or a new one to classify, which has no label.
            rng: draws the augmentation; None in evaluation, which has none.

        Returns:
            `{"inputs": array or dict of arrays, "label": int or [classes] bool}`, with
            `"input_mask": [M] bool` where inputs are padded, and no other entries; shapes are the
            same for all examples. Of an example without a label there need be none.
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
        DatasetError: it is not there, is no `Source`, or has no examples or classes.
    """
    source = config.open(split)
    name = type(config).__name__
    check_source(source, f"what {name}.open('{split}') returned")
    if not len(source):
        raise DatasetError(f"split '{split}' of {name} has no examples; choose another")
    if not len(source.class_names):
        raise DatasetError(
            f"split '{split}' of {name} has no classes: class_names of its source, "
            f"{type(source).__name__}, is empty; name them in the order of the labels"
        )
    return source


class Examples:
    """The examples of a split by number, made ready; whatever goes wrong names the example.

    Args:
        config: the dataset.
        split: one of its splits.

    Raises:
        DatasetError: see `open_split`.
    """

    def __init__(self, config: LabelledDataConfig, split: str):
        self._config, self._split = config, split
        self._source = open_split(config, split)
        self._first: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def for_training(self, index: int, rng: np.random.Generator) -> Example:
        """`{"inputs": [1, ...], "label": ...}`, see above.

        Raises:
            DatasetError: it is not what `prepare` has to return.
        """
        with self._named(index):
            return self._together(index, [self._config.prepare(self._source[index], rng)])

    def for_evaluation(self, index: int) -> Example:
        """`{"inputs": [V, ...], "label": ...}`, see above.

        Raises:
            DatasetError: it is not what `views` has to return.
        """
        with self._named(index):
            return self._together(index, self._config.views(self._source[index]))

    def _together(self, index: int, views: Sequence[Example]) -> Example:
        check_views(views, len(self._source.class_names))
        if self._first is None:  # of several threads any may win: all examples have to be alike
            self._first = index, views[0]
        number, first = self._first
        check_alike(views[0], first, f"example {number}")
        return _together(views)

    @contextlib.contextmanager
    def _named(self, index: int) -> Iterator[None]:
        what = f"example {index} of split '{self._split}' of {type(self._config).__name__}"
        try:
            yield
        except UserError as error:
            raise DatasetError(f"{what}: {error}") from error
        except Exception as error:
            error.add_note(f"This was {what}.")
            raise


def labelled_batches(
    config: LabelledDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`."""
    if training:
        examples = Examples(config, config.train_split)
        return pipeline.training_batches(
            range(len(examples)),
            examples.for_training,
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
        )
    examples = Examples(config, config.eval_split)
    return pipeline.evaluation_batches(
        range(len(examples)),
        examples.for_evaluation,
        batch_size=config.eval_batch_size,
        shard=shard,
    )


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
