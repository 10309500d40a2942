import jax
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.models.image_encoder import (
    ImageEncoderConfig,
    image_encoder,
    image_input_adapter,
)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"preprocessing": "patches"}, "patch_size=None does not go with preprocessing='patches'"),
        ({"patch_size": 4}, "patch_size=4 does not go with preprocessing='pixels'"),
        ({"num_position_channels": 8}, "num_position_channels=8 needs preprocessing='conv1x1'"),
        (
            {"preprocessing": "conv", "num_projected_position_channels": 8},
            "num_projected_position_channels=8 needs preprocessing='conv1x1', not 'conv'",
        ),
        ({"num_preprocessing_channels": 8}, "no meaning with preprocessing='pixels'"),
        ({"conv_padding": "symmetric"}, "needs preprocessing='conv', not 'pixels', which has no"),
        ({"num_frequency_bands": -1}, "num_frequency_bands=-1 is too small; it must be 0 or more"),
        ({"num_cross_attention_heads": 0}, "num_cross_attention_heads=0 is too small"),
        ({"num_self_attention_blocks": 0}, "num_self_attention_blocks=0 is too small"),
        ({"dropout": 1.0}, r"dropout=1.0 is not a rate in \[0, 1\)"),
        ({"input_dropout": -0.1}, r"input_dropout=-0.1 is not a rate in \[0, 1\)"),
        ({"num_cross_attention_layers": 3}, "exceeds num_self_attention_blocks=1"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoderConfig(**fields)


@pytest.mark.parametrize(
    "fields, name, num_channels",
    [
        ({}, "ImageInputAdapter", 3 + 2 + 4 * 32),
        ({"num_frequency_bands": 0}, "ImageInputAdapter", 3),
        ({"preprocessing": "patches", "patch_size": 4}, "PatchImageInputAdapter", 48 + 130),
        (
            {"preprocessing": "patches", "patch_size": 4, "num_preprocessing_channels": 9},
            "PatchImageInputAdapter",
            9 + 130,
        ),
        ({"preprocessing": "conv"}, "ConvImageInputAdapter", 64 + 130),
        (
            {"preprocessing": "conv", "num_preprocessing_channels": 9},
            "ConvImageInputAdapter",
            9 + 130,
        ),
        ({"preprocessing": "conv1x1"}, "LearnedImageInputAdapter", 512),
        (
            {
                "preprocessing": "conv1x1",
                "num_preprocessing_channels": 9,
                "num_position_channels": 5,
            },
            "LearnedImageInputAdapter",
            9 + 5,
        ),
        (
            {
                "preprocessing": "conv1x1",
                "num_preprocessing_channels": 9,
                "num_position_channels": 5,
                "num_projected_position_channels": 6,
            },
            "LearnedImageInputAdapter",
            9 + 6,
        ),
    ],
)
def test_the_preprocessing_chooses_the_adapter(fields, name, num_channels):
    config = ImageEncoderConfig(image_shape=(8, 12, 3), **fields)
    adapter = nnx.eval_shape(lambda: image_input_adapter(config, rngs=nnx.Rngs(0)))
    assert type(adapter).__name__ == name
    assert adapter.num_input_channels == num_channels


def test_position_options_reach_the_adapter():
    config = ImageEncoderConfig(
        image_shape=(8, 12, 3),
        num_frequency_bands=2,
        max_resolution=(4.0, 6.0),
        position_channel_order="lucidrains",
    )
    positions = image_input_adapter(config, rngs=nnx.Rngs(0)).positions
    assert positions.num_bands == 2
    assert positions.max_resolution == (4.0, 6.0)
    assert positions.channel_order == "lucidrains"


@pytest.mark.parametrize("padding, grid", [("same", (4, 5)), ("symmetric", (3, 4))])
def test_the_padding_of_the_stem_reaches_the_adapter(padding, grid):
    config = ImageEncoderConfig(image_shape=(16, 20, 3), preprocessing="conv", conv_padding=padding)
    adapter = image_input_adapter(config, rngs=nnx.Rngs(0))
    assert adapter(np.zeros((1, 16, 20, 3), np.float32)).grid == adapter.grid == grid


@pytest.mark.parametrize("num_qk_channels, found", [(None, 3 + 10), (4, 4)])
def test_queries_and_keys_have_the_channels_of_the_input_unless_said(
    shapes, num_qk_channels, found
):
    config = ImageEncoderConfig(
        image_shape=(8, 12, 3),
        num_frequency_bands=2,
        num_cross_attention_heads=1,
        num_cross_attention_qk_channels=num_qk_channels,
    )
    kernels = shapes(
        lambda: image_encoder(config, num_latents=4, num_latent_channels=8, rngs=nnx.Rngs(0))
    )
    assert kernels["cross_attention/0/attention/query/kernel"] == (8, found)
    assert kernels["cross_attention/0/attention/key/kernel"] == (13, found)
    assert kernels["latents"] == (4, 8)


def test_stem_statistics_move_in_training_only(tiny_config):
    config = tiny_config(preprocessing="conv", num_preprocessing_channels=3).encoder
    encoder = image_encoder(config, num_latents=4, num_latent_channels=8, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def count(encoder, key):
        encoder(images, key=key)
        return encoder.input_adapter.stem.layer[0].norm.count[...]

    assert count(encoder, None) == 0
    assert count(encoder, jax.random.key(0)) == 1
