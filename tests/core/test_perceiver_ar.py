import functools
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


DEEPMIND = {
    "initial_queries": "linear",
    "cross_attention_keys": "inputs",
    "tied_logits": False,
    "output_norm": True,
    "abs_pos_emb": False,
    "rotary_frequencies": "closed",
    "num_self_attention_rotary_layers": -1,
    "cross_attention_dropout": 0.0,
}
VARIANTS = {
    "krasserm": {},
    "deepmind": DEEPMIND,
    "two at each position": {**DEEPMIND, "num_latents_per_position": 2},
    "inputs again, ahead, few heads": {
        **DEEPMIND,
        "initial_queries": "mlp",
        "cross_attention_after_layers": (0, 2),
        "query_position_offset": 1,
        "rotary_heads_fraction": 0.5,
        "rotary_fraction": 0.5,
    },
    "counted back": {**DEEPMIND, "position_origin": "last"},
    "a learned query": {**DEEPMIND, "initial_queries": "learned_shared"},
    "lucidrains": {
        "num_cross_attention_layers": 2,
        "num_cross_attention_qk_channels": 8,
        "rotary_pairs": "halves",
        "rotary_fraction": 0.5,
        "num_self_attention_rotary_layers": -1,
        "tied_logits": False,
        "output_bias": False,
    },
}


@pytest.fixture
def model(float64, random_model):
    return random_model(lambda: build(small(), jax.random.key(0)))


@pytest.fixture(params=VARIANTS)
def variant(float64, random_model, request):
    return random_model(lambda: build(small(**VARIANTS[request.param]), jax.random.key(0)))


@pytest.fixture
def ids():
    return jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (1, M)))


def mask_of(layout):
    return None if LAYOUTS[layout] is None else jnp.asarray([LAYOUTS[layout]], bool)


@functools.partial(jax.jit, static_argnames="num_latents")
def compiled(model, *inputs, num_latents):
    return model(*inputs, num_latents=num_latents)


class Embedded:
    """An input adapter whose result is given."""

    def __init__(self, adapter):
        self.of = adapter
        self.abs_pos_emb, self.max_seq_len = adapter.abs_pos_emb, adapter.max_seq_len
        self.token_embedding = adapter.token_embedding

    def checked(self, ids):
        return ids

    def check_counted(self):
        pass

    def embed(self, ids, positions, mask=None):
        return self.tokens


def influence(model, masks, num_latents, keys=None):
    """[cases, positions, tokens]: how far logits of each position follow each token's embedding.

    Args:
        model: of one row of M tokens.
        masks: of each case, or None.
        num_latents: positions that predict.
        keys: of each case, or None.
    """
    model.input_adapter = embedded = Embedded(model.input_adapter)
    start = jnp.asarray(np.random.default_rng(1).normal(size=(1, M, 16)))

    def of_case(mask, key):
        def logits(tokens):
            embedded.tokens = tokens
            return model(jnp.zeros((1, M), int), mask, num_latents=num_latents, key=key)[0]

        return jnp.abs(jax.jacobian(logits)(start)).sum((1, 2, 4))

    axes = (None if masks is None else 0, None if keys is None else 0)
    if axes == (None, None):
        return np.asarray(jax.jit(of_case)(masks, keys))[None]
    return np.asarray(jax.jit(jax.vmap(of_case, axes))(masks, keys))


def sees_what_it_may(seen, mask, *, everything):
    """Whether each position follows no later token and no padding, and itself and all before."""
    num_latents = len(seen)
    is_token = np.asarray(mask[0])
    for latent, token in itertools.product(range(num_latents), range(M)):
        place = M - num_latents + latent
        if not is_token[place]:
            continue
        if token > place or not is_token[token]:
            assert seen[latent, token] == 0.0, (latent, token)
        elif everything or token == place:
            assert seen[latent, token] > 0.0, (latent, token)


