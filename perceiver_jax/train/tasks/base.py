"""The contract between a task and the training loop.

- A task is a frozen dataclass: its fields are its part of the config, its methods what it does.
- It owns no loop, no optimizer and no device; models and batches come in from outside.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import Batches
from perceiver_jax.typing import Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True)
class Media:
    """Things to look at and to listen to.

    Attributes:
        images: [H, W, 3] uint8 pictures by name.
        texts: Markdown by name.
        lines: for the log.
        sounds: [n] samples in [-1, 1], and how many of them there are in a second, by name.
    """

    images: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: tuple[str, ...] = ()
    sounds: dict[str, tuple[np.ndarray, int]] = dataclasses.field(default_factory=dict)


class Task(Protocol):
    """One way to train, score and show models."""

    def check(self, model: Any, data: Any) -> None:
        """Raises a UserError where model and data do not go together, or data is missing.

        Called before anything else is done.
        """
        ...

    def batches(self, data: Any, *, training: bool, seed: int, shard: Shard) -> Batches:
        """Host-local batches: endless for training; for evaluation by position, a padded pass."""
        ...

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """The training objective under "loss", and further metrics of this batch.

        The mean that is minimised is the loss' sum over its weight, which no parameter may change.
        A model with batch statistics changes them in place; the step reads them off the model.
        """
        ...

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Metrics of a batch without dropout; where `batch["mask"]` is False nothing counts."""
        ...

    def card(self, model: Any, data: Any) -> ModelCard:
        """What a user of the trained model has to know: class names, preprocessing."""
        ...

    def files(self, data: Any) -> Mapping[str, bytes]:
        """Files that belong to the trained model, by the names that its card gives them."""
        ...

    def show(self, model: Model, batch: Batch, data: Any) -> Media:
        """Pictures and texts of what the model does with a batch; called outside `jax.jit`."""
        ...
