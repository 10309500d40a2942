import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import ClassificationOutputAdapter
from perceiver_jax.core import decoder as decoding
from perceiver_jax.core.decoder import DecoderConfig, MeanPoolHead, PerceiverDecoder
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.tape import Tape
from perceiver_jax.core.tokens import Tokens

LATENTS = np.random.default_rng(0).normal(size=(2, 4, 8))
QUERIES = np.random.default_rng(1).normal(size=(2, 3, 6))


def builder(**fields):
    def build():
        rngs = nnx.Rngs(0)
        adapter = ClassificationOutputAdapter(
            num_classes=5, num_output_query_channels=6, num_output_queries=3, rngs=rngs
        )
        options = {"num_cross_attention_heads": 2} | fields
        return PerceiverDecoder(output_adapter=adapter, num_latent_channels=8, rngs=rngs, **options)

    return build


def test_decoding_is_one_cross_attention_layer_and_the_output_adapter(float64, random_model):
    decoder = random_model(builder())
    z, queries = jnp.asarray(LATENTS), jnp.asarray(QUERIES)
    answers = decoder.decode(z, queries)
    assert answers.shape == (2, 3, 6)
    np.testing.assert_allclose(answers, decoder.cross_attention(queries, z), rtol=1e-12)
    np.testing.assert_allclose(decoder(z, queries), decoder.output_adapter(answers), rtol=1e-12)


def test_queries_without_batch_are_asked_of_every_example(float64, random_model, call):
    decoder = random_model(builder())
    got = call(decoder, LATENTS, QUERIES[0])
    for i in range(2):
        alone = call(decoder, LATENTS[i : i + 1], QUERIES[:1])
        np.testing.assert_allclose(got[i], alone[0], rtol=1e-12)


def test_each_query_is_answered_independently_of_the_others(float64, random_model, call):
    decoder = random_model(builder())
    whole = call(decoder, LATENTS, QUERIES)
    some = call(decoder, LATENTS, QUERIES[:, 1:])
    np.testing.assert_allclose(whole[:, 1:], some, rtol=1e-12)


def test_a_masked_query_finds_nothing(float64, random_model):
    decoder = random_model(builder(cross_attention_mlp=False))
    z, queries = jnp.asarray(LATENTS), jnp.asarray(QUERIES)
    mask = np.asarray([[True, False, True], [True, True, False]])
    got = np.asarray(decoder.decode(z, queries, jnp.asarray(mask)))
    whole = np.asarray(decoder.decode(z, queries))
    np.testing.assert_allclose(got[mask], whole[mask], rtol=1e-12)
    bias = np.asarray(decoder.cross_attention.attention.output.bias[...])
    np.testing.assert_allclose(got[~mask], QUERIES[~mask] + bias, rtol=1e-12)


def test_the_mlp_and_the_skip_can_be_left_out(float64, random_model, shapes):
    fields = {"cross_attention_mlp": False, "cross_attention_residual": False}
    assert not [path for path in shapes(builder(**fields)) if "mlp" in path]
    decoder = random_model(builder(**fields))
    layer = decoder.cross_attention
    z, queries = jnp.asarray(LATENTS), jnp.asarray(QUERIES)
    want = layer.attention(layer.q_norm(queries), layer.kv_norm(z))
    np.testing.assert_allclose(decoder.decode(z, queries), want, rtol=1e-12)


def test_channels_default_to_those_of_the_queries(shapes):
    prefix = "cross_attention/attention"
    plain = shapes(builder())
    assert plain[f"{prefix}/key/kernel"] == plain[f"{prefix}/value/kernel"] == (8, 6)
    found = shapes(builder(num_cross_attention_qk_channels=4, num_cross_attention_v_channels=10))
    assert found[f"{prefix}/query/kernel"] == (6, 4)
    assert found[f"{prefix}/key/kernel"] == (8, 4)
    assert found[f"{prefix}/value/kernel"] == (8, 10)
    assert found[f"{prefix}/output/kernel"] == (10, 6)


