"""Several examples in one row give what each gives alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import GivenQueriesOutputAdapter
from perceiver_jax.core import (
    MeanPoolHead,
    MultiHeadAttention,
    Perceiver,
    PerceiverDecoder,
    PerceiverEncoder,
    PerceiverIO,
    Tokens,
)
from perceiver_jax.core import decoder as core_decoder
from perceiver_jax.data.packing import pack

RNG = np.random.default_rng(0)
EXAMPLES = [RNG.normal(size=(n, 5)) for n in (4, 7, 2, 3, 1)]
QUERIES = [RNG.normal(size=(3, 8)) for _ in EXAMPLES]


class GivenTokens(nnx.Module):
    num_input_channels = 5

    def __call__(self, inputs, input_mask=None, *, key=None):
        return inputs


def build(**fields):
    rngs = nnx.Rngs(0)
    encoder = PerceiverEncoder(
        input_adapter=GivenTokens(),
        num_latents=2,
        num_latent_channels=8,
        num_cross_attention_heads=2,
        num_cross_attention_layers=2,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=2,
        num_self_attention_blocks=2,
        rngs=rngs,
        **fields,
    )
    adapter = GivenQueriesOutputAdapter(num_output_query_channels=8, num_outputs=3, rngs=rngs)
    return PerceiverIO(
        encoder,
        PerceiverDecoder(
            output_adapter=adapter, num_latent_channels=8, num_cross_attention_heads=2, rngs=rngs
        ),
    )


def packed_answers(model):
    packing = pack([len(example) for example in EXAMPLES], row_length=10)
    assert packing.num_rows == 2 and packing.num_segments == 3
    segments = jnp.asarray(packing.segments)
    inputs = Tokens(
        content=jnp.asarray(packing.place(EXAMPLES)), segments=segments, mask=segments >= 0
    )
    of_latents = jnp.repeat(jnp.arange(3), 2)[None]
    latents = Tokens(
        content=jnp.tile(model.encoder.latents[...], (3, 1))[None], segments=of_latents
    )
    asked = np.zeros((2, 3, 3, 8))
    asked[packing.row, packing.segment] = QUERIES
    queries = Tokens(
        content=jnp.asarray(asked.reshape(2, 9, 8)), segments=jnp.repeat(jnp.arange(3), 3)[None]
    )
    answers = model(inputs, latents=latents, queries=queries)
    return packing.taken(np.asarray(answers).reshape(2, 3, 3, -1))


def alone(model):
    return np.stack(
        [
            model(Tokens(content=jnp.asarray(x[None])), queries=jnp.asarray(q[None]))[0]
            for x, q in zip(EXAMPLES, QUERIES, strict=True)
        ]
    )


@pytest.mark.parametrize("how", ["auto", "plain", "in blocks"])
def test_packed_examples_are_as_alone(float64, random_model, monkeypatch, how):
    model = random_model(lambda: build(implementation="plain" if how == "plain" else "auto"))
    wanted = alone(model)
    if how == "in blocks":
        monkeypatch.setattr(core_decoder, "SCORES_AT_ONCE", 1)
        monkeypatch.setattr(core_decoder, "LEAST_QUERIES", 2)
    np.testing.assert_allclose(packed_answers(model), wanted, rtol=1e-10, atol=1e-12)


def test_latents_that_are_padding_change_nothing(float64, random_model):
    model = random_model(build)
    inputs = Tokens(content=jnp.asarray(EXAMPLES[0][None]))
    queries = jnp.asarray(QUERIES[0][None])
    latents = model.encoder.latents[...][None]
    padded = Tokens(
        content=jnp.concatenate([latents, 100.0 + latents], axis=1),
        mask=jnp.array([[True, True, False, False]]),
    )
    got = model(inputs, latents=padded, queries=queries)
    np.testing.assert_allclose(got, model(inputs, queries=queries), rtol=1e-10, atol=1e-12)


def test_dropped_latents_take_their_segments_along(float64, random_model):
    """Each latent is its segment's number: those that are left attend to their own example."""
    model = random_model(lambda: build(latent_dropout=0.5))
    segments = jnp.arange(6)[None] // 2
    tokens = Tokens(content=jnp.ones((1, 6, 8)) * segments[:, :, None], segments=segments)
    inputs = Tokens(content=jnp.asarray(RNG.normal(size=(1, 6, 5))), segments=segments)
    key = jax.random.key(0)
    encoded = model.encoder.encode(inputs, latents=tokens, key=key)
    assert encoded.content.shape == (1, 3, 8) and encoded.segments.shape == (1, 3)
    whole = model.encoder.encode(inputs, latents=tokens)
    kept = [int(s) for s in encoded.segments[0]]
    assert len(set(kept)) > 1
    # A latent that is alone in its segment now sees itself only; the others are as before.
    for i, segment in enumerate(kept):
        if kept.count(segment) == 2:
            np.testing.assert_allclose(encoded.content[0, i], whole.content[0, 2 * segment])


