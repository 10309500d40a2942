"""What both sides of a comparison are given: the work, its inputs, how to train.

- Every token is real, and neither side is given a mask. Hugging Face's model then makes one of ones
  for itself; the others compute none.
- Nothing here loads JAX or PyTorch: each side's process shall hold its own framework alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
"""Of AdamW, on all parameters; the other settings are the common defaults of optax and torch."""

Kind = Literal["cross_attention", "forward", "train_step", "prefill", "decode"]
"""What one call does.

`cross_attention`: from inputs to latents, through the input adapter and the encoder's first
cross-attention layer with its MLP. `forward`: from inputs to logits, in inference mode.
`train_step`: forward, mean cross-entropy over all targets, backward and an update by AdamW; its
output is the loss. `prefill`: from a prompt to the logits after it, and a cache for more tokens.
`decode`: from that, and the first new token, to more of them, each the most probable; its output
are those tokens.
"""
Data = Literal["images", "tokens", "sequences", "frames"]
"""What inputs and targets are.

`images`: standard normal noise [B, H, W, c], float32, with a class [B] each. `tokens`: ids [B, M]
with another id at every position, [B, M]. `sequences`: the same, of which the last positions alone
are predicted. Classes and ids are int64. `frames`: standard normal noise [B, 2, H, W, 3], float32,
with a flow [B, H, W, 2] in pixels; the loss is the mean end-point error.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of work of a given size.

    Attributes:
        kind: see `Kind`.
        data: see `Data`.
        input_shape: of the inputs, the batch first.
        num_classes: classes that targets are drawn from; those of tokens are the vocabulary.
        num_latents: of sequences: last positions that predict.
        num_new_tokens: how many are decoded, after the first.
        num_alike: first ones of these that both sides have to agree in.
    """

    kind: Kind
    data: Data
    input_shape: tuple[int, ...]
    num_classes: int
    num_latents: int = 0
    num_new_tokens: int = 0
    num_alike: int = 0

    def batch(self, seed: int) -> dict[str, np.ndarray]:
        """`inputs` and `targets`, see `Data`."""
        return DRAW[self.data](np.random.default_rng(seed), self.input_shape, self.num_classes)


def _images(
    rng: np.random.Generator, shape: tuple[int, ...], num_classes: int
) -> dict[str, np.ndarray]:
    return {
        "inputs": rng.standard_normal(shape, np.float32),
        "targets": rng.integers(num_classes, size=shape[0]),
    }


def _tokens(
    rng: np.random.Generator, shape: tuple[int, ...], num_classes: int
) -> dict[str, np.ndarray]:
    inputs, targets = rng.integers(num_classes, size=(2, *shape))
    return {"inputs": inputs, "targets": targets}


def _frames(
    rng: np.random.Generator, shape: tuple[int, ...], num_classes: int
) -> dict[str, np.ndarray]:
    batch, _, height, width, _ = shape
    return {
        "inputs": rng.standard_normal(shape, np.float32),
        "targets": rng.standard_normal((batch, height, width, 2), np.float32),
    }


DRAW: dict[Data, Callable[..., dict[str, np.ndarray]]] = {
    "images": _images,
    "tokens": _tokens,
    "sequences": _tokens,
    "frames": _frames,
}
"""Batches by what they are of."""


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
