"""Modules of DeepMind's Perceiver IO: the rows that its models have in common.

- Foreign names are `params/<module path>/<name>` and `state/<module path>/<name>`.
- Haiku numbers modules of one class in order of creation (`linear`, `linear_1`, ...): `nth`.
- `~` stands for the constructor that made a module, `~method` for another method.
- Kernels are [in, out] and [height, width, in, out] on both sides: nothing is transposed.
- The block of self-attentions is applied again and again under one set of names.
"""

import numpy as np

from interop.ops import RESHAPE
from interop.rows import Arrays, Row, ignore, row

BATCH_NORM_DECAY = 0.9
ENCODER = "params/perceiver_encoder/~"


def encoder_rows(num_layers: int, theirs: str = ENCODER) -> list[Row]:
    """A `PerceiverEncoder`, whose modules are below this name."""
    result = [
        row("encoder/latents", f"{theirs}/trainable_position_encoding/pos_embs"),
        *cross_layer("encoder/cross_attention/0", f"{theirs}/cross_attention"),
    ]
    for i in range(num_layers):
        result += self_layer(f"encoder/block/0/layer/{i}", f"{theirs}/{nth('self_attention', i)}")
    return result


def conv_stem(
    ours: str, theirs: str, *, num_layers: int, num_channels: int, norms: bool = True
) -> list[Row]:
    """A `Conv2DDownsample`."""
    result = []
    for i in range(num_layers):
        result.append(row(f"{ours}/layer/{i}/conv/kernel", f"{theirs}/~/{nth('conv', i)}/w"))
        if norms:
            name = f"{theirs}/~/{nth('batchnorm', i)}"
            result += batch_norm(f"{ours}/layer/{i}/norm", name, num_channels)
    return result


def batch_norm(ours: str, theirs: str, num_channels: int) -> list[Row]:
    """A `BatchNorm` with its two moving averages, which count the same steps."""
    state = theirs.replace("params/", "state/", 1)
    flatten = RESHAPE((1, 1, 1, num_channels), (num_channels,))
    mean, var = f"{state}/~/mean_ema", f"{state}/~/var_ema"
    return [
        row(f"{ours}/scale", f"{theirs}/scale", flatten),
        row(f"{ours}/bias", f"{theirs}/offset", flatten),
        row(f"{ours}/mean", f"{mean}/average", flatten),
        row(f"{ours}/var", f"{var}/average", flatten),
        row(f"{ours}/count", f"{mean}/counter", tied=(f"{var}/counter",)),
        biased_average(f"{ours}/mean", f"{ours}/count", f"{mean}/hidden"),
        biased_average(f"{ours}/var", f"{ours}/count", f"{var}/hidden"),
    ]


def biased_average(average: str, count: str, theirs: str) -> Row:
    """The sum that Haiku keeps beside a moving average; inference does not read it."""

    def hidden(ours: Arrays) -> np.ndarray:
        seen = 1.0 - BATCH_NORM_DECAY ** int(ours[count])
        return (ours[average] * seen).astype(ours[average].dtype).reshape(1, 1, 1, -1)

    return ignore(theirs, "the average before its bias is divided out", hidden)


def cross_layer(ours: str, theirs: str, mlp_name: str = "mlp") -> list[Row]:
    """A `CrossAttention`, whose MLP has this name."""
    return [
        *norm(f"{ours}/q_norm", f"{theirs}/{nth('layer_norm', 0)}"),
        *norm(f"{ours}/kv_norm", f"{theirs}/{nth('layer_norm', 1)}"),
        *attention(f"{ours}/attention", f"{theirs}/attention"),
        *norm(f"{ours}/mlp_norm", f"{theirs}/{nth('layer_norm', 2)}"),
        *mlp(f"{ours}/mlp", f"{theirs}/{mlp_name}"),
    ]


def self_layer(ours: str, theirs: str, mlp_name: str = "mlp") -> list[Row]:
    """A `SelfAttention`, whose MLP has this name."""
    return [
        *norm(f"{ours}/norm", f"{theirs}/{nth('layer_norm', 0)}"),
        *attention(f"{ours}/attention", f"{theirs}/attention"),
        *norm(f"{ours}/mlp_norm", f"{theirs}/{nth('layer_norm', 1)}"),
        *mlp(f"{ours}/mlp", f"{theirs}/{mlp_name}"),
    ]


def attention(ours: str, theirs: str) -> list[Row]:
    """An `Attention`."""
    return [
        *linear(f"{ours}/query", f"{theirs}/{nth('linear', 0)}"),
        *linear(f"{ours}/key", f"{theirs}/{nth('linear', 1)}"),
        *linear(f"{ours}/value", f"{theirs}/{nth('linear', 2)}"),
        *linear(f"{ours}/output", f"{theirs}/{nth('linear', 3)}"),
    ]


def mlp(ours: str, theirs: str) -> list[Row]:
    """An `MLP`."""
    return [
        *linear(f"{ours}/hidden", f"{theirs}/{nth('linear', 0)}"),
        *linear(f"{ours}/output", f"{theirs}/{nth('linear', 1)}"),
    ]


def linear(ours: str, theirs: str) -> list[Row]:
    """A Haiku `Linear`."""
    return [row(f"{ours}/kernel", f"{theirs}/w"), row(f"{ours}/bias", f"{theirs}/b")]


def norm(ours: str, theirs: str) -> list[Row]:
    """A Haiku `LayerNorm`."""
    return [row(f"{ours}/scale", f"{theirs}/scale"), row(f"{ours}/bias", f"{theirs}/offset")]


def nth(name: str, i: int) -> str:
    """What Haiku calls the i-th module of a class, counted from 0."""
    return name if i == 0 else f"{name}_{i}"
