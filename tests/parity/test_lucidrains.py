"""perceiver_jax computes what lucidrains/perceiver-pytorch computes, and exchanges weights with it.

- Tiny random models in float64, every option in both positions; every stage and every gradient.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load, save
from interop.formats import lucidrains
from interop.formats.lucidrains.halves import LAYERS
from interop.references import lucidrains as reference_of
from interop.references.torch_stages import load_arrays
from perceiver_jax import models
from perceiver_jax.models import ImageEncoderConfig, MeanPoolDecoderConfig, PerceiverConfig
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
BATCH, QUERIES = 3, 4
GRIDS = {1: (7,), 2: (3, 4), 3: (2, 3, 2)}
COMMON = {
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
PERCEIVER = {
    "class": "Perceiver",
    "num_freq_bands": 2,
    "max_freq": 7.0,
    "depth": 3,
    "input_channels": 2,
    "num_classes": 6,
    **COMMON,
}
PERCEIVER_IO = {"class": "PerceiverIO", "depth": 3, "dim": 5, "queries_dim": 6, **COMMON}
TIED = {"weight_tie_layers": True}

CASES: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    # name: (constructor arguments, which inputs: masked, queries of their own for each example)
    "images": (PERCEIVER, {}),
    "images, masked": (PERCEIVER | TIED, {"masked": True}),
    "self-attentions": (PERCEIVER | {"self_per_cross_attn": 2, "depth": 2}, {}),
    "self-attentions, tied": (PERCEIVER | TIED | {"self_per_cross_attn": 2}, {"masked": True}),
    "sequence": (PERCEIVER | {"input_axis": 1, "depth": 1}, {"masked": True}),
    "volume": (PERCEIVER | {"input_axis": 3, "num_freq_bands": 1, "depth": 1}, {"masked": True}),
    "no Fourier features": (PERCEIVER | {"fourier_encode_data": False, "input_axis": 1}, {}),
    "inverted": (PERCEIVER | {"inverted_cross_attn": True, "depth": 2}, {}),
    "inverted, masked": (PERCEIVER | TIED | {"inverted_cross_attn": True}, {"masked": True}),
    "some inverted": (
        PERCEIVER | TIED | {"depth": 5, "inverted_cross_attn": [False, True, True, False, True]},
        {"masked": True},
    ),
    "tied, scanned": (PERCEIVER | TIED | {"depth": 9}, {}),
    "queries": (PERCEIVER_IO, {}),
    "queries, tied": (PERCEIVER_IO | TIED, {"masked": True}),
    "queries of each example": (PERCEIVER_IO | {"logits_dim": 7}, {"own": True, "masked": True}),
    "decoder MLP": (PERCEIVER_IO | {"decoder_ff": True, "logits_dim": 7}, {}),
    "decoder MLP, answers as they are": (PERCEIVER_IO | TIED | {"decoder_ff": True}, {"own": True}),
    "queries, inverted": (PERCEIVER_IO | {"inverted_cross_attn": True}, {"masked": True}),
    "queries, deep": (PERCEIVER_IO | {"depth": 9, "logits_dim": 7}, {}),
    "queries, one layer": (PERCEIVER_IO | TIED | {"depth": 1, "inverted_cross_attn": True}, {}),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, our model's structure, and arguments of its call."""

    reference: Any
    config: PerceiverConfig
    structure: Skeleton
    inputs: dict[str, np.ndarray]

    @property
    def rows(self):
        return lucidrains.rows(self.config)

    def ours_from(self, theirs):
        return load(self.rows, theirs, wanted(self.structure, jnp.float64))


def make_pair(name: str) -> Pair:
    settings, which = CASES[name]
    pytest.importorskip("perceiver_pytorch")
    reference = reference_of.build(settings)
    torch_models.randomise(reference, seed=len(name))
    config = lucidrains.config(settings)
    return Pair(reference, config, models.skeleton(config), make_inputs(settings, seed=0, **which))


