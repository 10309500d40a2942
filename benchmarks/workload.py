"""What both sides of a comparison are given: the work, its inputs, how to train.

- Every token is real, and neither side is given a mask. Hugging Face's model then makes one of ones
  for itself; the others compute none.
- Nothing here loads JAX or PyTorch: each side's process shall hold its own framework alone.
"""

import dataclasses
import math
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
Data = Literal["images", "tokens", "sequences", "frames", "clips", "features"]
"""What inputs and targets are.

`images`: standard normal noise [B, H, W, c], float32, with a class [B] each. `tokens`: ids [B, M]
with another id at every position, [B, M]. `sequences`: the same, of which the last positions alone
are predicted. Classes and ids are int64. `frames`: standard normal noise [B, 2, H, W, 3], float32,
with a flow [B, H, W, 2] in pixels; the loss is the mean end-point error. `clips`: `inputs`, by
modality `image`, uniform noise [B, T, H, W, 3] in [0, 1), and `audio`, [B, S, 1] in [-1, 1), both
float32; and `query_indices`, [1, o] by modality, one of the chunks of pixels and of stretches of
sound that a clip is decoded in, a call each. Targets are classes [B], outputs those of the chunk
and of the label in one array; a call encodes the clip as well, as the peer keeps no latents.
`features`: standard normal noise [B, M, C], float32, without targets; outputs are tokens [B, N, D].
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
        num_samples: of clips: samples S of sound.
        chunk_sizes: of clips: how many pixels and stretches of sound a call asks for.
    """

    kind: Kind
    data: Data
    input_shape: tuple[int, ...]
    num_classes: int
    num_latents: int = 0
    num_new_tokens: int = 0
    num_alike: int = 0
    num_samples: int = 0
    chunk_sizes: tuple[int, int] = (0, 0)

    def batch(self, seed: int) -> dict[str, Any]:
        """`inputs` and `targets`, see `Data`."""
        return DRAW[self.data](np.random.default_rng(seed), self)


def _images(rng: np.random.Generator, work: Workload) -> dict[str, Any]:
    return {
        "inputs": rng.standard_normal(work.input_shape, np.float32),
        "targets": _classes(rng, work),
    }


def _tokens(rng: np.random.Generator, work: Workload) -> dict[str, Any]:
    inputs, targets = rng.integers(work.num_classes, size=(2, *work.input_shape))
    return {"inputs": inputs, "targets": targets}


def _frames(rng: np.random.Generator, work: Workload) -> dict[str, Any]:
    batch, _, height, width, _ = work.input_shape
    return {
        "inputs": rng.standard_normal(work.input_shape, np.float32),
        "targets": rng.standard_normal((batch, height, width, 2), np.float32),
    }


def _clips(rng: np.random.Generator, work: Workload) -> dict[str, Any]:
    samples = rng.random((work.input_shape[0], work.num_samples, 1), np.float32)
    clip = {"image": rng.random(work.input_shape, np.float32), "audio": 2 * samples - 1}
    num_pixels = math.prod(work.input_shape[1:-1])
    chunk = rng.integers(num_pixels // work.chunk_sizes[0])
    indices = {
        name: chunk * size + np.arange(size)[None]
        for name, size in zip(("image", "audio"), work.chunk_sizes, strict=True)
    }
    return {
        "inputs": {"inputs": clip, "query_indices": indices},
        "targets": _classes(rng, work),
    }


def _features(rng: np.random.Generator, work: Workload) -> dict[str, Any]:
    return {
        "inputs": rng.standard_normal(work.input_shape, np.float32),
        "targets": np.zeros(work.input_shape[0]),
    }


def _classes(rng: np.random.Generator, work: Workload) -> np.ndarray:
    return rng.integers(work.num_classes, size=work.input_shape[0])


DRAW: dict[Data, Callable[[np.random.Generator, Workload], dict[str, Any]]] = {
    "images": _images,
    "tokens": _tokens,
    "sequences": _tokens,
    "frames": _frames,
    "clips": _clips,
    "features": _features,
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

    place: Callable[[dict[str, Any]], Any]
    run: Callable[[Any], Any]
    facts: dict[str, Any]
