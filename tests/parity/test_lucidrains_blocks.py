"""The config covers lucidrains' Perceiver and Perceiver IO: same function, weights carried by hand.

- One fused matrix makes keys (first half) and values; GEGLU's first half is the value.
- The constant zero query and the image as a single token are those of MNIST classifiers on
  `PerceiverIO`.
"""

from typing import Any

import jax
import numpy as np
import pytest

from interop.rows import Arrays
from perceiver_jax import models
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
)
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
)

pytestmark = [pytest.mark.parity, pytest.mark.reference]

TOLERANCE = 1e-10
IMAGE = (3, 4, 5)
LAYER_OPTIONS = {
    "activation": "geglu",
    "qkv_bias": False,
    "masked_rows": "uniform",
    "cross_attention_widening_factor": 4,
}
HEADS = {
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
ENCODER = {
    **LAYER_OPTIONS,
    "self_attention_widening_factor": 4,
    "num_cross_attention_heads": 2,
    "num_cross_attention_qk_channels": 2 * 5,
    "num_self_attention_heads": 3,
    "num_self_attention_qk_channels": 3 * 4,
}


def linear(theirs: Arrays, name: str) -> Arrays:
    bias = {"bias": theirs[f"{name}.bias"]} if f"{name}.bias" in theirs else {}
    return {"kernel": theirs[f"{name}.weight"].T, **bias}


def norm(theirs: Arrays, name: str) -> Arrays:
    return {"scale": theirs[f"{name}.weight"], "bias": theirs[f"{name}.bias"]}


def attention(theirs: Arrays, name: str) -> Arrays:
    keys, values = np.split(theirs[f"{name}.to_kv.weight"].T, 2, axis=1)
    return {
        "query/kernel": theirs[f"{name}.to_q.weight"].T,
        "key/kernel": keys,
        "value/kernel": values,
        **under("output", linear(theirs, f"{name}.to_out")),
    }


def mlp(theirs: Arrays, name: str) -> Arrays:
    return {
        **under("mlp_norm", norm(theirs, f"{name}.norm")),
        **under("mlp/hidden", linear(theirs, f"{name}.fn.net.0")),
        **under("mlp/output", linear(theirs, f"{name}.fn.net.2")),
    }


def cross_layer(theirs: Arrays, attention_name: str, mlp_name: str | None) -> Arrays:
    return {
        **under("q_norm", norm(theirs, f"{attention_name}.norm")),
        **under("kv_norm", norm(theirs, f"{attention_name}.norm_context")),
        **under("attention", attention(theirs, f"{attention_name}.fn")),
        **(mlp(theirs, mlp_name) if mlp_name else {}),
    }


def self_layer(theirs: Arrays, name: str) -> Arrays:
    return {
        **under("norm", norm(theirs, f"{name}.0.norm")),
        **under("attention", attention(theirs, f"{name}.0.fn")),
        **mlp(theirs, f"{name}.1"),
    }


def under(path: str, arrays: Arrays) -> dict[str, Any]:
    return {f"{path}/{name}": array for name, array in arrays.items()}


def images(shape: tuple[int, ...] = IMAGE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, *shape))


def make_mask() -> np.ndarray:
    """[B, M] True = a pixel; the last image has none."""
    mask = np.random.default_rng(1).random((3, IMAGE[0] * IMAGE[1])) < 0.6
    mask[-1] = False
    return mask


def compare(
    structure: Skeleton,
    reference: Any,
    ours_from: Any,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    modules: dict[str, tuple[str, Any]],
) -> None:
    """Compares stages and gradients.

    Args:
        structure: our model.
        reference: theirs.
        ours_from: makes our arrays from theirs by name, of weights and gradients alike.
        ours: keyword arguments of our model.
        theirs: keyword arguments of theirs.
        modules: {stage of ours: (name, module whose output it is)}, in order of computation.
    """
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in theirs.items()}
    with torch_models.recording(dict(modules.values())) as their_stages:
        outputs = reference(**tensors)
    arrays = ours_from(torch_models.state(reference))
    stages = structure.bind(arrays).stages(**ours)
    # Where there is one query, ours has no axis for it.
    stages["outputs"] = stages["outputs"].reshape(outputs.shape)
    our_stages = [(name, stages[name]) for name in modules]
    assert_same_stages(our_stages, their_stages, TOLERANCE)

    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()

    def loss(arrays):
        outputs = structure.bind(arrays)(**ours)
        return (outputs.reshape(weights.shape) * weights).sum()

    gradients = jax.jit(jax.grad(loss), compiler_options=QUICK_COMPILATION)(arrays)
    assert_same_arrays(gradients, ours_from(torch_models.gradients(reference)), TOLERANCE)


