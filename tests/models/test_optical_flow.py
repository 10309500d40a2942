import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models, params
from perceiver_jax.core import decoder
from perceiver_jax.models import (
    OpticalFlow,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    optical_flow_perceiver,
)

SHAPE = (12, 14)


def tiny(**decoder_fields):
    common = {"num_cross_attention_heads": 1}
    return PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(
            image_shape=SHAPE,
            num_patch_hidden_channels=5,
            num_frequency_bands=2,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=2,
            **common,
        ),
        decoder=OpticalFlowDecoderConfig(**(common | decoder_fields)),
        num_latents=4,
        num_latent_channels=8,
    )


def frames(batch=2):
    return np.random.default_rng(0).normal(size=(batch, 2, *SHAPE, 3))


def test_the_published_model_has_its_size():
    assert params.count(models.skeleton(optical_flow_perceiver()).params) == 41_057_134


def test_every_pixel_has_a_flow(float64, random_model):
    model = random_model(lambda: models.build(tiny(), jax.random.key(0)))
    flow = model(frames())
    assert flow.shape == (2, *SHAPE, 2)
    assert isinstance(model, OpticalFlow)


def test_some_pixels_alone_have_the_same_flow(float64, random_model):
    model = random_model(lambda: models.build(tiny(), jax.random.key(0)))
    indices = np.array([[3, 100, 7], [0, 167, 50]])
    some = model(frames(), query_indices=indices)
    whole = model(frames()).reshape(2, -1, 2)
    np.testing.assert_allclose(some, np.take_along_axis(whole, indices[..., None], 1), rtol=1e-10)


@pytest.mark.parametrize("at_once", [1, 40, 168])
def test_decoding_in_blocks_is_decoding_the_whole(float64, random_model, monkeypatch, at_once):
    model = random_model(lambda: models.build(tiny(), jax.random.key(0)))
    whole = model.stages(frames())["outputs"]
    monkeypatch.setattr(decoder, "LEAST_QUERIES", at_once)
    monkeypatch.setattr(decoder, "SCORES_AT_ONCE", 1)
    np.testing.assert_allclose(model(frames()).reshape(2, -1, 2), whole, rtol=1e-9, atol=1e-12)


def test_the_last_layer_may_start_at_no_flow():
    model = OpticalFlow(tiny(output_init_scale=0.0), rngs=nnx.Rngs(0))
    assert not np.asarray(model(jnp.asarray(frames(1), jnp.float32))).any()
    usual = OpticalFlow(tiny(), rngs=nnx.Rngs(0))
    assert np.asarray(usual(jnp.asarray(frames(1), jnp.float32))).any()


@pytest.mark.parametrize(
    "fields", [{"rescale_factor": 0.0}, {"flow_scale": -1.0}, {"output_init_scale": -0.1}]
)
def test_scales_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        tiny(**fields)
