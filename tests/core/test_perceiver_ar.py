import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.models import CausalSequenceConfig, build, causal_bytes, skeleton

VOCAB, M = 11, 10
LAYOUTS = {
    "none": None,
    "left": [0, 0, 0, 1, 1, 1, 1, 1, 1, 1],
    "left, into the latents": [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    "right": [1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "both ends": [0, 0, 1, 1, 1, 1, 1, 1, 0, 0],
    "in the middle": [1, 1, 0, 0, 1, 1, 0, 1, 1, 1],
    "all": [0] * 10,
}


def small(**fields):
    sizes = {"num_channels": 16, "num_heads": 2, "num_self_attention_layers": 3}
    return CausalSequenceConfig(
        **{"vocab_size": VOCAB, "max_seq_len": 20, "max_latents": 5, **sizes, **fields}
    )


@pytest.fixture
def model(float64, random_model):
    return random_model(lambda: build(small(), jax.random.key(0)))


@pytest.fixture
def ids():
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (1, M)))


def mask_of(layout):
    return None if LAYOUTS[layout] is None else jnp.asarray([LAYOUTS[layout]], bool)


class Embedded:
    """An input adapter whose result is given."""

    def __init__(self, adapter):
        self.abs_pos_emb, self.max_seq_len = adapter.abs_pos_emb, adapter.max_seq_len
        self.token_embedding = adapter.token_embedding

    def checked(self, ids):
        return ids

    def check_counted(self):
        pass

    def embed(self, ids, positions):
        return self.tokens


