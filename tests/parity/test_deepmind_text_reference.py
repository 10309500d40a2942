"""DeepMind's language model, put together from Hugging Face's modules, and ours compute the same.

- What is put together is held against DeepMind's files; then ours against it, in float64.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load, save
from interop.formats import deepmind
from interop.formats.huggingface import masked_language_model
from interop.references import deepmind as reference
from interop.references import huggingface as huggingface_reference
from interop.references.torch_stages import load_arrays
from perceiver_jax import models
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    max_error,
    wanted,
)

pytestmark = [pytest.mark.parity, pytest.mark.reference, pytest.mark.usefixtures("offline")]

TOLERANCE = 1e-10
NAME = "language_perceiver_io_bytes"


@pytest.fixture
def tiny(golden):
    """Settings, weights, texts and logits of a golden file."""
    with np.load(golden / f"tiny_{NAME}.npz") as file:
        arrays = dict(file)
    settings = json.loads(str(arrays.pop("config")))
    settings = {k: v for k, v in settings.items() if k not in ("name", "variant", "seed")}
    weights = {k: v for k, v in arrays.items() if k.startswith("params/")}
    texts = {
        "inputs": arrays["inputs/tokens"],
        "input_mask": arrays["inputs/input_mask"].astype(bool),
    }
    return settings, weights, texts, arrays["outputs/logits"]


def test_the_reference_is_deepminds_function(tiny):
    """Predictions for padding included, which Hugging Face's class has otherwise."""
    settings, weights, texts, logits = tiny
    assert not texts["input_mask"].all()
    error = max_error(reference.run(settings, weights, texts)[-1][1], logits)
    print(f"logits of order {np.abs(logits).max():.1f}: {error:.1e}")
    assert error <= 2e-5


def doubled(arrays):
    return {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("masked", ["padded", "one without tokens", "none"])
def test_stages_of_the_reference(tiny, torch_float64, masked):
    settings, weights, texts, _ = tiny
    if masked == "none":
        texts.pop("input_mask")
    elif masked == "one without tokens":
        texts["input_mask"][-1] = False
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    weights = doubled(weights)
    ours = bind(structure, load(deepmind.rows(config), weights, wanted(structure, jnp.float64)))
    theirs = reference.run(settings, weights, texts)
    stages = ours.stages(**texts)
    assert list(stages) == [stage for stage, _ in theirs]
    assert_same_stages(list(stages.items()), theirs, TOLERANCE)


def test_gradients_of_the_reference(tiny, torch_float64):
    """Padding is predicted too, from a query that sees nothing."""
    import torch

    settings, weights, texts, _ = tiny
    config = deepmind.config(settings)
    structure = models.skeleton(config)
    arrays = load(deepmind.rows(config), doubled(weights), wanted(structure, jnp.float64))
    rows = masked_language_model.state_dict_rows(config)
    model = load_arrays(reference.build(settings), save(rows, arrays))
    outputs = huggingface_reference.forward(model, texts)
    factors = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(factors)).sum().backward()
    theirs = load(rows, torch_models.gradients(model), wanted(structure, jnp.float64))

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        return jax.grad(lambda arrays: (bind(structure, arrays)(**texts) * factors).sum())(arrays)

    assert_same_arrays(compute(arrays), theirs, TOLERANCE)


def test_weights_go_to_huggingface_and_back_ends_where_it_began(tiny):
    settings, weights, _, _ = tiny
    config = deepmind.config(settings)
    want = wanted(models.skeleton(config))
    rows = masked_language_model.state_dict_rows(config)
    again = load(rows, save(rows, load(deepmind.rows(config), weights, want)), want)
    back = save(deepmind.rows(config), again, want=weights)
    for tensor in weights:
        np.testing.assert_array_equal(back[tensor], weights[tensor], err_msg=tensor)
