"""Every parameter of every kind of model has one row in every format that can express it."""

import dataclasses

import numpy as np
import pytest

from interop import FORMATS, load, save
from interop.formats import deepmind_haiku, krasserm
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
)

SMALL = {"image_shape": (8, 8, 3), "num_self_attention_layers_per_block": 2}


def model(decoder=None, **encoder_fields):
    return PerceiverConfig(
        encoder=ImageEncoderConfig(**(SMALL | encoder_fields)),
        decoder=decoder or ClassificationDecoderConfig(),
        num_latents=4,
        num_latent_channels=16,
    )


def exact_gelu(config):
    """The same model with the other form of GELU."""
    halves = {
        name: dataclasses.replace(getattr(config, name), activation="gelu")
        for name in ("encoder", "decoder")
    }
    return dataclasses.replace(config, **halves)


ONE_HEAD = {"num_cross_attention_heads": 1}
TANH = {"activation": "gelu_tanh"}
TANH_DECODER = ClassificationDecoderConfig(**TANH)
EXPRESSIBLE = {
    "krasserm": {
        "published": exact_gelu(models.imagenet_fourier()),
        "one block": model(**ONE_HEAD),
        "repeated": model(
            num_cross_attention_layers=2,
            num_self_attention_blocks=3,
            first_self_attention_block_shared=False,
            **ONE_HEAD,
        ),
        "twelve layers": model(num_self_attention_layers_per_block=12, **ONE_HEAD),
    },
    "deepmind": {
        "fourier": models.imagenet_fourier(),
        "learned": models.imagenet_learned(),
        "conv": models.imagenet_conv(),
        "twelve layers": model(
            TANH_DECODER, num_self_attention_layers_per_block=12, **TANH, **ONE_HEAD
        ),
    },
}
BOTH = [(name, case) for name, cases in EXPRESSIBLE.items() for case in cases]


def arrays_of(config):
    """Arrays of the model's shapes that take no memory and differ from each other."""
    structure = models.skeleton(config)
    shapes = {**structure.params, **structure.stats}
    return {
        path: np.broadcast_to(np.asarray(i, shape.dtype), shape.shape)
        for i, (path, shape) in enumerate(shapes.items())
    }


def test_formats_are_those_tested():
    assert FORMATS.keys() == EXPRESSIBLE.keys()


@pytest.mark.parametrize(("name", "case"), BOTH)
def test_every_path_is_in_one_row(name, case):
    config = EXPRESSIBLE[name][case]
    paths = [path for row in FORMATS[name].rows(config) for path in row.ours]
    assert sorted(paths) == sorted(arrays_of(config))


@pytest.mark.parametrize(("name", "case"), BOTH)
def test_round_trip(name, case):
    """Ours → theirs → ours: swapped rows would show, because every array has its own number."""
    config = EXPRESSIBLE[name][case]
    rows, ours = FORMATS[name].rows(config), arrays_of(config)
    again = load(rows, save(rows, ours), ours)
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


@pytest.mark.parametrize(
    ("name", "config", "complaint"),
    [
        ("krasserm", models.imagenet_conv(), "encoder.preprocessing='conv'"),
        ("krasserm", model(position_channel_order="lucidrains"), "position_channel_order"),
        ("krasserm", model(max_resolution=(9.0, 9.0)), "max_resolution"),
        ("krasserm", model(cross_attention_residual=False), "cross_attention_residual"),
        (
            "krasserm",
            model(num_self_attention_blocks=3, repeated_layers_shared=False),
            "repeated_layers_shared",
        ),
        ("krasserm", model(activation="gelu_tanh"), "encoder.activation='gelu_tanh'"),
        ("krasserm", model(TANH_DECODER), "decoder.activation='gelu_tanh'"),
        ("krasserm", model(layer_norm_epsilon=1e-3), "encoder.layer_norm_epsilon=0.001"),
        ("krasserm", model(qkv_bias=False), "encoder.qkv_bias=False"),
        ("krasserm", model(ClassificationDecoderConfig(output_queries="zeros")), "output_queries"),
        ("krasserm", model(ClassificationDecoderConfig(cross_attention_mlp=False)), "mlp"),
        (
            "deepmind",
            model(num_self_attention_blocks=2, num_cross_attention_layers=2),
            "encoder.schedule",
        ),
        (
            "deepmind",
            model(TANH_DECODER, preprocessing="patches", patch_size=2, **TANH),
            "preprocessing='patches'",
        ),
        ("deepmind", model(TANH_DECODER), "encoder.activation='gelu'"),
        ("deepmind", model(position_channel_order="lucidrains"), "position_channel_order"),
        ("deepmind", model(ClassificationDecoderConfig(output_queries="zeros")), "output_queries"),
    ],
)
def test_models_that_a_format_cannot_express(name, config, complaint):
    with pytest.raises(ValueError, match="cannot express this model") as error:
        FORMATS[name].rows(config)
    assert complaint in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_pooled_head_is_refused(name):
    with pytest.raises(ValueError, match="takes a ClassificationDecoderConfig, not a MeanPool"):
        FORMATS[name].rows(model(MeanPoolDecoderConfig()))


