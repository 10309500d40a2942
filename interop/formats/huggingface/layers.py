"""Layers of the Perceiver in Hugging Face transformers: the rows that its models have in common.

- Cross- and self-attention layers are one class there; only the first normalises what is attended
  to (`layernorm2`).
"""

import numpy as np

from interop.formats.torch_layers import linear, norm
from interop.ops import CONV2D, Op
from interop.rows import Row, row


def encoder_rows(num_layers: int) -> list[Row]:
    """Latents, cross-attention and the block of self-attentions."""
    result = [
        row("encoder/latents", "perceiver.embeddings.latents"),
        *cross_layer("encoder/cross_attention/0", "perceiver.encoder.cross_attention"),
    ]
    for i in range(num_layers):
        result += self_layer(f"encoder/block/0/layer/{i}", f"perceiver.encoder.self_attends.{i}")
    return result


def cross_layer(ours: str, theirs: str) -> list[Row]:
    """A `PerceiverLayer` that attends to something else."""
    return [
        *norm(f"{ours}/q_norm", f"{theirs}.attention.self.layernorm1"),
        *norm(f"{ours}/kv_norm", f"{theirs}.attention.self.layernorm2"),
        *attention(f"{ours}/attention", f"{theirs}.attention"),
        *mlp(ours, theirs),
    ]


def self_layer(ours: str, theirs: str) -> list[Row]:
    """A `PerceiverLayer` that attends to itself."""
    return [
        *norm(f"{ours}/norm", f"{theirs}.attention.self.layernorm1"),
        *attention(f"{ours}/attention", f"{theirs}.attention"),
        *mlp(ours, theirs),
    ]


def attention(ours: str, theirs: str) -> list[Row]:
    """The projections of a `PerceiverAttention`."""
    return [
        *linear(f"{ours}/query", f"{theirs}.self.query"),
        *linear(f"{ours}/key", f"{theirs}.self.key"),
        *linear(f"{ours}/value", f"{theirs}.self.value"),
        *linear(f"{ours}/output", f"{theirs}.output.dense"),
    ]


def mlp(ours: str, theirs: str) -> list[Row]:
    """The `PerceiverMLP` of a layer and the norm before it."""
    return [
        *norm(f"{ours}/mlp_norm", f"{theirs}.layernorm"),
        *linear(f"{ours}/mlp/hidden", f"{theirs}.mlp.dense1"),
        *linear(f"{ours}/mlp/output", f"{theirs}.mlp.dense2"),
    ]


def pointwise(ours: str, theirs: str) -> list[Row]:
    """A 1×1 `torch.nn.Conv2d`, to us a projection."""
    return [
        row(f"{ours}/kernel", f"{theirs}.weight", POINTWISE),
        row(f"{ours}/bias", f"{theirs}.bias"),
    ]


def conv_stem(ours: str, theirs: str) -> list[Row]:
    """A `Conv2DDownsample`, which has one layer."""
    return [
        row(f"{ours}/layer/0/conv/kernel", f"{theirs}.conv.weight", CONV2D),
        *batch_norm(f"{ours}/layer/0/norm", f"{theirs}.batchnorm"),
    ]


def batch_norm(ours: str, theirs: str) -> list[Row]:
    """A `torch.nn.BatchNorm2d`: the same function in inference.

    In training, torch's averages move otherwise: their variance is the unbiased one, and they
    start from 0 and 1 instead of being free of where they start.
    """
    return [
        *norm(ours, theirs),
        row(f"{ours}/mean", f"{theirs}.running_mean"),
        row(f"{ours}/var", f"{theirs}.running_var"),
        row(f"{ours}/count", f"{theirs}.num_batches_tracked", COUNT, note="training steps seen"),
    ]


def _load_pointwise(arrays: list[np.ndarray]) -> list[np.ndarray]:
    for array in arrays:
        if array.shape[2:] != (1, 1):
            raise ValueError(f"shape {list(array.shape)} instead of [out, in, 1, 1]")
    return [array[:, :, 0, 0].T for array in arrays]


def _load_count(arrays: list[np.ndarray]) -> list[np.ndarray]:
    counts = [array.astype(np.int32) for array in arrays]
    for count, array in zip(counts, arrays, strict=True):
        if not np.array_equal(count, array):
            raise ValueError(f"{array} is no count that fits into int32")
    return counts


POINTWISE = Op(
    "OI11→IO", _load_pointwise, lambda arrays: [array.T[:, :, None, None] for array in arrays]
)
"""1×1 convolutions: [out, in, 1, 1] there, [in, out] here."""
COUNT = Op("int64→int32", _load_count, lambda arrays: [array.astype(np.int64) for array in arrays])
"""Counters, which torch keeps in int64."""
