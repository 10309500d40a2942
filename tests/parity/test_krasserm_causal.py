"""perceiver_jax computes what krasserm's Perceiver AR computes, and exchanges weights with it.

- Tiny random models in float64; padding lies within the prefix, where the reference is right.
- Frequencies of rotary positions are made in float64 on both sides.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop import load, save
from interop.formats import krasserm
from interop.references import krasserm as reference
from perceiver_jax import models, params
from perceiver_jax.generate import generate
from perceiver_jax.sampling import GREEDY
from tests.parity import causal_pairs
from tests.parity.causal_pairs import (
    TOLERANCE,
    Pair,
    assert_buffer_has_to_be_the_computed_one,
    assert_exact_round_trip,
    assert_same_stages_and_gradients,
    assert_small,
    build,
)
from tests.parity.comparison import assert_same_stages, bind, max_error, wanted
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference]

VOCAB_SIZE, NUM_TOKENS, NUM_LATENTS, NUM_NEW = 11, 9, 4, 3
NUM_PREFIX = NUM_TOKENS - NUM_LATENTS
BUFFER = "input_adapter.frq_pos_encoding.inv_freq"
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "max_seq_len": NUM_TOKENS + NUM_NEW,
    "max_latents": NUM_LATENTS + NUM_NEW,
    "num_channels": 16,
    "num_heads": 2,
    "num_self_attention_layers": 2,
}
MUSIC = {"output_norm": True, "output_bias": False, "abs_pos_emb": False}

CASES: dict[str, tuple[dict[str, Any], int]] = {
    # name: (settings, number of latents)
    "as for bytes": ({}, NUM_LATENTS),
    "as for music": (MUSIC, NUM_LATENTS),
    "every layer rotary": ({"num_self_attention_rotary_layers": -1}, NUM_LATENTS),
    "no layer rotary": ({"num_self_attention_rotary_layers": 0, "output_norm": True}, NUM_LATENTS),
    "positions by rotation alone": ({"abs_pos_emb": False}, NUM_LATENTS),
    "no bias": ({"output_bias": False}, NUM_LATENTS),
    "narrow MLPs": (
        {"self_attention_widening_factor": 1, "cross_attention_widening_factor": 2},
        NUM_LATENTS,
    ),
    "twelve layers": (
        {"num_self_attention_layers": 12, "num_self_attention_rotary_layers": 3},
        NUM_LATENTS,
    ),
    "one latent": (MUSIC | {"max_latents": 4}, 1),
    "six latents": ({}, 6),
    "latents alone": ({"max_latents": NUM_TOKENS}, NUM_TOKENS),
}


def make_pair(name: str) -> Pair:
    settings = SIZES | CASES[name][0]
    return causal_pairs.make_pair(reference, krasserm, settings, seed=len(name), buffers=(BUFFER,))


def make_inputs(seed: int, num_latents: int, *, padded: bool = True) -> dict[str, Any]:
    """Token ids: without padding, with some, and with padding in place of the whole prefix."""
    prefix = NUM_TOKENS - num_latents
    ids = np.random.default_rng(seed).integers(VOCAB_SIZE, size=(3, NUM_TOKENS))
    inputs = {"inputs": ids.astype(np.int32), "num_latents": num_latents}
    lengths = np.array([[0], [prefix // 2], [prefix]])
    return inputs | ({"input_mask": np.arange(NUM_TOKENS)[None] >= lengths} if padded else {})


def their_outputs(model: Any, inputs: dict[str, Any], num_latents: int, **cache: Any) -> Any:
    """Called as its users call it: masks are True where there is nothing."""
    import torch

    mask = inputs.get("input_mask")
    ids = torch.from_numpy(np.array(inputs["inputs"]))
    pad_mask = None if mask is None else ~torch.from_numpy(np.array(mask))
    return model(ids, prefix_len=NUM_TOKENS - num_latents, pad_mask=pad_mask, **cache)


@pytest.mark.parametrize(
    ("name", "padded"),
    [*((name, True) for name in CASES), ("as for bytes", False), ("as for music", False)],
)
def test_stages_and_gradients(torch_float64, name, padded):
    pair, num_latents = make_pair(name), CASES[name][1]
    inputs = make_inputs(0, num_latents, padded=padded)
    logits = their_outputs(pair.model, inputs, num_latents).logits
    theirs = reference.stages(pair.model, inputs)
    names = assert_same_stages_and_gradients(pair, theirs, logits, inputs)
    assert names[:3] == ["inputs", "cross_attention/0/attention", "cross_attention/0/mlp"]


def test_as_many_latents_as_may_by_default(torch_float64):
    pair = make_pair("as for bytes")
    ids = make_inputs(0, 1, padded=False)["inputs"]
    theirs = reference.stages(pair.model, {"inputs": ids})
    assert_same_stages(list(pair.ours.stages(ids).items()), theirs, TOLERANCE)
    assert theirs[-1][1].shape == (3, SIZES["max_latents"], VOCAB_SIZE)


@pytest.mark.parametrize("name", ["as for bytes", "as for music"])
def test_twenty_steps_of_training(torch_float64, name):
    import torch

    pair, rng = make_pair(name), np.random.default_rng(3)
    batches = []
    for i in range(STEPS):
        inputs = make_inputs(10 + i, NUM_LATENTS)
        labels = rng.integers(VOCAB_SIZE, size=(3, NUM_LATENTS))
        batches.append({"inputs": inputs["inputs"], "mask": inputs["input_mask"], "label": labels})

    def our_loss(model, batch):
        logits = model(batch["inputs"], batch["mask"], num_latents=NUM_LATENTS)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def their_loss(model, batch):
        logits = model(batch["inputs"], prefix_len=NUM_PREFIX, pad_mask=~batch["mask"]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["label"].flatten())

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize(
    "name", ["as for bytes", "as for music", "every layer rotary", "no layer rotary"]
)
def test_steps_from_the_cache(torch_float64, name):
    """Both caches give what the reference gives without one, while nothing slides."""
    import torch

    pair, inputs = make_pair(name), make_inputs(4, NUM_LATENTS)
    ids, mask = jnp.asarray(inputs["inputs"]), jnp.asarray(inputs["input_mask"])
    new = np.random.default_rng(5).integers(VOCAB_SIZE, size=(NUM_NEW, 3, 1)).astype(np.int32)
    errors = []

    def compare(ours, cached):
        logits, hidden = ours
        whole = their_outputs(pair.model, {"inputs": ids, "input_mask": mask}, NUM_LATENTS)
        for theirs in (cached, whole):
            errors.append(max_error(logits, theirs.logits[:, -1].numpy(force=True)))
            latents = theirs.last_hidden_state[:, -hidden.shape[1] :]
            errors.append(max_error(hidden, latents.numpy(force=True)))

    with torch.no_grad():
        cached = their_outputs(pair.model, inputs, NUM_LATENTS, kv_cache=[])
        *ours, cache = pair.ours.prefill(ids, mask, num_latents=NUM_LATENTS, num_steps=NUM_NEW)
        compare(ours, cached)
        step = jax.jit(lambda arrays, ids, cache: bind(pair.structure, arrays).step(ids, cache))
        for token in new:
            ids = jnp.concatenate([ids, token], axis=1)
            mask = jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True)
            cached = their_outputs(
                pair.model,
                {"inputs": token, "input_mask": mask},
                NUM_LATENTS,
                kv_cache=cached.kv_cache,
            )
            *ours, cache = step(pair.arrays, token[:, 0], cache)
            compare(ours, cached)
    assert_small(errors, count=4 * (NUM_NEW + 1))


@pytest.mark.parametrize("name", ["as for bytes", "as for music", "twelve layers"])
def test_greedy_continuations(torch_float64, name):
    """The same ids as its model makes in a loop, until the latents are used up."""
    import torch

    pair, inputs = make_pair(name), make_inputs(6, NUM_LATENTS)
    ids, mask = inputs["inputs"], inputs["input_mask"]
    prompts = [row[there] for row, there in zip(ids, mask, strict=True)]
    with torch.no_grad():
        for _ in range(NUM_NEW + 1):
            theirs = their_outputs(pair.model, {"inputs": ids, "input_mask": mask}, NUM_LATENTS)
            new = theirs.logits[:, -1:].argmax(-1).numpy().astype(np.int32)
            ids, mask = np.append(ids, new, axis=1), np.pad(mask, ((0, 0), (0, 1)), mode="edge")
    made = generate(
        pair.ours, prompts, max_new_tokens=NUM_NEW + 1, num_latents=NUM_LATENTS, sampling=GREEDY
    )
    np.testing.assert_array_equal(made, ids[:, NUM_TOKENS:])


@pytest.mark.parametrize("name", ["as for bytes", "as for music"])
def test_padding_that_reaches_into_the_latents_leaks_there_and_not_here(torch_float64, name):
    """Latents that are padding attend to later tokens there, and earlier tokens to these."""
    pair, num_padding = make_pair(name), NUM_PREFIX + 2
    ids = make_inputs(6, NUM_LATENTS)["inputs"]
    mask = np.broadcast_to(np.arange(NUM_TOKENS) >= num_padding, ids.shape)
    other = ids.copy()
    other[:, -1] = (ids[:, -1] + 1) % VOCAB_SIZE

    def theirs(ids):
        inputs = {"inputs": ids, "input_mask": mask}
        return their_outputs(pair.model, inputs, NUM_LATENTS).logits.numpy(force=True)

    def ours(ids):
        return np.asarray(pair.ours(ids, mask, num_latents=NUM_LATENTS))

    # The token before the last one, which is none of padding.
    real = slice(num_padding - NUM_PREFIX, -1)
    moved = np.abs(theirs(ids) - theirs(other))[:, real].max()
    print(f"logits before the changed token move by {moved:.2f} there")
    assert moved > 0.01
    np.testing.assert_array_equal(ours(ids)[:, real], ours(other)[:, real])
    # Here a padded sequence is the sequence alone, which both see alike.
    alone = reference.stages(pair.model, {"inputs": ids[:, num_padding:]})[-1][1]
    assert max_error(ours(ids)[:, num_padding - NUM_PREFIX :], alone) <= TOLERANCE


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (models.causal_bytes, 30_563_078),
        (models.causal_subwords, 453_950_720),
        (models.symbolic_audio_maestro, 28_531_712),
        (models.symbolic_audio_giantmidi, 134_840_832),
    ],
)
def test_every_tensor_of_the_published_size_has_one_row(make, count):
    """By shapes alone, on a device without memory."""
    import torch

    config = make()
    with torch.device("meta"):
        model = build(reference, krasserm.settings(config))
    structure, rows = models.skeleton(config), krasserm.rows(config)
    assert params.count(structure.params) == count
    assert sum(tensor.numel() for tensor in model.parameters()) == count
    ours = {
        path: np.broadcast_to(np.zeros((), np.float32), x.shape)
        for path, x in structure.params.items()
    }
    theirs = save(rows, ours, want=shapes(model))
    assert theirs.keys() == model.state_dict().keys()
    assert load(rows, theirs, wanted(structure)).keys() == structure.params.keys()


def shapes(model: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """What a model in float32 takes."""
    return {
        name: jax.ShapeDtypeStruct(tuple(tensor.shape), np.float32)
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_exact(name):
    """Theirs → ours → theirs → ours in float32; both classes take the result, strictly."""
    pair = make_pair(name)
    audio = reference.backend(reference.SYMBOLIC_AUDIO)
    settings = krasserm.settings(pair.config)
    music = audio.SymbolicAudioModel(audio.SymbolicAudioModelConfig(**settings))
    assert_exact_round_trip(pair, music)


def test_the_frequencies_of_a_file_have_to_be_those_that_are_computed():
    fresh = build(reference, SIZES)
    assert_buffer_has_to_be_the_computed_one(make_pair("as for bytes"), fresh)
