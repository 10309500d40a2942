"""What both sides of a comparison are given: the work, its inputs, how to train.

- Nothing here loads JAX or PyTorch: each side's process shall hold its own framework alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
"""Of AdamW, on all parameters; the other settings are the common defaults of optax and torch."""

Kind = Literal["cross_attention", "forward", "train_step"]
"""What one call does.

`cross_attention`: from images to latents, through the input adapter and the encoder's first
cross-attention layer with its MLP. `forward`: from images to logits, in inference mode.
`train_step`: forward, cross-entropy, backward and an update by AdamW; its output is the loss.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of work of a given size.

    Attributes:
        kind: see `Kind`.
        input_shape: [B, *grid, c] of the inputs.
        num_classes: classes that labels are drawn from.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    num_classes: int

    def batch(self, seed: int) -> dict[str, np.ndarray]:
        """`image`, standard normal noise of `input_shape`, float32; `label`, [B] int64."""
        rng = np.random.default_rng(seed)
        return {
            "image": rng.standard_normal(self.input_shape, np.float32),
            "label": rng.integers(self.num_classes, size=self.input_shape[0]),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model that is ready to do its work.

    Attributes:
        place: puts a batch where the model takes it from; not timed.
        run: does the work on what was placed and returns when it is done; timed.
        facts: about the model and its framework, for the report.
    """

    place: Callable[[dict[str, np.ndarray]], Any]
    run: Callable[[Any], Any]
    facts: dict[str, Any]