MASKS = jnp.asarray([[row] for row in LAYOUTS.values() if row is not None], bool)


@pytest.mark.parametrize("num_latents", [1, 3, 5])
def test_no_token_sees_a_later_one_or_padding(variant, num_latents):
    for seen, mask in zip(influence(variant, MASKS, num_latents), MASKS, strict=True):
        sees_what_it_may(seen, mask, everything=True)


def test_no_token_sees_a_later_one_where_there_is_no_mask(variant):
    sees_what_it_may(influence(variant, None, 5)[0], np.ones((1, M), bool), everything=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"cross_attention_dropout": 0.5, "num_latents_per_position": 2},
        {"encoder_dropout": 0.6},
        {"latent_dropout": 0.5, "encoder_dropout": 0.6, "num_latents_per_position": 2},
        {"num_training_inputs": 4, "cross_attention_after_layers": (0,)},
        {"num_training_inputs": 2, "encoder_dropout": 0.5},
    ],
)
def test_no_token_sees_a_later_one_or_padding_in_training(float64, random_model, fields):
    config = small(**(DEEPMIND | fields))
    model = random_model(lambda: build(config, jax.random.key(0)))
    keys = jax.random.split(jax.random.key(0), len(MASKS))
    for seen, mask in zip(influence(model, MASKS, 5, keys), MASKS, strict=True):
        sees_what_it_may(seen, mask, everything=False)
    model.input_adapter = model.input_adapter.of
    whole = influence(model, None, 5, jax.random.split(jax.random.key(1), 20))
    for seen in whole:
        sees_what_it_may(seen, np.ones((1, M), bool), everything=False)
    prefix = whole[:, -1, : M - 5] > 0.0
    assert prefix.any() and not prefix.all(), "some of the prefix is left out, not all"


def test_latents_that_are_dropped_are_seen_by_themselves_alone(float64, random_model):
    """Without cross-attention nothing else can let them through."""
    fields = {"num_cross_attention_layers": 0, "latent_dropout": 0.5}
    model = random_model(lambda: build(small(**DEEPMIND, **fields), jax.random.key(0)))
    keys = jax.random.split(jax.random.key(0), 20)
    drawn = influence(model, None, 5, keys) > 0.0
    model.input_adapter = model.input_adapter.of
    whole = influence(model, None, 5)[0] > 0.0
    np.testing.assert_array_equal(whole[:, 5:], np.tri(5, dtype=bool))
    assert not whole[:, :5].any() and not (drawn & ~whole).any()
    assert drawn[:, range(5), range(5, M)].all() and (drawn != whole).any()


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
    whole = compiled(model, ids, num_latents=5)
    for num_tokens in range(M - 4, M):
        part = compiled(model, ids[:, :num_tokens], num_latents=num_tokens - (M - 5))
        np.testing.assert_allclose(part, whole[:, : part.shape[1]], atol=1e-13)


def test_cached_steps_of_every_variant_are_the_call(variant):
    """Of rows with different padding."""
    ids = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (3, M)))
    mask = jnp.arange(M)[None] >= jnp.asarray([[0], [2], [6]])
    logits, hidden, cache = variant.prefill(ids[:, :7], mask[:, :7], num_latents=2, num_steps=3)
    assert hidden.shape == (3, 2, 16)
    for i in range(7, M):
        wanted = variant(ids[:, :i], mask[:, :i], num_latents=i - 5)[:, -1]
        np.testing.assert_allclose(logits, wanted, atol=1e-12)
        logits, _, cache = variant.step(ids[:, i], cache)


def test_a_mask_of_one_row_is_that_of_all(model):
    ids = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (2, M)))
    mask = jnp.arange(M)[None] >= 3
    logits, _, cache = model.prefill(ids, mask, num_latents=2, num_steps=1)
    np.testing.assert_allclose(logits, model(ids, mask, num_latents=2)[:, -1], atol=1e-12)
    assert cache.mask.shape == (2, M + 1) and cache.latent_mask.shape == (2, 3)


