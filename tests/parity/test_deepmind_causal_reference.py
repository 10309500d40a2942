"""DeepMind's Perceiver AR, written anew in PyTorch, and ours compute the same.

- What is written anew is held against DeepMind's files; then ours against it, in float64.
- Padding lies in the prefix, and reaches into the latents.
"""

import json
from typing import Any

import jax
import numpy as np
import pytest

from interop.formats import deepmind
from interop.references import deepmind as reference
from interop.references import deepmind_ar
from interop.references.torch_stages import load_arrays
from perceiver_jax.train.losses import token_losses
from tests.parity import causal_pairs
from tests.parity.causal_pairs import (
    TOLERANCE,
    Pair,
    assert_exact_round_trip,
    assert_same_stages_and_gradients,
    assert_small,
)
from tests.parity.comparison import assert_same_stages, bind, max_error
from tests.parity.test_deepmind_causal_golden import CASES as GOLDEN_CASES
from tests.parity.test_deepmind_causal_golden import FULL_SIZE, Case
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference]

OF_FILES = 5e-6
"""The files are float32; logits are of order 3."""
VOCAB_SIZE, NUM_TOKENS, NUM_LATENTS, NUM_NEW = 11, 9, 4, 3
SIZES: dict[str, Any] = {
    "task": "autoregressive",
    "num_classes": VOCAB_SIZE,
    "input_idx_size": [NUM_TOKENS + NUM_NEW + 1],
    "max_context_length": NUM_TOKENS + NUM_NEW,
    "max_wavelength": 20,
    "position_encoding_type": "rotary",
    "fraction_to_rotate": 0.5,
    "input_embed_dim": 16,
    "num_z_channels": 16,
    "z_index_dim": NUM_LATENTS + NUM_NEW,
    "num_transformers_per_block": 2,
    "num_cross_attend_heads": 4,
    "num_transformer_heads": 2,
    "cross_attend_widening_factor": 2,
    "transformer_widening_factor": 3,
    "use_positions_from_data": True,
}
COUNTED_BACK = {"use_positions_from_data": False}
TABLE: dict[str, Any] = {"position_encoding_type": "absolute"}
LEARNED_TABLE = TABLE | {"position_encoding": "random", "learnable_position_embeddings": True}
TWO_LATENTS = {"z_index_dim": 2 * SIZES["z_index_dim"], "num_latents_per_position": 2}
MLP = {"initial_query_embed_style": "mlp"}
LEARNED = {"initial_query_embed_style": "learned"}
CASES: dict[str, dict[str, Any]] = {
    "turned": {},
    "some heads turned": {"fraction_heads_to_rotate": 0.5, "fraction_to_rotate": 1.0},
    "counted back": COUNTED_BACK,
    "counted back, below zero": COUNTED_BACK | {"use_negative_rotary_positions": True},
    "table": TABLE,
    "three tables": LEARNED_TABLE | {"input_idx_size": [5, 4, 3]},
    "table, counted back": TABLE | COUNTED_BACK | {"input_idx_size": [-1]},
    "MLP": MLP | {"initial_query_embed_num_layers": 3},
    "ahead": {"initial_query_offsetting": True} | MLP,
    "learned": LEARNED,
    "one learned": LEARNED
    | {"share_learned_initial_query": True, "encoder_use_query_residual": False},
    "two latents": LEARNED_TABLE | TWO_LATENTS,
    "two latents, MLP": TABLE | TWO_LATENTS | MLP,
    "between": {"additional_cross_attend_after_layers": [0, 1], "activation_name": "gelu"},
    "plain decoder": {"include_initial_cross_attention": False},
    "between alone": {
        "include_initial_cross_attention": False,
        "additional_cross_attend_after_layers": [1],
    },
    "narrow tokens": {"input_embed_dim": 8, "fraction_to_rotate": 1.0},
    "narrow tokens, wide keys": {"input_embed_dim": 8, "cross_attention_shape_for_attn": "q"},
    "twelve layers": {"num_transformers_per_block": 12},
}
WITH_CACHE = (
    "some heads turned",
    "table",
    "three tables",
    "ahead",
    "one learned",
    "between",
)


def make_pair(name: str) -> Pair:
    pair = causal_pairs.make_pair(reference, deepmind, SIZES | CASES[name], seed=len(name))
    for path, parameter in pair.model.named_parameters():
        if path.endswith("/scale"):
            parameter.data += 1.0
    return pair


