"""perceiver_jax computes what lucidrains' `PerceiverLM` computes, and exchanges weights with it.

- Tiny random models in float64; texts are shorter than what the models take, and one of them is
  padding alone.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load, save
from interop.formats import lucidrains
from interop.references import lucidrains as reference_of
from interop.references.torch_stages import load_arrays
from perceiver_jax import models, params
from perceiver_jax.models import PerceiverConfig
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
BATCH, NUM_TOKENS = 3, 7
LANGUAGE = {
    "class": "PerceiverLM",
    "dim": 6,
    "num_tokens": 11,
    "max_seq_len": 9,
    "depth": 2,
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
TIED = {"weight_tie_layers": True}
CASES: dict[str, dict[str, Any]] = {
    "language": LANGUAGE | {"depth": 1},
    "decoder MLP": LANGUAGE | {"decoder_ff": True},
    "tied": LANGUAGE | TIED | {"depth": 3},
    "inverted": LANGUAGE | {"inverted_cross_attn": True, "max_seq_len": NUM_TOKENS},
    "twelve layers": LANGUAGE | {"depth": 12},
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

    def ours_from(self, theirs, dtype: Any = jnp.float64):
        return load(self.rows, theirs, wanted(self.structure, dtype))


def make_pair(name: str) -> Pair:
    pytest.importorskip("perceiver_pytorch")
    reference = reference_of.build(CASES[name])
    torch_models.randomise(reference, seed=len(name))
    config = lucidrains.config(CASES[name])
    return Pair(reference, config, models.skeleton(config), make_inputs(seed=0))


def make_inputs(seed: int) -> dict[str, np.ndarray]:
    """Token ids and masks, True = a token: a whole text, one with padding, and nothing else."""
    ids = np.random.default_rng(seed).integers(LANGUAGE["num_tokens"], size=(BATCH, NUM_TOKENS))
    mask = np.arange(NUM_TOKENS)[None] < np.array([[NUM_TOKENS], [4], [0]])
    return {"inputs": ids.astype(np.int32), "input_mask": mask}


def their_outputs(reference: Any, batch: Any) -> Any:
    """Called as its users call it."""
    return reference(batch["inputs"], mask=batch["input_mask"])


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


def test_stages_without_masks(torch_float64):
    pair = make_pair("decoder MLP")
    inputs = {"inputs": pair.inputs["inputs"]}
    ours = bind(pair.structure, pair.ours_from(torch_models.state(pair.reference))).stages(**inputs)
    theirs = reference_of.stages(pair.reference, inputs)
    assert list(ours) == [name for name, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


def test_twenty_steps_of_training(torch_float64):
    pair = make_pair("language")
    rng = np.random.default_rng(3)
    target = rng.normal(size=(BATCH, NUM_TOKENS, LANGUAGE["num_tokens"]))
    batches = [make_inputs(seed=10 + i) | {"target": target} for i in range(STEPS)]

    def our_loss(model, batch):
        outputs = model(batch["inputs"], batch["input_mask"])
        return jnp.square(outputs - batch["target"]).mean()

    def their_loss(model, batch):
        return (their_outputs(model, batch) - batch["target"]).square().mean()

    assert_same_training(pair.reference, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize("name", ["decoder MLP", "tied", "twelve layers"])
def test_round_trip_is_exact(name):
    """Theirs → ours → theirs → ours in float32; the class itself takes the result, strictly."""
    pair = make_pair(name)
    theirs = torch_models.state(pair.reference)
    ours = pair.ours_from(theirs, None)
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    torch_models.randomise(pair.reference, seed=99)
    load_arrays(pair.reference, back)
    for tensor, array in torch_models.state(pair.reference).items():
        np.testing.assert_array_equal(array, theirs[tensor], err_msg=tensor)
    again = pair.ours_from(back, None)
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


@pytest.mark.parametrize(("tied", "count"), [(False, 29_998_784), (True, 8_991_424)])
def test_every_tensor_of_the_model_of_their_readme_has_one_row(tied, count):
    """By shapes alone, on a device without memory."""
    import torch

    pytest.importorskip("perceiver_pytorch")
    arguments = {
        "num_tokens": 20_000,
        "dim": 32,
        "depth": 6,
        "max_seq_len": 2048,
        "num_latents": 256,
        "weight_tie_layers": tied,
    }
    with torch.device("meta"):
        model = reference_of.build(arguments)
    config = lucidrains.config(arguments)
    structure, rows = models.skeleton(config), lucidrains.rows(config)
    assert params.count(structure.params) == count
    assert sum(tensor.numel() for tensor in model.parameters()) == count
    names = [name for row in rows for name in (*row.theirs, *row.tied)]
    assert sorted(names) == sorted(model.state_dict())
