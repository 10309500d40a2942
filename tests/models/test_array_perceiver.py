import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ArrayPerceiver,
    ArrayPerceiverIO,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)

QUERY_DECODER = QueryDecoderConfig(
    num_output_query_channels=6, num_outputs=7, num_cross_attention_heads=1
)
POOLED = MeanPoolDecoderConfig(num_classes=5)


def config(decoder, **fields):
    encoder = ArrayEncoderConfig(
        **{
            "num_input_channels": 3,
            "num_frequency_bands": 2,
            "num_cross_attention_heads": 1,
            "num_self_attention_heads": 2,
            "num_self_attention_layers_per_block": 1,
        }
        | fields
    )
    return PerceiverConfig(encoder=encoder, decoder=decoder, num_latents=4, num_latent_channels=8)


def series(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "decoder, cls", [(POOLED, ArrayPerceiver), (QUERY_DECODER, ArrayPerceiverIO)]
)
def test_the_decoder_decides_which_model_is_built(decoder, cls):
    assert isinstance(models.build(config(decoder), jax.random.key(0)), cls)


def test_a_series_of_any_length_becomes_logits(random_model, call):
    model = random_model(lambda: ArrayPerceiver(config(POOLED), rngs=nnx.Rngs(0)))
    for length in (5, 9):
        logits = call(model, series(2, length, 3))
        assert logits.shape == (2, 5) and jnp.isfinite(logits).all()
    assert call(model, series(2, 5, 3), np.ones((2, 5), bool)).shape == (2, 5)


def test_every_query_gets_its_answer(float64, random_model, call):
    model = random_model(lambda: ArrayPerceiverIO(config(QUERY_DECODER), rngs=nnx.Rngs(0)))
    inputs, queries = series(2, 5, 3), series(2, 11, 6)
    together = call(model, inputs, queries=queries)
    assert together.shape == (2, 11, 7)
    some = call(model, inputs, queries=queries[:, 4:6])
    np.testing.assert_allclose(some, together[:, 4:6], rtol=1e-10)
    for i in range(2):
        same = call(model, inputs, queries=queries[i])
        np.testing.assert_allclose(same[i], together[i], rtol=1e-10)


def test_queries_have_to_be_given(random_model):
    model = random_model(lambda: ArrayPerceiverIO(config(QUERY_DECODER), rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"pass queries=\[O, 6\]"):
        model(series(2, 5, 3))
    assert model.encode(series(2, 5, 3)).shape == (2, 4, 8)


def test_a_model_remembers_its_config():
    wanted = config(POOLED)
    assert nnx.eval_shape(lambda: ArrayPerceiver(wanted, rngs=nnx.Rngs(0))).config == wanted


@pytest.mark.parametrize(
    "cls, decoder", [(ArrayPerceiver, QUERY_DECODER), (ArrayPerceiverIO, POOLED)]
)
def test_a_model_refuses_the_config_of_another(tiny_config, cls, decoder):
    with pytest.raises(ValueError, match=f"{cls.__name__} takes a .*DecoderConfig, not a"):
        cls(config(decoder), rngs=nnx.Rngs(0))
    images = dataclasses.replace(config(POOLED), encoder=tiny_config().encoder)
    with pytest.raises(
        ValueError, match=f"{cls.__name__} takes an ArrayEncoderConfig, not an Image"
    ):
        cls(images, rngs=nnx.Rngs(0))


def test_equal_configs_make_models_that_share_a_compiled_program(random_model):
    for decoder in (POOLED, QUERY_DECODER):
        one, other = (
            jax.tree.structure(
                random_model(lambda: models.build(config(decoder), jax.random.key(0)))  # noqa: B023
            )
            for _ in range(2)
        )
        assert one == other