def influence(model, mask, num_latents):
    """[latents, tokens]: how far each latent's logits follow the embedding of each token."""
    model.input_adapter = embedded = Embedded(model.input_adapter)

    def logits(tokens):
        embedded.tokens = tokens
        return model(jnp.zeros((1, M), int), mask, num_latents=num_latents)[0]

    tokens = jnp.asarray(np.random.default_rng(1).normal(size=(1, M, 16)))
    return np.abs(jax.jacobian(logits)(tokens)).sum((1, 2, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("num_latents", [1, 3, 5])
def test_no_token_sees_a_later_one_or_padding(model, layout, num_latents):
    mask = mask_of(layout)
    seen = influence(model, mask, num_latents)
    is_token = np.ones(M, bool) if mask is None else np.asarray(mask[0])
    for latent, token in itertools.product(range(num_latents), range(M)):
        place = M - num_latents + latent
        if not is_token[place]:
            continue
        if token > place or not is_token[token]:
            assert seen[latent, token] == 0.0, (latent, token)
        else:
            assert seen[latent, token] > 0.0, (latent, token)


@pytest.mark.parametrize("layout", ["left", "left, into the latents"])
def test_padding_on_the_left_changes_nothing(model, ids, layout):
    mask = mask_of(layout)
    first = M - int(mask.sum())
    padded = model(ids, mask, num_latents=5)
    num_latents = min(5, M - first)
    alone = model(ids[:, first:], num_latents=num_latents)
    np.testing.assert_allclose(padded[:, 5 - num_latents :], alone, atol=1e-13)


def test_padding_in_the_prefix_changes_nothing_wherever_it_lies(model, ids):
    mask = jnp.asarray([[1, 1, 0, 0, 1, 1, 1, 1, 1, 1]], bool)
    without = jnp.concatenate([ids[:, :2], ids[:, 4:]], axis=1)
    got, wanted = model(ids, mask, num_latents=5), model(without, num_latents=5)
    np.testing.assert_allclose(got, wanted, atol=1e-13)


def test_a_latent_predicts_the_same_whatever_follows(model, ids):
    whole = model(ids, num_latents=5)
    for num_tokens in range(M - 4, M):
        part = model(ids[:, :num_tokens], num_latents=num_tokens - (M - 5))
        np.testing.assert_allclose(part, whole[:, : part.shape[1]], atol=1e-13)


@pytest.mark.parametrize("layout", ["none", "left", "left, into the latents", "in the middle"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"abs_pos_emb": False, "output_norm": True, "output_bias": False},
        {"num_self_attention_rotary_layers": -1},
        {"num_self_attention_rotary_layers": 0, "rotary_fraction": 0.0},
    ],
)
def test_cached_steps_are_the_call(float64, random_model, ids, layout, fields):
    model = random_model(lambda: build(small(**fields), jax.random.key(0)))
    mask = mask_of(layout)
    mask = jnp.ones((1, M), bool) if mask is None else mask
    logits, hidden, cache = model.prefill(ids[:, :7], mask[:, :7], num_latents=2, num_steps=M - 7)
    assert hidden.shape == (1, 2, 16)
    tokens, cells = ids[:, :7], mask[:, :7]
    for i in range(7, M):
        wanted = model(tokens, cells, num_latents=i - 5)[:, -1]
        np.testing.assert_allclose(logits, wanted, atol=1e-13)
        tokens = jnp.concatenate([tokens, ids[:, i : i + 1]], axis=1)
        cells = jnp.concatenate([cells, jnp.ones((1, 1), bool)], axis=1)
        logits, _, cache = model.step(ids[:, i], cache)


def test_the_prefix_is_dropped_in_training_only(model, ids):
    key = jax.random.key(0)
    whole, num_latents = model(ids, num_latents=5), 5
    dropped = [model(ids, num_latents=num_latents, key=k) for k in jax.random.split(key, 2)]
    assert not np.allclose(dropped[0], whole) and not np.allclose(*dropped)
    np.testing.assert_array_equal(model(ids[:, 5:], key=key), model(ids[:, 5:]))


@pytest.mark.parametrize("num_layers", [3, 9])
def test_remat_and_loops_change_nothing(float64, random_model, ids, num_layers):
    def gradients(**fields):
        config = small(num_self_attention_layers=num_layers, **fields)
        model = random_model(lambda: build(config, jax.random.key(0)))
        return jax.tree.leaves(jax.grad(lambda m: jnp.sin(m(ids)).sum())(model))

    for a, b in zip(gradients(remat=True), gradients(implementation="plain"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "num_tokens, num_latents, message",
    [
        (10, 6, "num_latents=6 is not between 1 and 5"),
        (3, 4, "num_latents=4 is not between 1 and 3"),
        (10, 0, "num_latents=0"),
        (20, 4, "a prefix of 16 positions is longer than 15.* give num_latents=5 or more"),
        (21, 5, "21 tokens are more than this model takes"),
    ],
)
def test_what_does_not_fit_is_refused(model, num_tokens, num_latents, message):
    with pytest.raises(ValueError, match=message):
        model(jnp.zeros((1, num_tokens), int), num_latents=num_latents)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_heads": 3}, "cannot be split over num_heads=3"),
        ({"num_self_attention_rotary_layers": 4}, "not between 0 and"),
        ({"rotary_fraction": -0.1}, "rotary_fraction=-0.1 is not in"),
        ({"num_channels": 12}, "3 of the 6 channels of a head of the cross-attentions"),
        ({"cross_attention_widening_factor": 0}, "cross_attention_widening_factor=0"),
        ({"rotary_fraction": 1.5}, "rotary_fraction=1.5 is not in"),
        ({"cross_attention_dropout": 1.0}, "not a rate"),
        ({"max_latents": 21}, "max_latents=21 is not between 1 and max_seq_len=20"),
    ],
)
def test_configs_that_make_no_model_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        small(**fields)


@pytest.mark.parametrize(
    "ids, mask, message",
    [
        (np.zeros(4, int), None, r"inputs of shape \(4,\)"),
        (np.zeros((1, 4)), None, "type float.* are no token ids"),
        (np.zeros((1, 0), int), None, "no token to predict from"),
        (np.zeros((1, 4), int), np.ones(4, bool), r"input_mask of shape \(4,\)"),
        (np.zeros((1, 4), int), np.ones((1, 5), bool), r"input_mask of shape \(1, 5\)"),
        (np.zeros((1, 4), int), np.ones((1, 4)), "type float"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(model, ids, mask, message):
    with pytest.raises(ValueError, match=message):
        model(ids, mask)


def test_memory_of_a_long_prefix_is_that_of_its_tokens_not_of_scores():
    config = causal_bytes(max_seq_len=2**14, num_channels=64, num_self_attention_layers=1)
    structure = skeleton(config)

    def temporaries(num_tokens):
        ids = jax.ShapeDtypeStruct((1, num_tokens), jnp.int32)
        call = jax.jit(lambda p, ids: structure.bind(p, {})(ids))
        compiled = call.lower(structure.params, ids).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    grown = (temporaries(2**14) - temporaries(2**13)) / 2**13
    scores_per_token = 512 * config.num_heads * 4
    assert grown < scores_per_token / 4


def test_the_general_part_knows_no_vocabulary():
    assert "vocab_size" not in PerceiverARConfig.__dataclass_fields__