@pytest.mark.parametrize(
    ("tied", "decoder_ff", "queries", "masked", "one_token"),
    [
        (False, False, "given", True, False),
        (True, True, "given", False, False),
        (False, False, "zeros", False, True),
    ],
    ids=["untied, masked", "tied, decoder MLP", "one token, zero query"],
)
def test_perceiver_io(torch_float64, tied, decoder_ff, queries, masked, one_token):
    perceiver_pytorch = pytest.importorskip("perceiver_pytorch")
    depth, queries_dim, num_queries = 3, 6, 1 if queries == "zeros" else 2
    x = images((6, 6, 2) if one_token else IMAGE)
    num_tokens = 1 if one_token else IMAGE[0] * IMAGE[1]
    reference = perceiver_pytorch.PerceiverIO(
        dim=x[0].size // num_tokens,
        depth=depth,
        queries_dim=queries_dim,
        logits_dim=7,
        weight_tie_layers=tied,
        decoder_ff=decoder_ff,
        **HEADS,
    ).eval()
    torch_models.randomise(reference, seed=depth)
    config = PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=x.shape[1:],
            preprocessing="patches" if one_token else "pixels",
            patch_size=6 if one_token else None,
            num_frequency_bands=0,
            num_self_attention_layers_per_block=1 if tied else depth,
            num_self_attention_blocks=depth if tied else 1,
            **ENCODER,
        ),
        decoder=ClassificationDecoderConfig(
            **LAYER_OPTIONS,
            num_classes=7,
            num_output_queries=num_queries,
            num_output_query_channels=queries_dim,
            output_queries=queries,
            num_cross_attention_heads=2,
            num_cross_attention_qk_channels=2 * 5,
            cross_attention_residual=False,
            cross_attention_mlp=decoder_ff,
        ),
        num_latents=3,
        num_latent_channels=8,
    )

    def ours_from(theirs: Arrays) -> dict[str, Any]:
        layers = range(1 if tied else depth)
        block = "cross_attend_block"
        arrays = {
            "encoder/latents": theirs["latents"],
            **under(
                "encoder/cross_attention/0",
                cross_layer(theirs, f"{block}.cross_attn", f"{block}.cross_ff"),
            ),
            **under(
                "decoder/cross_attention",
                cross_layer(theirs, "decoder_cross_attn", "decoder_ff" if decoder_ff else None),
            ),
            **under("decoder/output_adapter/linear", linear(theirs, "to_logits")),
        }
        for i in layers:
            arrays |= under(
                f"encoder/block/0/layer/{i}", self_layer(theirs, f"layers.{i}.self_attns.0")
            )
        return arrays

    ours: dict[str, Any] = {"inputs": x}
    theirs: dict[str, Any] = {"data": x.reshape(len(x), num_tokens, -1)}
    if queries == "given":
        ours["queries"] = theirs["queries"] = np.random.default_rng(3).normal(
            size=(num_queries, queries_dim)
        )
    else:
        theirs["queries"] = np.zeros((1, queries_dim))
    if masked:
        ours["input_mask"] = theirs["mask"] = make_mask()
    steps = [(i, 0) if tied else (0, i) for i in range(depth)]
    modules = {
        "encoder/step/0/cross_attention/mlp": ("cross_attend_block", reference.cross_attend_block),
        **{
            f"encoder/step/{step}/block/layer/{layer}/mlp": (f"layers.{i}", reference.layers[i])
            for i, (step, layer) in enumerate(steps)
        },
        "outputs": ("output", reference),
    }
    compare(models.skeleton(config), reference, ours_from, ours, theirs, modules)


@pytest.mark.parametrize("tied", [False, True], ids=["untied, masked", "tied"])
def test_perceiver(torch_float64, tied):
    """With repeated cross-attention, Fourier features axis by axis, and the mean-pool head."""
    perceiver_pytorch = pytest.importorskip("perceiver_pytorch")
    depth, self_per_cross = 3, 2
    reference = perceiver_pytorch.Perceiver(
        num_freq_bands=2,
        depth=depth,
        max_freq=7.0,
        input_channels=IMAGE[-1],
        num_classes=6,
        weight_tie_layers=tied,
        self_per_cross_attn=self_per_cross,
        **HEADS,
    ).eval()
    torch_models.randomise(reference, seed=depth)
    config = PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=IMAGE,
            num_frequency_bands=2,
            max_resolution=(7.0, 7.0),
            position_channel_order="lucidrains",
            num_cross_attention_layers=depth,
            num_self_attention_blocks=depth,
            num_self_attention_layers_per_block=self_per_cross,
            first_self_attention_block_shared=False,
            repeated_layers_shared=tied,
            **ENCODER,
        ),
        decoder=MeanPoolDecoderConfig(num_classes=6, norm=True),
        num_latents=3,
        num_latent_channels=8,
    )

    def ours_from(theirs: Arrays) -> dict[str, Any]:
        arrays = {
            "encoder/latents": theirs["latents"],
            **under("head/norm", norm(theirs, "to_logits.1")),
            **under("head/linear", linear(theirs, "to_logits.2")),
        }
        for j in range(2 if tied else depth):
            cross = cross_layer(theirs, f"layers.{j}.cross_attn", f"layers.{j}.cross_ff")
            arrays |= under(f"encoder/cross_attention/{j}", cross)
            for i in range(self_per_cross):
                layer = self_layer(theirs, f"layers.{j}.self_attns.{i}")
                arrays |= under(f"encoder/block/{j}/layer/{i}", layer)
        return arrays

    x = images()
    masks = ({}, {}) if tied else ({"input_mask": make_mask()}, {"mask": make_mask()})
    modules = {
        f"encoder/step/{i}/block/layer/{self_per_cross - 1}/mlp": (f"layers.{i}", layer)
        for i, layer in enumerate(reference.layers)
    }
    modules["outputs"] = ("output", reference)
    compare(
        models.skeleton(config),
        reference,
        ours_from,
        {"inputs": x, **masks[0]},
        {"data": x, **masks[1]},
        modules,
    )