def make_inputs(seed: int, name: str, *, num_tokens: int = NUM_TOKENS) -> dict[str, Any]:
    """Token ids without padding, with some in the prefix, and with some among the latents."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(VOCAB_SIZE, size=(3, num_tokens)).astype(np.int32)
    first = np.array([[0], [2], [NUM_TOKENS - NUM_LATENTS + 1]])
    inputs = {"inputs": ids, "input_mask": np.arange(num_tokens) >= first}
    sizes = (SIZES | CASES[name])["input_idx_size"]
    if len(sizes) > 1:
        inputs["positions"] = np.stack([rng.integers(n, size=ids.shape) for n in sizes], axis=-1)
    return inputs | {"num_latents": NUM_LATENTS}


@pytest.fixture(scope="module")
def file(golden):
    with np.load(golden / "tiny_perceiver_ar.npz") as found:
        arrays = dict(found)
    return json.loads(str(arrays.pop("config")))["cases"], arrays


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_the_reference_is_deepminds_function(torch_float64, file, name):
    this = Case(file, name)
    inputs = {"inputs": this.inputs, "input_mask": this.mask}
    if this.settings["use_positions_from_data"]:
        inputs["positions"] = this.positions
    weights = {path: array.astype(np.float64) for path, array in this.weights.items()}
    logits = reference.run(this.settings, weights, inputs)[-1][1]
    assert logits.shape == this.logits.shape
    error = max_error(logits[this.is_there], this.logits[this.is_there])
    print(f"logits of order {np.abs(this.logits).max():.1f}: {error:.1e}")
    assert error <= OF_FILES


@pytest.mark.parametrize("name", ["absolute_sinusoidal", "rotary"])
def test_steps_of_the_reference_are_deepminds(torch_float64, file, name):
    """Theirs fills its caches with one latent, then goes on by one latent after the other."""
    import torch

    this, (cases, arrays) = Case(file, name), file
    rules, events = cases[f"{name}/cache"], arrays[f"inputs/{name}/cache_events"]
    weights = {path: array.astype(np.float64) for path, array in this.weights.items()}
    model, start = load_arrays(reference.build(this.settings), weights), rules["start"]
    errors = []
    with torch.no_grad():
        prompt = {"inputs": events[:, :start], "num_latents": 1}
        logits, memory = deepmind_ar.forward(model, prompt)
        errors.append(max_error(logits, arrays[f"outputs/{name}/cache_prefix_logits"]))
        for i in range(rules["steps"]):
            token = {"inputs": events[:, start + i, None]}
            logits, memory = deepmind_ar.forward(model, token, memory)
            errors.append(max_error(logits, arrays[f"outputs/{name}/cache_step_logits"][i]))
    print(f"largest error of {len(errors)} steps: {max(errors):.1e}")
    assert len(errors) == 5
    assert max(errors) <= OF_FILES


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_reference_has_the_arrays_of_the_full_sizes(golden, name):
    """By shapes alone, on a device without memory."""
    import torch

    contents = json.loads((golden / f"manifest_perceiver_ar_{name}.json").read_text())
    with torch.device("meta"):
        model = reference.build({**contents["config"], "task": "autoregressive"})
    theirs = {f"params/{path}": tensor["shape"] for path, tensor in contents["params"].items()}
    assert {path: list(x.shape) for path, x in model.state_dict().items()} == theirs


@pytest.mark.parametrize("name", CASES)
def test_stages_and_gradients(torch_float64, name):
    import torch

    pair, inputs = make_pair(name), make_inputs(0, name)
    there = inputs["input_mask"][:, -NUM_LATENTS:, None]
    assert not there.all(), "no latent is padding"
    for parameter in pair.model.parameters():
        # None reaches a fixed table.
        parameter.grad = torch.zeros_like(parameter)
    logits, _ = deepmind_ar.forward(pair.model, inputs)
    theirs = reference.stages(pair.model, inputs)
    # What stands at padding means nothing.
    assert_same_stages_and_gradients(pair, theirs, logits, inputs, counted=there)


@pytest.mark.parametrize("name", ["turned", "table", "counted back", "two latents"])
def test_a_mask_and_a_number_of_latents_are_not_needed(torch_float64, name):
    pair = make_pair(name)
    ids = make_inputs(1, name)["inputs"]
    theirs = reference.stages(pair.model, {"inputs": ids})
    assert_same_stages(list(pair.ours.stages(ids).items()), theirs, TOLERANCE)
    assert theirs[-1][1].shape == (3, NUM_LATENTS + NUM_NEW, VOCAB_SIZE)


@pytest.mark.parametrize("name", ["turned", "table"])
def test_positions_may_be_given(torch_float64, name):
    pair, inputs = make_pair(name), make_inputs(1, name)
    inputs["positions"] = np.arange(3, 3 + NUM_TOKENS)[None]
    theirs = reference.stages(pair.model, inputs)
    assert_same_stages(list(pair.ours.stages(**inputs).items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", ["three tables", "ahead", "two latents"])
def test_twenty_steps_of_training(torch_float64, name):
    """By DeepMind's loss, of which what is to predict padding is left out."""
    import torch

    pair, batches = make_pair(name), []
    for i in range(STEPS):
        inputs = make_inputs(10 + i, name)
        del inputs["num_latents"]
        labels = np.random.default_rng(i).integers(VOCAB_SIZE, size=(3, NUM_LATENTS))
        batches.append(inputs | {"labels": labels})

    def our_loss(model, batch):
        inputs = {name: array for name, array in batch.items() if name != "labels"}
        losses = token_losses(
            model(**inputs, num_latents=NUM_LATENTS), batch["labels"], z_loss=1e-4
        )
        return losses.mean(where=batch["input_mask"][:, -NUM_LATENTS:])

    def their_loss(model, batch):
        logits, _ = deepmind_ar.forward(model, batch | {"num_latents": NUM_LATENTS})
        total = logits.logsumexp(-1)
        label = torch.gather(logits, 2, batch["labels"][:, :, None])[:, :, 0]
        losses = total - label + 1e-4 * total**2
        return losses[batch["input_mask"][:, -NUM_LATENTS:]].mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize("name", WITH_CACHE)
