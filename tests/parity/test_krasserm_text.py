"""perceiver_jax computes what krasserm's models of texts compute, and exchanges weights with them.

- Tiny random models in float64, masked language models and classifiers; texts are shorter than what
  the models take, and one of them is padding alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop import load, save
from interop.formats import krasserm
from interop.references import ReferenceMissing
from interop.references import krasserm as reference
from interop.references.torch_stages import load_arrays
from perceiver_jax import models, params
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
)
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    wanted,
)
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference]

TOLERANCE = 1e-10
BATCH, NUM_TOKENS, VOCAB_SIZE, NUM_CLASSES = 3, 7, 11, 5
IGNORED = -100
"""The label of a token that is not to be predicted."""
VOCABULARY = {"vocab_size": VOCAB_SIZE, "max_seq_len": 9}
ENCODER = VOCABULARY | {
    "num_input_channels": 6,
    "num_cross_attention_heads": 2,
    "num_self_attention_heads": 2,
    "num_self_attention_layers_per_block": 2,
}
LANGUAGE = VOCABULARY | {"num_cross_attention_heads": 2}
CLASSES = {
    "num_classes": NUM_CLASSES,
    "num_output_query_channels": 6,
    "num_cross_attention_heads": 2,
}
PUBLISHED = {
    "num_cross_attention_qk_channels": 4,
    "num_cross_attention_v_channels": 8,
    "num_self_attention_qk_channels": 4,
    "num_self_attention_v_channels": 8,
}
"""As in the published model, fewer channels for queries and keys than for values."""
ONE_LAYER = {"num_self_attention_layers_per_block": 1}
REPEATED = {
    "num_cross_attention_layers": 2,
    "num_self_attention_blocks": 3,
    "first_self_attention_block_shared": False,
}
UNTIED = {"num_output_query_channels": 10}
ALONE = {"cross_attention_residual": False}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # name: (encoder settings, decoder settings)
    "tied": ({}, LANGUAGE),
    "tied, as published": (
        PUBLISHED | ONE_LAYER,
        LANGUAGE
        | ALONE
        | {"num_cross_attention_qk_channels": 4, "num_cross_attention_v_channels": 6},
    ),
    "untied": (ONE_LAYER, LANGUAGE | UNTIED),
    "untied, no residual": (REPEATED, LANGUAGE | UNTIED | ALONE),
    "twelve layers": ({"num_self_attention_layers_per_block": 12}, LANGUAGE),
    "no shorter texts": (
        ONE_LAYER | {"max_seq_len": NUM_TOKENS},
        LANGUAGE | {"max_seq_len": 12},
    ),
    "classes": (ONE_LAYER, CLASSES),
    "classes, no residual": (ONE_LAYER | PUBLISHED, CLASSES | ALONE),
    "classes, several queries": (ONE_LAYER, CLASSES | {"num_output_queries": 3}),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, our model's structure, and arguments of its call."""

    model: Any
    config: PerceiverConfig
    structure: Skeleton
    inputs: dict[str, np.ndarray]

    @property
    def rows(self):
        return krasserm.rows(self.config)

    def ours_from(self, theirs, dtype: Any = jnp.float64):
        return load(self.rows, theirs, wanted(self.structure, dtype))


def make_pair(name: str) -> Pair:
    encoder, decoder = CASES[name]
    settings = {
        "encoder": ENCODER | encoder,
        "decoder": decoder,
        "num_latents": 3,
        "num_latent_channels": 8,
    }
    model = build(settings)
    torch_models.randomise(model, seed=len(name))
    config = krasserm.config(settings)
    return Pair(model, config, models.skeleton(config), make_inputs(seed=0))


def build(settings: dict[str, Any]) -> Any:
    """The reference with random weights; skips the test where it is not installed."""
    try:
        return reference.build(settings)
    except ReferenceMissing as error:
        pytest.skip(str(error))


def make_inputs(seed: int) -> dict[str, np.ndarray]:
    """Token ids and masks, True = a token: a whole text, one with padding, and nothing else."""
    ids = np.random.default_rng(seed).integers(VOCAB_SIZE, size=(BATCH, NUM_TOKENS))
    mask = np.arange(NUM_TOKENS)[None] < np.array([[NUM_TOKENS], [4], [0]])
    return {"inputs": ids.astype(np.int32), "input_mask": mask}


def their_outputs(model: Any, batch: Any) -> Any:
    """Called as its users call it: masks are True where there is nothing."""
    return model(batch["inputs"], pad_mask=~batch["input_mask"])


