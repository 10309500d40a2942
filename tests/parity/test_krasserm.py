"""perceiver_jax computes what krasserm/perceiver-io computes, and exchanges weights with it.

- Tiny random models in float64, where "the same function" and "nearly the same" differ by orders of
  magnitude.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop import MappingError, load, save
from interop.formats import krasserm
from interop.formats.krasserm import image_classifier
from interop.references import ReferenceMissing
from interop.references import krasserm as reference
from perceiver_jax import models, params
from perceiver_jax.models import PerceiverConfig
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    max_error,
    wanted,
)
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference]

TOLERANCE = 1e-10
ENCODER = {
    "image_shape": (4, 5, 3),
    "num_frequency_bands": 2,
    "num_cross_attention_heads": 1,
    "num_self_attention_heads": 2,
    "num_self_attention_layers_per_block": 2,
}
DECODER = {"num_classes": 5, "num_output_query_channels": 6, "num_cross_attention_heads": 2}
REPEATED = {
    "num_cross_attention_layers": 2,
    "num_self_attention_blocks": 3,
    "num_self_attention_layers_per_block": 1,
}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: (encoder settings, decoder settings)
    "one cross-attention": ({}, {}),
    "shared blocks": ({"num_self_attention_blocks": 3}, {}),
    "repeated, first cross-attention apart": (REPEATED, {}),
    "repeated, all shared": (REPEATED | {"first_cross_attention_layer_shared": True}, {}),
    "repeated, first block apart": (
        REPEATED
        | {"first_cross_attention_layer_shared": True, "first_self_attention_block_shared": False},
        {},
    ),
    "repeated, both first apart": (
        {
            "num_cross_attention_layers": 3,
            "num_self_attention_blocks": 3,
            "first_self_attention_block_shared": False,
        },
        {},
    ),
    "no residual in the decoder": ({}, {"cross_attention_residual": False}),
    "channels of their own": (
        {
            "num_cross_attention_heads": 2,
            "num_cross_attention_qk_channels": 6,
            "num_cross_attention_v_channels": 4,
            "cross_attention_widening_factor": 2,
            "num_self_attention_qk_channels": 4,
            "num_self_attention_v_channels": 12,
            "self_attention_widening_factor": 3,
        },
        {
            "num_cross_attention_qk_channels": 4,
            "num_cross_attention_v_channels": 10,
            "cross_attention_widening_factor": 2,
        },
    ),
    "twelve layers": ({"num_self_attention_layers_per_block": 12}, {}),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, and our model's structure."""

    model: Any
    config: PerceiverConfig
    structure: Skeleton
    images: np.ndarray

    @property
    def rows(self):
        return krasserm.rows(self.config)


def make_pair(name: str, dtype: str = "float64") -> Pair:
    encoder, decoder = CASES[name]
    settings = {
        "encoder": ENCODER | encoder,
        "decoder": DECODER | decoder,
        "num_latents": 3,
        "num_latent_channels": 8,
    }
    model = build(settings)
    torch_models.randomise(model, seed=len(name))
    config = krasserm.config(settings)
    images = np.random.default_rng(0).normal(size=(3, *ENCODER["image_shape"])).astype(dtype)
    return Pair(model, config, models.skeleton(config), images)


def build(settings: dict[str, Any]) -> Any:
    """The reference with random weights; skips the test where it is not installed."""
    try:
        return reference.build(settings)
    except ReferenceMissing as error:
        pytest.skip(str(error))


def make_mask(pair: Pair) -> np.ndarray:
    """[B, M] True = a pixel; the last image has none."""
    mask = np.random.default_rng(1).random((len(pair.images), 20)) < 0.6
    mask[0, 0], mask[-1] = True, False
    return mask


def torch_mask(mask: np.ndarray | None):
    """The reference's masks are True where there is nothing."""
    import torch

    return None if mask is None else torch.from_numpy(~mask)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("name", CASES)
def test_stages(torch_float64, name, masked):
    pair = make_pair(name)
    mask = make_mask(pair) if masked else None
    arrays = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure, jnp.float64))
    ours = bind(pair.structure, arrays).stages(pair.images, mask)
    inputs = {"inputs": pair.images} | ({"input_mask": mask} if masked else {})
    theirs = reference.stages(pair.model, inputs)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(torch_float64, name):
    """The compiled model, which scans the repeated and deep layers that stages write out."""
    import torch

    pair = make_pair(name)
    mask = make_mask(pair)
    want = wanted(pair.structure, jnp.float64)
    arrays = load(pair.rows, torch_models.state(pair.model), want)

    outputs = pair.model(torch.from_numpy(pair.images), pad_mask=torch_mask(mask))
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()
    parameters = [row for row in pair.rows if row.default is None]
    theirs = load(parameters, torch_models.gradients(pair.model), want)

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            outputs = pair.structure.bind(arrays)(pair.images, mask)
            return (outputs * weights).sum(), outputs

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_outputs = compute(arrays)
    assert max_error(our_outputs, outputs.detach()) <= TOLERANCE
    assert_same_arrays(ours, theirs, TOLERANCE)