def test_options_reach_attention_and_mlp():
    config = DecoderConfig(
        num_cross_attention_heads=3, qkv_bias=False, masked_rows="uniform", residual_dropout=0.1
    )
    assert config.cross_attention.num_heads == 3
    assert not config.cross_attention.q_bias and not config.cross_attention.v_bias
    assert config.cross_attention.masked_rows == "uniform"
    assert config.cross_attention.residual_dropout == 0.1
    decoder = nnx.eval_shape(builder(cross_attention_widening_factor=3, activation="geglu"))
    assert decoder.cross_attention.mlp.hidden.kernel.shape == (6, 2 * 3 * 6)


def test_dropout_needs_a_key(random_model, call):
    decoder = random_model(builder(dropout=0.5))
    key = jax.random.key(0, impl="unsafe_rbg")
    plain = call(random_model(builder()), LATENTS, QUERIES)
    np.testing.assert_array_equal(call(decoder, LATENTS, QUERIES), plain)
    assert (call(decoder, LATENTS, QUERIES, key=key) != plain).any()


def test_the_tape_gets_queries_and_weights(random_model):
    stages, maps = {}, {}
    tape = Tape(stages=stages, attention_maps=maps)
    z, queries = jnp.asarray(LATENTS), jnp.asarray(QUERIES[0])
    jax.eval_shape(lambda: random_model(builder())(z, queries, tape=tape))
    assert {name: x.shape for name, x in stages.items()} == {
        "queries": (1, 3, 6),
        "cross_attention/attention": (2, 3, 6),
        "cross_attention/mlp": (2, 3, 6),
    }
    assert {name: x.shape for name, x in maps.items()} == {"cross_attention": (2, 2, 3, 4)}


@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_answers_may_become_something_else_than_the_adapter_makes(
    float64, random_model, monkeypatch, at_once
):
    """Of all queries at once, or block by block."""
    decoder = random_model(builder())
    z, queries = jnp.asarray(LATENTS), jnp.asarray(np.tile(QUERIES, (1, 3, 1)))
    if at_once is not None:
        monkeypatch.setattr(decoding, "LEAST_QUERIES", at_once)
        monkeypatch.setattr(decoding, "SCORES_AT_ONCE", 1)
    sizes = []

    def finish(answers):
        sizes.append(answers.shape[1])
        return {"sum": answers.sum(-1), "first": answers[..., :2]}

    got = decoder.answer(z, queries, finish=finish)
    answers = decoder.cross_attention(queries, z)
    np.testing.assert_allclose(got["sum"], answers.sum(-1), rtol=1e-9)
    np.testing.assert_allclose(got["first"], answers[..., :2], rtol=1e-9)
    assert set(sizes) == {at_once or 9}


def test_the_mask_of_queries_that_are_tokens_is_theirs(float64, random_model):
    decoder = random_model(builder())
    z, mask = jnp.asarray(LATENTS), jnp.asarray([[True, False, True], [True, True, False]])
    tokens = Tokens(content=jnp.asarray(QUERIES), mask=mask)
    by_tokens, by_mask, whole = (
        decoder.answer(z, queries, query_mask, finish=lambda answers: answers)
        for queries, query_mask in ((tokens, None), (tokens.content, mask), (tokens.content, None))
    )
    np.testing.assert_array_equal(by_tokens, by_mask)
    assert not np.allclose(by_tokens, whole)


def test_unknown_fields_are_refused():
    with pytest.raises(TypeError, match="num_heads"):
        builder(num_heads=3)()


@pytest.mark.parametrize("norm", [False, True])
def test_the_pooling_head_is_a_linear_layer_of_the_mean(float64, random_model, norm):
    head = random_model(
        lambda: MeanPoolHead(
            num_latent_channels=8,
            num_classes=5,
            norm=norm,
            layer_norm_epsilon=0.1,
            init=InitConfig(),
            rngs=nnx.Rngs(0),
        )
    )
    mean = LATENTS.mean(1)
    if norm:
        centred = mean - mean.mean(-1, keepdims=True)
        mean = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.1)
        mean = mean * np.asarray(head.norm.scale[...]) + np.asarray(head.norm.bias[...])
    want = mean @ np.asarray(head.linear.kernel[...]) + np.asarray(head.linear.bias[...])
    np.testing.assert_allclose(head(jnp.asarray(LATENTS)), want, rtol=1e-12)