def test_a_side_without_segments_is_refused(float64, random_model):
    model = random_model(build)
    inputs = Tokens(content=jnp.asarray(EXAMPLES[0][None]), segments=jnp.zeros((1, 4), int))
    with pytest.raises(ValueError, match="queries have none"):
        model.encoder.encode(inputs)
    latents = Tokens(content=model.encoder.latents[...][None], segments=jnp.zeros((1, 2), int))
    encoded = model.encoder.encode(inputs, latents=latents)
    with pytest.raises(ValueError, match="queries have none"):
        model.decoder(encoded, jnp.asarray(QUERIES[0][None]))
    plain = dataclasses.replace(encoded, segments=None)
    assert model.decoder(plain, jnp.asarray(QUERIES[0][None])).shape == (1, 3, 3)


def test_segments_of_latents_alone_are_refused_also_where_queries_are_asked_in_blocks(
    float64, random_model, monkeypatch
):
    """Queries on a grid, which would be asked by their structure."""
    model = random_model(build)
    latents = Tokens(content=model.encoder.latents[...][None], segments=jnp.array([[0, 1]]))
    monkeypatch.setattr(core_decoder, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(core_decoder, "LEAST_QUERIES", 2)
    monkeypatch.setattr(MultiHeadAttention, "asks_by_structure", lambda *_: True)
    with pytest.raises(ValueError, match="queries have none"):
        model.decoder(latents, jnp.asarray(RNG.normal(size=(1, 20, 8))))
    with pytest.raises(ValueError, match="queries have none"):
        model.decoder.ask(model.decoder.prepare(latents), jnp.asarray(QUERIES[0]))


def test_the_mean_over_latents_leaves_padding_out(float64, random_model):
    def pooled():
        head = MeanPoolHead(num_latent_channels=8, num_classes=3, rngs=nnx.Rngs(0))
        return Perceiver(build().encoder, head)

    model = random_model(pooled)
    inputs = Tokens(content=jnp.asarray(EXAMPLES[0][None]))
    latents = model.encoder.latents[...][None]
    padded = Tokens(
        content=jnp.concatenate([latents, 100.0 + latents], axis=1),
        mask=jnp.array([[True, True, False, False]]),
    )
    got = model(inputs, latents=padded)
    np.testing.assert_allclose(got, model(inputs), rtol=1e-10, atol=1e-12)
    packed = Tokens(content=latents, segments=jnp.array([[0, 1]]))
    inputs = Tokens(content=inputs.content, segments=jnp.array([[0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="mixes the examples of a row"):
        model(inputs, latents=packed)


def test_latents_on_a_grid_with_position_tables_are_what_they_are_when_dense(float64, random_model):
    model = random_model(lambda: build(latent_dropout=0.5))
    tables = tuple(jnp.asarray(RNG.normal(size=(n, 2))) for n in (2, 3))
    grid = Tokens(
        content=jnp.asarray(RNG.normal(size=(1, 2, 3, 4))),
        positions=tables,
        segments=jnp.array([[0, 0, 1, 1, 0, 1]]),
    )
    dense = Tokens(content=grid.dense(), segments=grid.segments)
    inputs = Tokens(content=jnp.asarray(EXAMPLES[0][None]), segments=jnp.array([[0, 1, 1, 0]]))
    key = jax.random.key(0)
    got, wanted = (model.encoder.encode(inputs, latents=x, key=key) for x in (grid, dense))
    np.testing.assert_allclose(got.content, wanted.content, rtol=1e-12)
    np.testing.assert_array_equal(got.segments, wanted.segments)


def test_what_is_taken_lies_in_rows_and_segments():
    packing = pack([3, 2, 4], 5)
    with pytest.raises(ValueError, match="not of 2 rows and 2 segments; give .2, 2, ...., as by"):
        packing.taken(np.zeros((2, 16, 8)))
    assert packing.taken(np.zeros((2, 2, 8))).shape == (3, 8)


def test_examples_in_place_of_lengths_are_refused():
    with pytest.raises(ValueError, match="pack takes lengths of examples"):
        pack([np.zeros(3), np.zeros(2)], 5)
