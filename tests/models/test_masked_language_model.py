import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models, params
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
    language_perceiver,
)
from perceiver_jax.models.masked_language_model import top_tokens

HEADS = {"num_cross_attention_heads": 2}
IDS = np.random.default_rng(0).integers(20, size=(3, 9)).astype(np.int32)
MASK = np.arange(9) < np.array([[9], [5], [1]])


def config(encoder=None, decoder=None, **fields):
    sizes = {"vocab_size": 20, "max_seq_len": 12, **HEADS}
    return PerceiverConfig(
        encoder=TextEncoderConfig(
            **sizes,
            num_input_channels=6,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=2,
            **fields,
            **(encoder or {}),
        ),
        decoder=TextDecoderConfig(**(sizes | fields | (decoder or {}))),
        num_latents=4,
        num_latent_channels=8,
    )


@pytest.fixture
def build(random_model):
    return lambda config: random_model(lambda: models.build(config, jax.random.key(0)))


KINDS = {
    "tied": {},
    "untied": {"num_output_query_channels": 10},
    "residual": {"cross_attention_residual": False},
    "inputs": {"output_queries": "inputs"},
    "untied inputs": {"output_queries": "inputs", "num_output_query_channels": 6},
}


def test_the_published_model_has_the_published_size():
    skeleton = models.skeleton(language_perceiver())
    assert params.count(skeleton.params) == 201_108_230


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_every_token(kind, build, call):
    model = build(config(decoder=KINDS[kind]))
    assert call(model, IDS, MASK).shape == (3, 9, 20)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_says_nothing_to_what_is_there(kind, build, call):
    model = build(config(decoder=KINDS[kind]))
    outputs = call(model, IDS, MASK)
    other = call(model, np.where(MASK, IDS, 7), MASK)
    np.testing.assert_allclose(outputs[MASK], other[MASK], rtol=1e-5, atol=1e-6)
    alone = call(model, IDS[1:2, :5], MASK[1:2, :5])
    np.testing.assert_allclose(outputs[1, :5], alone[0], rtol=1e-5, atol=1e-5)


def test_padding_is_not_asked_for_unless_that_is_wanted(build, call):
    # Without a residual nothing but biases is left of a masked query.
    fields = {"cross_attention_residual": False}
    masked = call(build(config(decoder=fields)), IDS, MASK)
    asked = call(build(config(decoder=fields | {"mask_queries": False})), IDS, MASK)
    np.testing.assert_allclose(masked[MASK], asked[MASK], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked[1, 5:], masked[2, 5:], rtol=1e-5, atol=1e-5)
    assert np.abs(asked[1, 5:] - masked[1, 5:]).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_some_queries_are_answered_as_all_are(kind, build, call):
    model = build(config(decoder=KINDS[kind]))
    indices = np.array([[8, 0], [2, 2], [1, 7]])
    whole = np.asarray(call(model, IDS, MASK))
    some = call(model, IDS, MASK, query_indices=indices)
    want = np.take_along_axis(whole, indices[..., None], axis=1)
    np.testing.assert_allclose(some, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_computes_the_definition(kind, float64, build):
    def values(implementation):
        model = build(config(decoder=KINDS[kind], implementation=implementation))
        return jax.jit(
            jax.value_and_grad(lambda model: jnp.square(model(IDS, MASK)).mean(), allow_int=True)
        )(model)

    (loss, gradients), (want, wanted) = values("auto"), values("plain")
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    for path, gradient in params.flatten(wanted)[0].items():
        np.testing.assert_allclose(
            params.flatten(gradients)[0][path], gradient, atol=1e-10, err_msg=path
        )


def test_a_tied_embedding_learns_from_both_of_its_uses(build):
    model = build(config())
    values, _ = params.flatten(model)
    skeleton = models.skeleton(config())

    def loss(values, stop):
        bound = skeleton.bind(values)
        if stop:
            table = bound.encoder.input_adapter.token_embedding
            table[...] = jax.lax.stop_gradient(table[...])
        return bound(IDS)[0, 0, 19]

    path = "encoder/input_adapter/token_embedding"
    gradient = jax.grad(loss)(values, False)[path]
    assert 19 not in IDS[0] and np.abs(gradient[19]).max() > 0
    assert np.abs(gradient[IDS[0, 3]]).max() > 0
    assert not np.any(jax.grad(loss)(values, True)[path])


@pytest.mark.parametrize(
    "encoder, decoder, message",
    [
        ({}, {"vocab_size": 21}, "vocab_size=20, the decoder 21"),
        ({}, {"max_seq_len": 11}, "max_seq_len=12 tokens, the decoder has queries for 11"),
        (
            {},
            {"output_queries": "inputs", "num_output_query_channels": 8},
            "set num_output_query_channels",
        ),
    ],
)
def test_halves_that_do_not_go_together_are_refused(encoder, decoder, message):
    with pytest.raises(ConfigError, match=message):
        models.skeleton(config(encoder, decoder))


@pytest.mark.parametrize("field", ["vocab_size", "max_seq_len"])
@pytest.mark.parametrize("cls", [TextEncoderConfig, TextDecoderConfig])
def test_sizes_start_at_one(cls, field):
    with pytest.raises(ValueError, match=f"{field}=0 must be 1 or more"):
        cls(**{field: 0})


def test_the_most_probable_tokens_come_first(build, call):
    model = build(config())
    tokens, probabilities = top_tokens(model, IDS, MASK, 4)
    want = np.asarray(jax.nn.softmax(call(model, IDS, MASK)))
    order = np.argsort(-want, axis=-1)[..., :4]
    np.testing.assert_array_equal(tokens, order)
    np.testing.assert_allclose(probabilities, np.take_along_axis(want, order, -1), rtol=1e-5)


def test_a_classifier_of_texts_has_the_size_of_the_imdb_model():
    published = language_perceiver()
    decoder = ClassificationDecoderConfig(
        num_classes=2, num_output_query_channels=768, num_cross_attention_heads=1
    )
    skeleton = models.skeleton(dataclasses.replace(published, decoder=decoder))
    assert params.count(skeleton.params) == 200_587_010


@pytest.mark.parametrize("num_queries, shape", [(1, (3, 5)), (4, (3, 4, 5))])
def test_a_classifier_of_texts_has_one_or_several_queries(num_queries, shape, build, call):
    decoder = ClassificationDecoderConfig(
        num_classes=5, num_output_query_channels=8, num_output_queries=num_queries, **HEADS
    )
    model = build(dataclasses.replace(config(), decoder=decoder))
    outputs = call(model, IDS, MASK)
    assert outputs.shape == shape
    np.testing.assert_allclose(
        outputs, call(model, np.where(MASK, IDS, 7), MASK), rtol=1e-5, atol=1e-6
    )