@pytest.mark.parametrize("name", CASES)
def test_stages_and_gradients(torch_float64, name):
    """Stages are written out; gradients are those of the scanned model."""
    import torch

    pair = make_pair(name)
    tensors = {name: torch.from_numpy(array) for name, array in pair.inputs.items()}
    outputs = their_outputs(pair.model, tensors)
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()

    def loss(arrays):
        return (bind(pair.structure, arrays)(**pair.inputs) * weights).sum()

    names = []

    def both(arrays):
        stages = bind(pair.structure, arrays).stages(**pair.inputs)
        names[:] = stages
        return list(stages.values()), jax.grad(loss)(arrays)

    arrays = pair.ours_from(torch_models.state(pair.model))
    stages, gradients = jax.jit(both, compiler_options=QUICK_COMPILATION)(arrays)
    theirs = reference.stages(pair.model, pair.inputs)
    assert names == [name for name, _ in theirs]
    assert_same_stages(list(zip(names, stages, strict=True)), theirs, TOLERANCE)
    np.testing.assert_array_equal(theirs[-1][1], outputs.numpy(force=True))
    assert_same_arrays(gradients, pair.ours_from(torch_models.gradients(pair.model)), TOLERANCE)


@pytest.mark.parametrize("name", ["tied", "untied, no residual", "classes"])
def test_stages_without_masks(torch_float64, name):
    pair = make_pair(name)
    inputs = {"inputs": pair.inputs["inputs"]}
    arrays = pair.ours_from(torch_models.state(pair.model))
    ours = bind(pair.structure, arrays).stages(**inputs)
    theirs = reference.stages(pair.model, inputs)
    assert list(ours) == [name for name, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", ["tied, as published", "classes"])
def test_twenty_steps_of_training(torch_float64, name):
    import torch

    pair = make_pair(name)
    rng = np.random.default_rng(3)
    shape = (BATCH,) if name.startswith("classes") else (BATCH, NUM_TOKENS)
    batches = []
    for i in range(STEPS):
        labels = rng.integers(NUM_CLASSES, size=shape)
        if len(shape) == 2:
            labels[rng.random(shape) < 0.5] = IGNORED
        batches.append(make_inputs(seed=10 + i) | {"label": labels})

    def our_loss(model, batch):
        outputs = model(batch["inputs"], batch["input_mask"])
        asked = batch["label"] != IGNORED
        losses = optax.softmax_cross_entropy_with_integer_labels(
            outputs, jnp.where(asked, batch["label"], 0)
        )
        return (losses * asked).sum() / asked.sum()

    def their_loss(model, batch):
        logits = their_outputs(model, batch).flatten(0, -2)
        return torch.nn.functional.cross_entropy(logits, batch["label"].flatten())

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


def published(decoder: TextDecoderConfig | ClassificationDecoderConfig) -> PerceiverConfig:
    """The published language model with exact GELU, and another decoder."""
    config = models.language_perceiver(activation="gelu")
    return dataclasses.replace(config, decoder=decoder)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (
            published(dataclasses.replace(models.language_perceiver().decoder, activation="gelu")),
            201_108_230,
        ),
        (
            published(
                ClassificationDecoderConfig(
                    num_classes=2, num_output_query_channels=768, num_cross_attention_heads=1
                )
            ),
            200_587_010,
        ),
    ],
    ids=["MaskedLanguageModel", "TextClassifier"],
)
def test_every_tensor_of_the_published_size_has_one_row(config, count):
    """By shapes alone, on a device without memory."""
    import torch

    with torch.device("meta"):
        model = build(krasserm.settings(config))
    theirs = {
        name: np.broadcast_to(np.zeros((), np.float32), tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    structure = models.skeleton(config)
    rows = krasserm.rows(config)
    assert params.count(structure.params) == count
    assert sum(tensor.numel() for tensor in model.parameters()) == count
    assert save(rows, load(rows, theirs, wanted(structure)), theirs).keys() == theirs.keys()
    assert {name for row in rows for name in row.theirs} == theirs.keys()


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_exact(name):
    """Theirs → ours → theirs → ours in float32; the class itself takes the result, strictly."""
    pair = make_pair(name)
    theirs = torch_models.state(pair.model)
    ours = pair.ours_from(theirs, None)
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    torch_models.randomise(pair.model, seed=99)
    load_arrays(pair.model, back)
    for tensor, array in torch_models.state(pair.model).items():
        np.testing.assert_array_equal(array, theirs[tensor], err_msg=tensor)
    again = pair.ours_from(back, None)
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)