@pytest.mark.parametrize(
    "num_tokens, num_latents, num_steps, mask, message",
    [
        (8, 6, 0, np.ones((1, 8), bool), "num_latents=6 is not between 1 and 5"),
        (8, 4, 2, np.ones((1, 8), bool), "num_steps=2 after num_latents=4 are more"),
        (21, 4, 0, np.ones((1, 21), bool), "21 tokens are more than this model takes"),
        (8, 4, 0, np.ones((1, 8)), "input_mask is of type float(32|64); give bools"),
        (8, 4, 0, np.ones((1, 7), bool), r"input_mask of shape \(1, 7\)"),
    ],
)
def test_what_does_not_fit_a_cache_is_refused(
    model, num_tokens, num_latents, num_steps, mask, message
):
    ids = np.zeros((1, num_tokens), int)
    with pytest.raises(ValueError, match=message):
        model.prefill(ids, mask, num_latents=num_latents, num_steps=num_steps)


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
        ({"num_latents_per_position": 2}, "goes with num_latents_per_position=1 alone, not 2"),
        (
            {"num_training_inputs": 5, "cross_attention_dropout": 0.0},
            "goes with num_training_inputs=None alone, not 5",
        ),
        (
            {"num_input_channels": 8},
            "num_input_channels=8 must be num_channels=16; or take 'linear'",
        ),
        (
            {**DEEPMIND, "num_training_inputs": 5, "cross_attention_dropout": 0.5},
            "both leave inputs out",
        ),
        ({"cross_attention_after_layers": (3,)}, "different layers in order, from 0 to 2"),
        ({"cross_attention_after_layers": (1, 0)}, "different layers in order"),
        ({"rotary_heads_fraction": 0.0}, "rotary_heads_fraction=0.0 is not in"),
        ({"rotary_heads_fraction": 0.1}, "no whole head of 2"),
        ({"rotary_fraction": 0.01}, "turns no pair of the 8 channels"),
        ({"rotary_pairs": "thirds"}, "rotary_pairs='thirds' is none of 'interleaved', 'halves'"),
        ({"num_query_mlp_layers": 3}, "no meaning with initial_queries='inputs'"),
        ({"encoder_dropout": 0.1, "masked_rows": "uniform"}, "set masked_rows='zero'"),
        ({"abs_pos_emb": False, "train_positions": False}, "no meaning without abs_pos_emb"),
        (
            {"position_shape": (5, 4), "rotary_fraction": 0.0, "position_origin": "last"},
            "are about counted tokens",
        ),
        ({"rotary_max_wavelength": 0.5}, "rotary_max_wavelength=0.5 must be 1 or more"),
        ({"query_position_offset": -1}, "query_position_offset=-1 must be 0 or more"),
        ({"zero_logits": True}, "no meaning where logits are tied"),
        ({**DEEPMIND, "num_input_channels": 8, "tied_logits": True}, "set tied_logits=False"),
        ({"abs_pos_emb": False, "position_shape": (20,)}, "no meaning without abs_pos_emb"),
        ({"position_shape": (19,)}, "fewer positions than max_seq_len=20"),
        ({"position_shape": (20,), "first_position": 1}, "from first_position=1 take"),
        ({"first_position": 1}, r"position_shape=\(21,\), or 0"),
        ({"position_shape": ()}, "must be sizes of 1 or more"),
        ({"position_shape": (5, 4)}, "rotary positions take one index"),
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


@pytest.mark.parametrize(
    "fields",
    [{}, {"cross_attention_keys": "inputs", "initial_queries": "linear"}],
)
def test_memory_of_a_long_prefix_is_that_of_its_tokens_not_of_scores(fields):
    sizes = {"max_seq_len": 2**14, "num_channels": 64, "num_self_attention_layers": 1}
    config = causal_bytes(**sizes, **fields)
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