def test_krasserm_hyperparameters_must_be_whole():
    with pytest.raises(ConfigError, match="have no 'encoder'"):
        krasserm.config({"decoder": {}, "num_latents": 1, "num_latent_channels": 1})


KRASSERM = {
    "encoder": {"image_shape": [28, 28, 1], "num_frequency_bands": 16, "dropout": 0.1},
    "decoder": {"num_classes": 10, "num_output_queries": 7, "freeze": False},
    "num_latents": 32,
    "num_latent_channels": 128,
    "activation_checkpointing": True,
    "activation_offloading": False,
}


def test_krasserm_config():
    config = krasserm.config(KRASSERM)
    assert config.encoder == ImageEncoderConfig(
        image_shape=(28, 28, 1),
        num_frequency_bands=16,
        dropout=0.1,
        masked_rows="uniform",
        remat=True,
    )
    assert config.decoder == ClassificationDecoderConfig(
        num_classes=10, num_output_queries=1, masked_rows="uniform"
    )
    assert (config.num_latents, config.num_latent_channels) == (32, 128)


def test_unknown_krasserm_settings_are_refused():
    with pytest.raises(ConfigError, match="num_frequency_band'"):
        krasserm.config({**KRASSERM, "encoder": {"num_frequency_band": 3}})
    with pytest.raises(ValueError, match="max_seq_len"):
        krasserm.config({**KRASSERM, "max_seq_len": 3})


HAIKU = {
    "image_size": [224, 224],
    "num_classes": 1000,
    "input_preprocessor": {
        "prep_type": "pixels",
        "spatial_downsample": 1,
        "fourier_position_encoding_kwargs": {"num_bands": 64, "max_resolution": [224, 224]},
    },
    "encoder": {},
    "decoder": {"trainable_position_encoding_kwargs": {"num_channels": 1024}},
}


def test_haiku_config():
    """DeepMind's defaults fill what is not given; its decoders do not add their queries."""
    preset = models.imagenet_fourier(max_resolution=(224.0, 224.0), latent_init_scale=0.02)
    decoder = dataclasses.replace(
        preset.decoder, num_cross_attention_qk_channels=1024, cross_attention_residual=False
    )
    assert deepmind_haiku.config(HAIKU) == dataclasses.replace(preset, decoder=decoder)


@pytest.mark.parametrize(
    ("part", "change", "complaint"),
    [
        ("encoder", {"num_blobs": 3}, "num_blobs"),
        ("decoder", {"final_project": False}, "final_project"),
        ("decoder", {"position_encoding_type": "fourier"}, "decoder queries='fourier'"),
        ("input_preprocessor", {"spatial_downsample": 2}, "spatial_downsample=2"),
        ("input_preprocessor", {"n_extra_pos_mlp": 1}, "n_extra_pos_mlp=1"),
        ("input_preprocessor", {"prep_type": "patches"}, "prep_type='patches'"),
        (
            "input_preprocessor",
            {"fourier_position_encoding_kwargs": {"num_bands": 64, "sine_only": True}},
            "sine_only=True",
        ),
    ],
)
def test_haiku_arguments_that_would_change_the_computation(part, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        deepmind_haiku.config({**HAIKU, part: HAIKU[part] | change})