def test_steps_from_the_cache(torch_float64, name):
    """Both caches give what the reference gives without one."""
    import torch

    pair = make_pair(name)
    inputs = make_inputs(4, name, num_tokens=NUM_TOKENS + NUM_NEW)
    given = "positions" in inputs
    mask, errors = inputs["input_mask"], []

    def part(first, end, num_latents) -> dict[str, Any]:
        names = ("inputs", "input_mask", *(["positions"] if given else []))
        some = {name: inputs[name][:, first:end] for name in names}
        return some | {"num_latents": num_latents}

    def compare(logits, theirs, end):
        whole, _ = deepmind_ar.forward(pair.model, part(0, end, NUM_LATENTS + end - NUM_TOKENS))
        # The last example begins at the second latent, so that all have a token at the end.
        assert mask[:, end - 1].all()
        errors.append(max_error(logits, theirs[:, -1].numpy()))
        errors.append(max_error(theirs[:, -1].numpy(), whole[:, -1].numpy()))

    @jax.jit
    def step(arrays, ids, cache, positions):
        return bind(pair.structure, arrays).step(ids, cache, positions)

    with torch.no_grad():
        prompt = part(0, NUM_TOKENS, NUM_LATENTS)
        logits, _, cache = pair.ours.prefill(**prompt, num_steps=NUM_NEW)
        theirs, memory = deepmind_ar.forward(pair.model, prompt)
        compare(logits, theirs, NUM_TOKENS)
        for i in range(NUM_TOKENS, NUM_TOKENS + NUM_NEW):
            new = part(i, i + 1, 1)
            logits, _, cache = step(pair.arrays, new["inputs"][:, 0], cache, new.get("positions"))
            theirs, memory = deepmind_ar.forward(pair.model, new, memory)
            compare(logits, theirs, i + 1)
    assert_small(errors, count=2 * (NUM_NEW + 1))


@pytest.mark.parametrize("name", ["counted back", "two latents, MLP"])
def test_our_steps_where_deepmind_has_none(torch_float64, name):
    """Each is compared with the whole sequence computed anew there."""
    pair, errors = make_pair(name), []
    inputs = make_inputs(4, name, num_tokens=NUM_TOKENS + NUM_NEW)
    ids, mask = inputs["inputs"], inputs["input_mask"]
    start: dict[str, Any] = {"inputs": ids[:, :NUM_TOKENS], "input_mask": mask[:, :NUM_TOKENS]}
    _, memory = deepmind_ar.forward(pair.model, start)
    with pytest.raises(ValueError, match="has caches with .* alone"):
        deepmind_ar.forward(pair.model, {"inputs": ids[:, NUM_TOKENS, None]}, memory)
    logits, _, cache = pair.ours.prefill(**start, num_latents=NUM_LATENTS, num_steps=NUM_NEW)
    for end in range(NUM_TOKENS, NUM_TOKENS + NUM_NEW + 1):
        num_latents = NUM_LATENTS + end - NUM_TOKENS
        whole = {
            "inputs": ids[:, :end],
            "input_mask": mask[:, :end],
            "num_latents": num_latents,
        }
        theirs = reference.stages(pair.model, whole)[-1][1]
        errors.append(max_error(logits, theirs[:, -1]))
        if end < ids.shape[1]:
            logits, _, cache = pair.ours.step(ids[:, end], cache)
    assert_small(errors, count=NUM_NEW + 1)


def test_what_the_reference_refuses(torch_float64):
    pair, inputs = make_pair("counted back"), make_inputs(0, "counted back")
    at = {"positions": np.arange(NUM_TOKENS)[None]}
    with pytest.raises(ValueError, match="use_positions_from_data=False, positions are counted"):
        reference.stages(pair.model, inputs | at)
    inputs = {"inputs": inputs["inputs"]}
    with pytest.raises(ValueError, match="place in several tables; give positions"):
        reference.stages(make_pair("three tables").model, inputs)
    with pytest.raises(ValueError, match="rotary_fraction=0.5 turns no pair of the 2 channels"):
        reference.build(SIZES | {"input_embed_dim": 8})
    learned = make_pair("learned").model
    _, memory = deepmind_ar.forward(learned, inputs)
    with pytest.raises(ValueError, match="no cache with queries learned by place"):
        deepmind_ar.forward(learned, inputs, memory)


@pytest.mark.parametrize("name", ["three tables", "two latents, MLP", "learned", "between"])
def test_round_trip_is_exact(torch_float64, name):
    assert_exact_round_trip(make_pair(name), dtype=np.float64)
