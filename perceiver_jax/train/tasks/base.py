"""The contract between a task and the training loop.

- A task is a frozen dataclass: its fields are its part of the config, its methods what it does.
- It owns no loop, no optimizer and no device; models and batches come in from outside.
"""

import dataclasses
from typing import Any, Protocol

import grain
import numpy as np

from perceiver_jax.data import Shard
from perceiver_jax.typing import Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True)
class Media:
    """Things to look at.

    Attributes:
        images: [H, W, 3] uint8 pictures by name.
        texts: Markdown by name.
    """

    images: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)


class Task(Protocol):
    """One way to train, score and show models."""

    def check(self, model: Any, data: Any) -> None:
        """Raises a UserError where model and data do not go together, or data is missing.

        Called before anything else is done.
        """
        ...

    def batches(self, data: Any, *, training: bool, seed: int, shard: Shard) -> grain.MapDataset:
        """Host-local batches by position: endless for training, one padded pass for evaluation."""
        ...

    def loss(self, model: Model, batch: Batch, key: Key) -> tuple[Any, Sums]:
        """The training objective, a scalar, and further metrics of this batch.

        A model with batch statistics changes them in place; the step reads them off the model.
        """
        ...

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Metrics of a batch without dropout; where `batch["mask"]` is False nothing counts."""
        ...

    def show(self, model: Model, batch: Batch, data: Any) -> Media:
        """Pictures and texts of what the model does with a batch; called outside `jax.jit`."""
        ...