def make_inputs(settings, *, seed, masked=False, own=False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    if settings["class"] == "Perceiver":
        shape = (BATCH, *GRIDS[settings.get("input_axis", 2)], settings["input_channels"])
    else:
        shape = (BATCH, *GRIDS[1], settings["dim"])
    inputs = {"inputs": rng.normal(size=shape)}
    if masked:
        mask = rng.random(shape[:-1]) < 0.6
        # One example of which nothing is left, in a mask with the axes of the grid.
        mask[0, 0], mask[-1] = True, False
        inputs["input_mask"] = mask
    if settings["class"] == "PerceiverIO":
        batch = (BATCH,) if own else ()
        inputs["queries"] = rng.normal(size=(*batch, QUERIES, settings["queries_dim"]))
    return inputs


def their_outputs(reference, inputs):
    """Called as its users call it."""
    arguments = {"data": inputs["inputs"], "mask": inputs.get("input_mask")}
    if "queries" in inputs:
        arguments["queries"] = inputs["queries"]
    return reference(**arguments)


@pytest.mark.parametrize("name", CASES)
def test_stages_and_gradients(torch_float64, name):
    """Stages are written out; gradients are those of the scanned model."""
    import torch

    pair = make_pair(name)
    tensors = {name: torch.from_numpy(array) for name, array in pair.inputs.items()}
    outputs = their_outputs(pair.reference, tensors)
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()

    def loss(arrays):
        return (bind(pair.structure, arrays)(**pair.inputs) * weights).sum()

    names = []

    def both(arrays):
        stages = bind(pair.structure, arrays).stages(**pair.inputs)
        names[:] = stages
        return list(stages.values()), jax.grad(loss)(arrays)

    arrays = pair.ours_from(torch_models.state(pair.reference))
    stages, gradients = jax.jit(both, compiler_options=QUICK_COMPILATION)(arrays)
    theirs = reference_of.stages(pair.reference, pair.inputs)
    assert names == [name for name, _ in theirs]
    assert_same_stages(list(zip(names, stages, strict=True)), theirs, TOLERANCE)
    np.testing.assert_array_equal(theirs[-1][1], outputs.numpy(force=True))
    their_gradients = pair.ours_from(torch_models.gradients(pair.reference))
    assert_same_arrays(gradients, their_gradients, TOLERANCE)


@pytest.mark.parametrize("name", ["some inverted", "decoder MLP"])
def test_twenty_steps_of_training(torch_float64, name):
    pair = make_pair(name)
    settings, which = CASES[name]
    rng = np.random.default_rng(4)
    target = rng.normal(size=their_outputs_shape(pair))
    batches = [
        make_inputs(settings, seed=10 + i, **which) | {"target": target} for i in range(STEPS)
    ]

    def our_loss(model, batch):
        inputs = {name: batch[name] for name in pair.inputs}
        return jnp.square(model(**inputs) - batch["target"]).mean()

    def their_loss(model, batch):
        return (their_outputs(model, batch) - batch["target"]).square().mean()

    assert_same_training(pair.reference, their_loss, pair.structure, our_loss, pair.rows, batches)


def their_outputs_shape(pair: Pair) -> tuple[int, ...]:
    return reference_of.stages(pair.reference, pair.inputs)[-1][1].shape


@pytest.mark.parametrize(
    "name", ["self-attentions, tied", "images", "decoder MLP", "queries, tied"]
)
def test_round_trip_is_exact(name):
    """Theirs → ours → theirs → ours in float32; the class itself takes the result, strictly."""
    pair = make_pair(name)
    theirs = torch_models.state(pair.reference)
    ours = load(pair.rows, theirs, wanted(pair.structure))
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in theirs:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)
    torch_models.randomise(pair.reference, seed=99)
    load_arrays(pair.reference, back)
    for tensor, array in torch_models.state(pair.reference).items():
        np.testing.assert_array_equal(array, theirs[tensor], err_msg=tensor)


def test_an_image_classifier_is_a_perceiver_there(torch_float64):
    """What is trained on images with our own config, as their class."""
    config = PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=(4, 4, 2),
            num_frequency_bands=2,
            position_channel_order="lucidrains",
            num_cross_attention_heads=1,
            num_cross_attention_layers=2,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=1,
            num_self_attention_blocks=2,
            first_self_attention_block_shared=False,
            self_attention_widening_factor=4,
            **LAYERS,
        ),
        decoder=MeanPoolDecoderConfig(num_classes=5, norm=True),
        num_latents=3,
        num_latent_channels=8,
    )
    pytest.importorskip("perceiver_pytorch")
    reference = reference_of.build(lucidrains.settings(config))
    torch_models.randomise(reference, seed=1)
    structure = models.skeleton(config)
    arrays = load(
        lucidrains.rows(config), torch_models.state(reference), wanted(structure, jnp.float64)
    )
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    ours = jax.jit(lambda arrays: bind(structure, arrays)(images))(arrays)
    theirs = reference_of.stages(reference, {"inputs": images})[-1]
    assert_same_stages([("outputs", ours)], [theirs], TOLERANCE)
    there_and_back = lucidrains.config(lucidrains.settings(config))
    assert models.skeleton(there_and_back).params.keys() == structure.params.keys()


@pytest.mark.parametrize(
    ("arguments", "number", "number_tied"),
    [
        (
            {
                "num_freq_bands": 6,
                "depth": 6,
                "max_freq": 10.0,
                "num_latents": 256,
                "self_per_cross_attn": 2,
            },
            70_395_972,
            23_895_388,
        ),
        (
            {"dim": 32, "queries_dim": 32, "logits_dim": 100, "depth": 6, "num_latents": 256},
            28_636_548,
            7_629_188,
        ),
    ],
)
def test_models_of_their_readme_have_their_number_of_parameters(arguments, number, number_tied):
    from perceiver_jax import params

    for tied, wanted_number in ((False, number), (True, number_tied)):
        config = lucidrains.config({**arguments, "weight_tie_layers": tied})
        assert params.count(models.skeleton(config).params) == wanted_number
