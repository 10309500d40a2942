import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models, params
from perceiver_jax.adapters import ClassificationOutputAdapter, ImageInputAdapter
from perceiver_jax.core import PerceiverDecoder, PerceiverEncoder, PerceiverIO
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageClassifier,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    PooledImageClassifier,
    imagenet_conv,
    imagenet_fourier,
    imagenet_learned,
)


def krasserm_mnist():
    """The classifier of krasserm's MNIST example."""
    common = {"dropout": 0.1, "init_scale": 0.1}
    return PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=(28, 28, 1),
            num_frequency_bands=32,
            num_cross_attention_layers=2,
            first_cross_attention_layer_shared=False,
            num_cross_attention_heads=1,
            num_self_attention_heads=8,
            num_self_attention_layers_per_block=3,
            num_self_attention_blocks=3,
            first_self_attention_block_shared=False,
            **common,
        ),
        decoder=ClassificationDecoderConfig(
            num_classes=10,
            num_output_query_channels=128,
            num_cross_attention_heads=1,
            **common,
        ),
        num_latents=32,
        num_latent_channels=128,
    )


def image_token():
    """A lucidrains `PerceiverIO` that sees the whole digit as one token."""
    common = {"activation": "geglu", "qkv_bias": False, "init_method": "uniform"}
    return PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=(28, 28, 1),
            preprocessing="patches",
            patch_size=28,
            num_frequency_bands=0,
            num_cross_attention_heads=1,
            num_cross_attention_qk_channels=64,
            cross_attention_widening_factor=4,
            num_self_attention_heads=8,
            num_self_attention_layers_per_block=1,
            num_self_attention_blocks=6,
            first_self_attention_block_shared=False,
            repeated_layers_shared=False,
            self_attention_widening_factor=4,
            **common,
        ),
        decoder=ClassificationDecoderConfig(
            num_classes=10,
            num_output_query_channels=32,
            output_queries="zeros",
            num_cross_attention_heads=1,
            num_cross_attention_qk_channels=64,
            cross_attention_residual=False,
            cross_attention_mlp=False,
            **common,
        ),
        num_latents=256,
        num_latent_channels=512,
    )


@pytest.mark.parametrize(
    "config, num_parameters",
    [
        (imagenet_fourier, 48_440_627),
        (imagenet_learned, 62_255_848),
        (imagenet_conv, 48_646_522),
        (krasserm_mnist, 907_212),
        (image_token, 28_731_338),
    ],
)
def test_published_models_have_their_number_of_parameters(config, num_parameters):
    assert params.count(models.skeleton(config()).params) == num_parameters


@pytest.mark.parametrize("config", [imagenet_fourier, imagenet_learned, imagenet_conv])
def test_published_models_have_no_dropout(config):
    for half in (config().encoder, config().decoder):
        rates = {f.name: getattr(half, f.name) for f in dataclasses.fields(half)}
        rates = {name: rate for name, rate in rates.items() if name.endswith("dropout")}
        assert len(rates) >= 3 and not any(rates.values())


def test_parts_of_the_image_token_model_have_their_number_of_parameters():
    found = models.skeleton(image_token()).params
    parts = {
        "encoder/latents": 131_072,
        "encoder/cross_attention/": 3_320_352,
        "encoder/block/": 25_208_832,
        "encoder/block/3/": 4_201_472,
        "decoder/cross_attention/": 70_752,
        "decoder/output_adapter/": 330,
    }
    for start, number in parts.items():
        own = {path: x for path, x in found.items() if path.startswith(start)}
        assert params.count(own) == number, start


def test_the_stem_s_statistics_are_apart_from_its_parameters():
    skeleton = models.skeleton(imagenet_conv())
    norm = "encoder/input_adapter/stem/layer/0/norm"
    assert {path: x.shape for path, x in skeleton.stats.items()} == {
        f"{norm}/mean": (64,),
        f"{norm}/var": (64,),
        f"{norm}/count": (),
    }
    assert f"{norm}/scale" in skeleton.params


def test_encoder_fields_of_a_published_model_can_be_overridden():
    config = imagenet_fourier(image_shape=(8, 8, 3), num_self_attention_blocks=2, remat=True)
    assert config.encoder.image_shape == (8, 8, 3)
    assert config.encoder.num_self_attention_blocks == 2
    assert config.encoder.remat == "full" and config.encoder.activation == "gelu_tanh"
    assert not imagenet_learned().decoder.cross_attention_residual


def test_the_model_made_of_building_blocks_is_the_published_one():
    """As in the README: names, shapes and number of parameters."""

    def build():
        rngs = nnx.Rngs(0)
        input_adapter = ImageInputAdapter(image_shape=(224, 224, 3), num_frequency_bands=64)
        output_adapter = ClassificationOutputAdapter(
            num_classes=1000, num_output_query_channels=1024, rngs=rngs
        )
        assert input_adapter.num_input_channels == 261
        encoder = PerceiverEncoder(
            input_adapter=input_adapter,
            num_latents=512,
            num_latent_channels=1024,
            num_cross_attention_qk_channels=input_adapter.num_input_channels,
            num_cross_attention_heads=1,
            num_self_attention_heads=8,
            num_self_attention_layers_per_block=6,
            num_self_attention_blocks=8,
            dropout=0.0,
            rngs=rngs,
        )
        decoder = PerceiverDecoder(
            output_adapter=output_adapter,
            num_latent_channels=1024,
            num_cross_attention_heads=1,
            dropout=0.0,
            rngs=rngs,
        )
        return PerceiverIO(encoder, decoder)

    skeleton = params.skeleton(build)
    assert params.count(skeleton.params) == 48_440_627
    published = models.skeleton(imagenet_fourier()).params
    assert {path: x.shape for path, x in skeleton.params.items()} == {
        path: x.shape for path, x in published.items()
    }
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    logits = jax.eval_shape(lambda p, x: skeleton.bind(p)(x), skeleton.params, images)
    assert logits.shape == (2, 1000) and logits.dtype == jnp.float32


@pytest.mark.parametrize(
    "decoder, fields",
    [
        (MeanPoolDecoderConfig(num_classes=5, norm=True), {}),
        (None, {"preprocessing": "patches", "patch_size": 4, "compute_dtype": "bfloat16"}),
        (None, {"preprocessing": "conv", "num_preprocessing_channels": 3}),
        (None, {"preprocessing": "conv1x1", "num_preprocessing_channels": 3}),
    ],
)
def test_images_become_logits_whatever_the_preprocessing(
    random_model, call, tiny_config, decoder, fields
):
    config = tiny_config(decoder, num_cross_attention_layers=2, **fields)
    model = random_model(lambda: models.build(config, jax.random.key(0)))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    logits = call(model, images)
    assert logits.shape == (2, 5)
    assert jnp.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


def test_a_model_remembers_its_config(tiny_config):
    config = tiny_config()
    assert nnx.eval_shape(lambda: ImageClassifier(config, rngs=nnx.Rngs(0))).config == config


@pytest.mark.parametrize("cls", [ImageClassifier, PooledImageClassifier])
def test_a_model_refuses_the_config_of_another(tiny_config, cls):
    decoder = MeanPoolDecoderConfig() if cls is ImageClassifier else None
    with pytest.raises(ValueError, match=f"{cls.__name__} takes a .*DecoderConfig, not a"):
        cls(tiny_config(decoder), rngs=nnx.Rngs(0))