@pytest.mark.parametrize("name", ["repeated, both first apart", "channels of their own"])
def test_twenty_steps_of_training(torch_float64, name):
    import torch

    pair = make_pair(name)
    rng = np.random.default_rng(3)
    batches = [
        {"image": rng.normal(size=pair.images.shape), "label": rng.integers(0, 5, len(pair.images))}
        for _ in range(STEPS)
    ]

    def our_loss(model, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            model(batch["image"]), batch["label"]
        )
        return losses.mean()

    def their_loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"])

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


def test_every_tensor_of_the_published_size_has_one_row():
    """By shapes alone, on a device without memory."""
    import torch

    with torch.device("meta"):
        model = build(
            {
                "encoder": {
                    "image_shape": (224, 224, 3),
                    "num_frequency_bands": 64,
                    "num_cross_attention_heads": 1,
                    "num_self_attention_layers_per_block": 6,
                    "num_self_attention_blocks": 8,
                },
                "decoder": {
                    "num_classes": 1000,
                    "num_output_query_channels": 1024,
                    "num_cross_attention_heads": 1,
                },
                "num_latents": 512,
                "num_latent_channels": 1024,
            }
        )
    theirs = {
        name: np.broadcast_to(np.zeros((), np.float32), tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    config = dataclasses.replace(
        (published := models.imagenet_fourier()),
        encoder=dataclasses.replace(published.encoder, activation="gelu"),
        decoder=dataclasses.replace(published.decoder, activation="gelu"),
    )
    structure = models.skeleton(config)
    rows = [row for row in krasserm.rows(config) if row.default is None]
    (buffer,) = theirs.keys() - {name for row in rows for name in row.theirs}
    assert buffer == "0.input_adapter.position_encoding.position_encoding"
    del theirs[buffer]
    assert params.count(structure.params) == 48_440_627
    assert save(rows, load(rows, theirs, wanted(structure)), theirs).keys() == theirs.keys()


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name):
    """Theirs → ours → theirs is exact, and the class itself takes the result."""
    import torch

    pair = make_pair(name, dtype="float32")
    theirs = torch_models.state(pair.model)
    ours = load(pair.rows, theirs, wanted(pair.structure))
    back = save(pair.rows, ours, want=theirs)
    buffer = "0.input_adapter.position_encoding.position_encoding"
    assert back.keys() == theirs.keys()
    assert max_error(back[buffer], theirs[buffer]) <= image_classifier.BUFFER_TOLERANCE
    for tensor in back.keys() - {buffer}:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)

    torch_models.randomise(pair.model, seed=99)
    tensors = {tensor: torch.from_numpy(array.copy()) for tensor, array in back.items()}
    pair.model.load_state_dict(tensors, strict=True)
    again = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure))
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


def test_fourier_buffer_of_published_size():
    model = build(
        {
            "encoder": ENCODER | {"image_shape": (224, 224, 3), "num_frequency_bands": 64},
            "decoder": DECODER,
            "num_latents": 3,
            "num_latent_channels": 8,
        }
    )
    name = "0.input_adapter.position_encoding.position_encoding"
    theirs = torch_models.state(model)[name]
    encoder = dataclasses.replace(
        make_pair("one cross-attention").config.encoder,
        image_shape=(224, 224, 3),
        num_frequency_bands=64,
    )
    row = image_classifier.fourier_buffer(encoder, name)
    ours = row.default({"encoder/latents": np.zeros((), np.float32)})
    assert ours.dtype == np.float32
    assert max_error(ours, theirs) <= image_classifier.BUFFER_TOLERANCE


def break_missing(state):
    del state["0.self_attn_1.0.0.module.norm.weight"]


def break_unexpected(state):
    state["0.self_attn_n.0.0.module.norm.weight"] = np.zeros(8, np.float32)


def break_shape(state):
    state["0.latent_provider._query"] = np.zeros((4, 8), np.float32)


def break_dtype(state):
    state["1.output_adapter.linear.bias"] = np.zeros(5, np.float16)


def break_value(state):
    state["0.input_adapter.position_encoding.position_encoding"] *= 1.01


@pytest.mark.parametrize(
    ("damage", "kind", "name"),
    [
        (break_missing, "missing", "0.self_attn_1.0.0.module.norm.weight"),
        (break_unexpected, "unexpected", "0.self_attn_n.0.0.module.norm.weight"),
        (break_shape, "shape", "encoder/latents"),
        (break_dtype, "dtype", "decoder/output_adapter/linear/bias"),
        (break_value, "value", "0.input_adapter.position_encoding.position_encoding"),
    ],
)
def test_damaged_files_are_refused(damage, kind, name):
    pair = make_pair("one cross-attention", dtype="float32")
    state = torch_models.state(pair.model)
    damage(state)
    with pytest.raises(MappingError) as refused:
        load(pair.rows, state, wanted(pair.structure))
    assert [(problem.kind, problem.name) for problem in refused.value.problems] == [(kind, name)]
