"""Attention that sees moments in time: their differences, and nothing else of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import GivenQueriesOutputAdapter
from perceiver_jax.core import PerceiverDecoder, PerceiverEncoder, PerceiverIO, Tokens
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.core.encoder_config import EncoderConfig
from perceiver_jax.core.rotary_time import RotaryTimeConfig

RNG = np.random.default_rng(0)
TIMES, LATENT_TIMES, QUERY_TIMES = np.sort(RNG.uniform(0.0, 2.0, (3, 1, 6)))
CONTENT, QUERIES = RNG.normal(size=(1, 6, 5)), RNG.normal(size=(1, 6, 8))


class GivenTokens(nnx.Module):
    num_input_channels = 5

    def __call__(self, inputs, input_mask=None, *, key=None):
        return inputs


def build(**fields):
    rotary = {"rotary_channels": 2, "rotary_min_period": 0.5, "rotary_max_period": 8.0} | fields
    heads = {"num_cross_attention_heads": 2, **rotary}
    rngs = nnx.Rngs(0)
    encoder = PerceiverEncoder(
        input_adapter=GivenTokens(),
        num_latents=6,
        num_latent_channels=8,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=1,
        num_self_attention_blocks=2,
        rngs=rngs,
        **heads,
    )
    adapter = GivenQueriesOutputAdapter(num_output_query_channels=8, rngs=rngs)
    return PerceiverIO(
        encoder,
        PerceiverDecoder(output_adapter=adapter, num_latent_channels=8, rngs=rngs, **heads),
    )


def answers(model, *, shift=0.0, moved=None):
    """Answers where all moments, or those of one kind of tokens alone, are later."""

    def timed(kind, content, times):
        later = shift if moved in (None, kind) else 0.0
        return Tokens(content=jnp.asarray(content), times=jnp.asarray(times + later))

    latents = timed("latents", model.encoder.latents[...][None], LATENT_TIMES)
    inputs = timed("inputs", CONTENT, TIMES)
    return model(inputs, latents=latents, queries=timed("queries", QUERIES, QUERY_TIMES))


@pytest.mark.parametrize("values", [False, True], ids=["keys", "values too"])
def test_a_model_sees_differences_of_moments_alone(float64, random_model, values):
    model = random_model(lambda: build(rotary_values=values))
    plain = answers(model)
    np.testing.assert_allclose(answers(model, shift=0.7), plain, rtol=1e-10, atol=1e-12)
    for kind in ("inputs", "latents", "queries"):
        assert np.abs(answers(model, shift=0.7, moved=kind) - plain).max() > 1e-6, kind


def test_scores_and_values_are_turned_by_hand(float64, random_model):
    """One query, two inputs, one head: the sums written out with complex numbers."""
    rotary = RotaryTimeConfig(num_channels=4, min_period=1.0, max_period=4.0, values=True)
    config = AttentionConfig(num_heads=1, rotary=rotary, residual=False)
    layer = random_model(
        lambda: CrossAttentionLayer(
            config, None, num_query_channels=4, num_input_channels=5, rngs=nnx.Rngs(0)
        )
    )
    inputs = Tokens(content=jnp.asarray(CONTENT[:, :2]), times=jnp.asarray(TIMES[:, :2]))
    query = Tokens(content=jnp.asarray(QUERIES[:, :1, :4]), times=jnp.asarray([[0.3]]))
    got = layer(query, inputs)

    def as_complex(x):
        return np.asarray(x)[..., ::2] + 1j * np.asarray(x)[..., 1::2]

    attention = layer.attention
    normed = layer.kv_norm(inputs.content)
    q = as_complex(attention.query(layer.q_norm(query.content)))[0, 0]
    k, v = (as_complex(f(normed))[0] for f in (attention.key, attention.value))
    turns = np.exp(1j * (TIMES[0, :2, None] - 0.3) * 2 * np.pi / np.array([1.0, 4.0]))
    scores = (np.conj(q) * k * turns).real.sum(-1) / 2.0
    weights = np.exp(scores) / np.exp(scores).sum()
    gathered = (weights[:, None] * v * turns).sum(0)
    wanted = attention.output(jnp.asarray(np.stack([gathered.real, gathered.imag], -1).ravel()))
    np.testing.assert_allclose(got[0, 0], wanted, rtol=1e-10)


def test_periods_go_from_the_shortest_to_the_longest():
    frequencies = RotaryTimeConfig(num_channels=6, min_period=0.1, max_period=10.0).frequencies
    np.testing.assert_allclose(2 * np.pi / frequencies, [0.1, 1.0, 10.0], rtol=1e-12)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"num_channels": 3}, "cannot be turned in pairs"),
        ({"num_channels": 2, "min_period": 0.0}, "0 < shortest <= longest"),
        ({"num_channels": 2, "min_period": 5.0}, "0 < shortest <= longest"),
    ],
)
def test_what_cannot_be_turned_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        RotaryTimeConfig(**fields)


def test_options_without_an_effect_are_refused():
    with pytest.raises(ValueError, match="rotary_channels=0 turns nothing"):
        EncoderConfig(rotary_values=True)
    with pytest.raises(ValueError, match="6 channels of each head are to be turned"):
        build(rotary_channels=6)


def test_arrays_have_no_moments(float64, random_model):
    model = random_model(build)
    timed = Tokens(content=jnp.asarray(CONTENT), times=jnp.asarray(TIMES))
    with pytest.raises(ValueError, match="queries and inputs have no moments"):
        model(timed, queries=jnp.asarray(QUERIES))


def test_keys_are_prepared_at_their_moments(float64, random_model):
    """Latents made ready once answer as the decoder does."""
    decoder = random_model(lambda: build(rotary_values=True)).decoder
    latents = Tokens(content=jnp.asarray(QUERIES), times=jnp.asarray(LATENT_TIMES))
    queries = Tokens(content=jnp.asarray(QUERIES), times=jnp.asarray(QUERY_TIMES))
    asked = decoder.ask(decoder.prepare(latents), queries)
    np.testing.assert_allclose(asked, decoder(latents, queries), rtol=1e-12)
    later = dataclasses.replace(latents, times=latents.times + 0.2)
    assert np.abs(decoder.ask(decoder.prepare(later), queries) - asked).max() > 1e-6
