"""A modality and a dataset as somebody outside of the library would bring them.

- Examples are [5, 3] numbers, the first of each three higher in class 'high'; the last is padding.
"""

import dataclasses

import numpy as np
from flax import nnx

from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.config import setting
from perceiver_jax.core import Tokens
from perceiver_jax.data import LabelledDataConfig
from perceiver_jax.models import ClassificationDecoderConfig, MeanPoolDecoderConfig, PerceiverConfig


class ToyInputAdapter(nnx.Module):
    """Numbers as they are."""

    def __init__(self, num_channels: int):
        self.num_input_channels = num_channels

    def __call__(self, inputs, input_mask=None, *, key=None):
        if inputs["numbers"].shape[-1] != self.num_input_channels:
            raise ValueError(f"{inputs['numbers'].shape[-1]} channels, not as built")
        return Tokens(content=inputs["numbers"], mask=input_mask)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyModality(ModalityConfig):
    """Numbers."""

    num_channels: int = setting(3, "channels")

    def input_adapter(self, *, rngs):
        return ToyInputAdapter(self.num_channels)


class ToySource:
    """Examples by index."""

    class_names = ("low", "high")

    def __init__(self, length):
        self._length = length

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        numbers = rng.standard_normal((5, 3)).astype(np.float32)
        numbers[:, 0] += 3 * (index % 2)
        return {"numbers": numbers, "label": index % 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyData(LabelledDataConfig):
    """Numbers that are low or high."""

    num_examples: int = setting(20, "examples of a split", minimum=0)
    num_views: int = setting(1, "views of evaluation")
    any_number: bool = setting(False, "whether labels are a bool for each class")
    num_channels: int = setting(3, "channels that are given")

    def open(self, split):
        return ToySource(self.num_examples)

    def prepare(self, example, rng):
        numbers = example["numbers"][:, : self.num_channels]
        if rng is not None:
            numbers = numbers + rng.standard_normal(numbers.shape).astype(np.float32)
        label = example["label"]
        if self.any_number:
            label = np.array([True, label == 1])
        inputs = {"numbers": numbers}
        return {"inputs": inputs, "label": label, "input_mask": np.arange(5) < 4}

    def views(self, example):
        first = self.prepare(example, None)
        moved = [{"numbers": first["inputs"]["numbers"] + i} for i in range(self.num_views)]
        return [first | {"inputs": inputs} for inputs in moved]

    def picture(self, inputs):
        return np.zeros((8, 8, 3), np.uint8)


def toy_model(*, pooled=False, **encoder_fields):
    """A tiny model of numbers."""
    common = {
        "num_cross_attention_heads": 1,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 1,
        "init_method": "variance_scaling",
    }
    decoder = (
        MeanPoolDecoderConfig(num_classes=2)
        if pooled
        else ClassificationDecoderConfig(
            num_classes=2,
            num_output_query_channels=16,
            num_cross_attention_heads=2,
            init_method="variance_scaling",
        )
    )
    return PerceiverConfig(
        encoder=ToyModality(**(common | encoder_fields)),
        decoder=decoder,
        num_latents=4,
        num_latent_channels=16,
    )
