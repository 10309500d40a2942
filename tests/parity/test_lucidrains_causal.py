"""perceiver_jax computes what lucidrains' `PerceiverAR` computes, and exchanges weights with it.

- Tiny random models in float64; the prefix has always the same length, as there.
- Padding lies in the prefix, and positions count it: this is all the padding that they know.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop.formats import lucidrains
from interop.references import lucidrains as reference
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
from tests.parity.comparison import assert_same_stages, bind, max_error
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference]

VOCAB_SIZE, NUM_TOKENS, NUM_PREFIX, NUM_NEW = 11, 9, 5, 3
NUM_LATENTS = NUM_TOKENS - NUM_PREFIX
BUFFER = "rotary_pos_emb.inv_freq"
SIZES: dict[str, Any] = {
    "class": "PerceiverAR",
    "num_tokens": VOCAB_SIZE,
    "dim": 12,
    "depth": 2,
    "max_seq_len": NUM_TOKENS + NUM_NEW,
    "cross_attn_seq_len": NUM_PREFIX,
    "dim_head": 40,
    "heads": 2,
}
CASES: dict[str, dict[str, Any]] = {
    "one cross-attention": {},
    "two cross-attentions": {"perceive_depth": 2},
    "no cross-attention": {"perceive_depth": 0},
    "heads turned whole": {"dim_head": 32},
    "heads of which half is turned": {"dim_head": 68, "heads": 1},
    "odd heads": {"dim_head": 33, "heads": 3, "perceive_depth": 2},
    "heads of which an odd half is turned": {"dim_head": 66},
    "as many channels as in all heads": {"dim": 32, "dim_head": 32, "heads": 1},
    "narrow MLPs": {"ff_mult": 1},
    "no prefix": {"cross_attn_seq_len": 0},
    "one latent": {"cross_attn_seq_len": NUM_TOKENS - 1},
    "as many tokens as may": {"max_seq_len": NUM_TOKENS},
    "twelve layers": {"depth": 12},
}


def make_pair(name: str, **changes: Any) -> Pair:
    settings = SIZES | CASES[name] | changes
    return causal_pairs.make_pair(
        reference, lucidrains, settings, seed=len(name), buffers=(BUFFER,)
    )


def make_inputs(seed: int, num_prefix: int, *, padded: bool = True) -> dict[str, Any]:
    """Token ids: without padding, with some on the left, with some amid, and no prefix but it."""
    ids = np.random.default_rng(seed).integers(VOCAB_SIZE, size=(4, NUM_TOKENS))
    inputs = {"inputs": ids.astype(np.int32), "num_latents": NUM_TOKENS - num_prefix}
    if not padded:
        return inputs
    mask = np.ones(ids.shape, bool)
    mask[1, : num_prefix // 2] = False
    mask[2, num_prefix // 3 : 2 * num_prefix // 3] = False
    mask[3, :num_prefix] = False
    return inputs | {"input_mask": mask, "positions": np.arange(NUM_TOKENS)[None]}


def their_outputs(model: Any, inputs: dict[str, Any]) -> Any:
    """Called as its users call it."""
    import torch

    ids = torch.from_numpy(np.array(inputs["inputs"]))
    mask = inputs.get("input_mask")
    if mask is None:
        return model(ids)
    return model(ids, prefix_mask=torch.from_numpy(np.array(mask[:, : model.cross_attn_seq_len])))


def logits_there(model: Any, ids: np.ndarray, **mask: Any) -> np.ndarray:
    return their_outputs(model, {"inputs": ids, **mask}).numpy(force=True)


@pytest.mark.parametrize(
    ("name", "padded"), [*((name, True) for name in CASES), ("one cross-attention", False)]
)
def test_stages_and_gradients(torch_float64, name, padded):
    pair = make_pair(name)
    inputs = make_inputs(0, pair.model.cross_attn_seq_len, padded=padded)
    logits = their_outputs(pair.model, inputs)
    theirs = reference.stages(pair.model, inputs)
    assert_same_stages_and_gradients(pair, theirs, logits, inputs)


def test_a_sequence_of_all_tokens_needs_no_number_of_latents(torch_float64):
    pair = make_pair("as many tokens as may")
    ids = make_inputs(0, NUM_PREFIX, padded=False)["inputs"]
    theirs = reference.stages(pair.model, {"inputs": ids})
    np.testing.assert_array_equal(theirs[-1][1], logits_there(pair.model, ids))
    assert_same_stages(list(pair.ours.stages(ids).items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", ["one cross-attention", "two cross-attentions"])
def test_twenty_steps_of_training(torch_float64, name):
    """By the loss of their wrapper, which leaves out what is to be token 0."""
    wrapper = pytest.importorskip("perceiver_ar_pytorch.autoregressive_wrapper")
    pair, batches = make_pair(name), []
    for i in range(STEPS):
        rng = np.random.default_rng(10 + i)
        ids = rng.integers(VOCAB_SIZE, size=(4, NUM_TOKENS + 1))
        batches.append({"ids": ids, "mask": make_inputs(i, NUM_PREFIX)["input_mask"]})
    assert any((batch["ids"][:, NUM_PREFIX + 1 :] == 0).any() for batch in batches)

    def our_loss(model, batch):
        inputs, labels = batch["ids"][:, :-1], batch["ids"][:, NUM_PREFIX + 1 :]
        positions = jnp.arange(NUM_TOKENS)[None]
        logits = model(inputs, batch["mask"], positions, num_latents=NUM_LATENTS)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(where=labels != 0)

    def their_loss(model, batch):
        return wrapper.AutoregressiveWrapper(model)(
            batch["ids"], prefix_mask=batch["mask"][:, :NUM_PREFIX]
        )

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize(
    "name", ["one cross-attention", "two cross-attentions", "no prefix", "odd heads"]
)
@pytest.mark.parametrize("padded", [True, False])
def test_steps_from_the_cache(torch_float64, name, padded):
    """They have no cache: each step is compared with the whole sequence computed anew there."""
    import torch

    pair = make_pair(name)
    num_prefix = pair.model.cross_attn_seq_len
    inputs = make_inputs(4, num_prefix, padded=padded)
    ids, mask = inputs["inputs"], inputs.get("input_mask", np.ones((4, NUM_TOKENS), bool))
    new = np.random.default_rng(5).integers(VOCAB_SIZE, size=(NUM_NEW, 4)).astype(np.int32)
    errors = []

    def compare(logits):
        whole = their_outputs(pair.model, inputs | {"inputs": ids})
        errors.append(max_error(logits, whole[:, -1].numpy(force=True)))

    @jax.jit
    def step(arrays, ids, cache, position):
        positions = position[None, None] if padded else None
        return bind(pair.structure, arrays).step(ids, cache, positions)

    with torch.no_grad():
        logits, _, cache = pair.ours.prefill(
            ids,
            mask,
            inputs.get("positions"),
            num_latents=NUM_TOKENS - num_prefix,
            num_steps=NUM_NEW,
        )
        compare(logits)
        for token in new:
            position = jnp.asarray(ids.shape[1])
            ids = np.append(ids, token[:, None], axis=1)
            logits, _, cache = step(pair.arrays, token, cache, position)
            compare(logits)
    assert_small(errors, count=NUM_NEW + 1)


@pytest.mark.parametrize("name", ["one cross-attention", "two cross-attentions"])
def test_greedy_continuations(torch_float64, name):
    """The ids that their wrapper makes, beyond the longest sequence, where its window slides."""
    import torch

    wrapper = pytest.importorskip("perceiver_ar_pytorch.autoregressive_wrapper")
    pair, num_new = make_pair(name), 2 * NUM_NEW + 4
    ids = make_inputs(6, NUM_PREFIX, padded=False)["inputs"]
    theirs = wrapper.AutoregressiveWrapper(pair.model).generate(
        torch.from_numpy(ids).long(), num_new, filter_thres=1 - 1.5 / VOCAB_SIZE
    )
    made = generate(
        pair.ours,
        list(ids),
        max_new_tokens=num_new,
        num_latents=NUM_LATENTS,
        sampling=GREEDY,
        refill="every",
    )
    assert NUM_TOKENS + num_new > pair.config.max_seq_len + NUM_NEW
    assert len(np.unique(made)) > 1
    np.testing.assert_array_equal(made, theirs.numpy())


def test_training_leaves_out_the_same_prefixes(torch_float64):
    """Of four tokens of prefix one is left out there and here: four outcomes, the same ones."""
    import torch

    rate, num_prefix = 0.45, 4
    pair = make_pair("one cross-attention", cross_attn_seq_len=num_prefix, cross_attn_dropout=rate)
    ids = make_inputs(7, num_prefix, padded=False)["inputs"][:1]
    num_latents = NUM_TOKENS - num_prefix
    keys = jax.random.split(jax.random.key(0), 64)

    @jax.jit
    def draws(arrays):
        model = bind(pair.structure, arrays)
        return jax.vmap(lambda key: model(ids, num_latents=num_latents, key=key))(keys)

    ours = np.asarray(draws(pair.arrays))
    torch.manual_seed(0)
    pair.model.train()
    theirs = np.stack([logits_there(pair.model, ids) for _ in range(64)])
    outcomes = []
    for drawn in (ours, theirs):
        flat = drawn.reshape(len(drawn), -1)
        outcomes.append(flat[np.unique(flat[:, 0].round(8), return_index=True)[1]])
    assert len(outcomes[0]) == 4
    assert max_error(*outcomes) <= TOLERANCE
    pair.model.eval()
    assert np.abs(outcomes[0] - logits_there(pair.model, ids).reshape(1, -1)).max(1).min() > 1e-3


def test_padding_moves_the_positions_there_and_not_here(torch_float64):
    """A padded sequence gives what it gives alone, unless positions say otherwise."""
    pair, num_padding = make_pair("one cross-attention"), 2
    ids = make_inputs(8, NUM_PREFIX, padded=False)["inputs"]
    mask = np.broadcast_to(np.arange(NUM_TOKENS) >= num_padding, ids.shape)
    there = logits_there(pair.model, ids, input_mask=mask)
    at = np.arange(NUM_TOKENS)[None]
    same = pair.ours(ids, mask, at, num_latents=NUM_LATENTS)
    alone = pair.ours(ids[:, num_padding:], num_latents=NUM_LATENTS)
    padded = pair.ours(ids, mask, num_latents=NUM_LATENTS)
    assert max_error(same, there) <= TOLERANCE
    assert max_error(padded, alone) <= TOLERANCE
    moved = max_error(padded, there)
    print(f"logits after two positions of padding differ by {moved:.2f}")
    assert moved > 0.1


def test_padding_among_the_latents_is_seen_there_and_refused_by_the_comparison(torch_float64):
    """A longer mask hides latents from cross-attentions, but not from self-attentions."""
    import torch

    pair, hidden = make_pair("one cross-attention"), NUM_PREFIX + 1
    ids = make_inputs(9, NUM_PREFIX, padded=False)["inputs"]
    mask = np.ones(ids.shape, bool)
    mask[:, hidden] = False
    other = ids.copy()
    other[:, hidden] = (ids[:, hidden] + 1) % VOCAB_SIZE

    def theirs(ids):
        tensors = torch.from_numpy(ids), torch.from_numpy(mask)
        return pair.model(*tensors).numpy(force=True)

    def ours(ids):
        return np.asarray(pair.ours(ids, mask, num_latents=NUM_LATENTS))

    moved = np.abs(theirs(ids) - theirs(other))[:, -1].max()
    print(f"the last logits move by {moved:.2f} with a token that is masked")
    assert moved > 0.01
    np.testing.assert_array_equal(ours(ids)[:, -1], ours(other)[:, -1])
    with pytest.raises(ValueError, match="masks padding in the prefix alone"):
        reference.stages(
            pair.model, {"inputs": ids, "input_mask": mask, "num_latents": NUM_LATENTS}
        )


@pytest.mark.parametrize("num_tokens", [1, NUM_PREFIX])
def test_sequences_as_short_as_the_prefix_fail_there_alone(torch_float64, num_tokens):
    pair = make_pair("one cross-attention")
    ids = make_inputs(0, NUM_PREFIX, padded=False)["inputs"][:, :num_tokens]
    with pytest.raises(AssertionError):
        logits_there(pair.model, ids)
    assert pair.ours(ids).shape == (4, num_tokens, VOCAB_SIZE)


def test_small_heads_that_are_refused_fail_there_when_they_are_called():
    package = pytest.importorskip("perceiver_ar_pytorch")
    arguments = {name: value for name, value in SIZES.items() if name != "class"}
    with pytest.raises(ValueError, match="dim_head=31 is not supported"):
        build(reference, SIZES | {"dim_head": 31})
    ids = make_inputs(0, NUM_PREFIX, padded=False)["inputs"]
    with pytest.raises(RuntimeError):
        logits_there(package.PerceiverAR(**arguments | {"dim_head": 31}), ids)


def test_their_wrapper_cannot_draw_from_ten_tokens_and_stops_at_a_prompt(torch_float64):
    import torch

    wrapper = pytest.importorskip("perceiver_ar_pytorch.autoregressive_wrapper")
    few = wrapper.AutoregressiveWrapper(build(reference, SIZES | {"num_tokens": 10}))
    prompt = torch.zeros((1, NUM_PREFIX + 1), dtype=torch.long)
    with pytest.raises(RuntimeError):
        few.generate(prompt, 1)
    some = wrapper.AutoregressiveWrapper(build(reference, SIZES))
    # A prompt that has the token at which to stop: one token is made, and erased.
    assert some.generate(prompt, 3, eos_token=0).tolist() == [[0]]


def test_every_tensor_of_the_model_of_their_readme_has_one_row():
    """By shapes alone, on a device without memory."""
    import torch

    arguments = {
        "num_tokens": 20_000,
        "dim": 512,
        "depth": 8,
        "dim_head": 64,
        "heads": 8,
        "max_seq_len": 4096,
        "cross_attn_seq_len": 3072,
        "cross_attn_dropout": 0.5,
    }
    with torch.device("meta"):
        model = build(reference, arguments)
    config = lucidrains.config(arguments)
    structure, rows = models.skeleton(config), lucidrains.rows(config)
    count = params.count(structure.params)
    assert count == sum(tensor.numel() for tensor in model.parameters())
    assert count == 50_908_672
    names = [name for row in rows for name in (*row.theirs, *row.tied)]
    assert sorted(names) == sorted(model.state_dict())


@pytest.mark.parametrize("name", CASES)
def test_round_trip_is_exact(name):
    """Theirs → ours → theirs → ours in float32; the class itself takes the result, strictly."""
    assert_exact_round_trip(make_pair(name))


def test_the_frequencies_of_a_file_have_to_be_those_that_are_computed():
    fresh = build(reference, SIZES)
    assert_buffer_has_to_be_the_computed_one(make_pair("one cross-attention"), fresh)
