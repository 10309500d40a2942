"""Every parameter of every kind of model has one row in every format that can express it."""

import dataclasses
import json

import numpy as np
import pytest

from interop import FORMATS, load, save
from interop.formats import deepmind, krasserm, lucidrains
from interop.formats.lucidrains.halves import LAYERS
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
)
from tests.interop.conftest import (
    IDEFICS,
    LUCIDRAINS_AR,
    LUCIDRAINS_LM,
    MUSIC,
    PROJECTION,
    TABLE,
    causal_model,
    deepmind_causal_model,
    flow_model,
    language_model,
    parts,
    resampler,
    schedule,
    text_classifier,
    video_autoencoder,
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


def decoder_residual(config):
    """The same model, its decoder adding the queries."""
    decoder = dataclasses.replace(config.decoder, cross_attention_residual=True)
    return dataclasses.replace(config, decoder=decoder)


ONE_HEAD = {"num_cross_attention_heads": 1}
TWELVE_LAYERS = {"num_self_attention_layers_per_block": 12, "num_self_attention_blocks": 1}
TANH = {"activation": "gelu_tanh"}
TANH_DECODER = ClassificationDecoderConfig(**TANH)
LUCIDRAINS = {
    "num_freq_bands": 6,
    "depth": 6,
    "max_freq": 10.0,
    "num_latents": 256,
    "self_per_cross_attn": 2,
}
LUCIDRAINS_IO = {"dim": 32, "queries_dim": 32, "logits_dim": 100, "depth": 6, "num_latents": 256}
EXPRESSIBLE = {
    "ours": {
        "conv": models.imagenet_conv(),
        "pooled": model(MeanPoolDecoderConfig(norm=True), qkv_bias=False, **ONE_HEAD),
        "language model": models.language_perceiver(),
        "text classifier": text_classifier(),
        "causal model": models.causal_bytes(),
        "optical flow": models.optical_flow_perceiver(),
        "clips": models.video_perceiver(),
        "resampler": models.idefics2_resampler(),
        "resampler of videos": models.flamingo_resampler(64, max_frames=8),
    },
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
        "language model": exact_gelu(models.language_perceiver()),
        "language model, residual": language_model("gelu", {"cross_attention_residual": True}),
        "language model, untied, twelve layers": language_model(
            "gelu", {"num_output_query_channels": 6}, **TWELVE_LAYERS
        ),
        "text classifier": text_classifier(decoder={"num_output_queries": 2}),
        "text classifier, twelve layers": text_classifier(**TWELVE_LAYERS),
        "causal model": models.causal_bytes(),
        "causal model of subwords": models.causal_subwords(),
        "music, published": models.symbolic_audio_giantmidi(),
        "music, twelve layers": causal_model(**MUSIC, num_self_attention_layers=12),
        "causal model, turned as said": causal_model(rotary_fraction=0.5),
        "optical flow, published": exact_gelu(models.optical_flow_perceiver()),
        "optical flow, other channels, repeated": flow_model(
            "gelu",
            {"cross_attention_residual": True, "rescale_factor": 30.0},
            num_patch_hidden_channels=7,
            num_frequency_bands=3,
            num_cross_attention_qk_channels=6,
            num_cross_attention_layers=2,
            num_self_attention_blocks=3,
            first_self_attention_block_shared=False,
        ),
    },
    "huggingface": {
        "fourier": models.imagenet_fourier(),
        "conv": models.imagenet_conv(conv_padding="symmetric", max_resolution=(56.0, 56.0)),
        "learned": decoder_residual(models.imagenet_learned()),
        "exact GELU": exact_gelu(models.imagenet_fourier(num_self_attention_layers_per_block=12)),
        "language model": models.language_perceiver(),
        "language model, tiny": language_model("gelu"),
        "language model, twelve layers": language_model(**TWELVE_LAYERS),
        "text classifier": text_classifier(),
        "text classifier, twelve layers": text_classifier(**TWELVE_LAYERS),
        "clips, published": models.video_perceiver(),
        "clips, exact GELU": video_autoencoder("gelu", **TWELVE_LAYERS),
        "clips, channels of the queries": video_autoencoder(
            decoder={"num_cross_attention_qk_channels": None}, num_cross_attention_qk_channels=8
        ),
        "resampler of Idefics2": resampler(),
        "connector of Idefics2, twelve layers": resampler(**PROJECTION, num_layers=12),
        "resampler of Idefics2, exact GELU": resampler(activation="geglu", num_kv_heads=None),
        "resampler of IDEFICS": resampler(**IDEFICS),
        "resampler of IDEFICS, normed heads, channels of the latents": resampler(
            **IDEFICS, qk_norm=True, num_qk_channels=None
        ),
        "optical flow, published": models.optical_flow_perceiver(),
        "optical flow, exact GELU": flow_model("gelu", **TWELVE_LAYERS),
        "optical flow, channels of a query": flow_model(
            decoder={"num_cross_attention_qk_channels": None}, num_cross_attention_qk_channels=8
        ),
    },
    "deepmind": {
        "fourier": models.imagenet_fourier(),
        "learned": models.imagenet_learned(),
        "conv": models.imagenet_conv(),
        "twelve layers": model(
            TANH_DECODER, num_self_attention_layers_per_block=12, **TANH, **ONE_HEAD
        ),
        "language model": models.language_perceiver(),
        "language model, twelve layers": language_model(**TWELVE_LAYERS),
        "language model, channels by default": language_model(
            decoder={"num_cross_attention_qk_channels": None, "cross_attention_residual": True},
            num_cross_attention_qk_channels=None,
            num_cross_attention_v_channels=None,
            num_self_attention_qk_channels=None,
            num_self_attention_v_channels=None,
        ),
        "optical flow": models.optical_flow_perceiver(),
        "optical flow, other channels": flow_model(
            decoder={"num_cross_attention_qk_channels": None, "flow_scale": 3.0},
            max_resolution=(9.0, 7.0),
            num_patch_hidden_channels=7,
            **TWELVE_LAYERS,
        ),
        "clips": models.video_perceiver(),
        "clips, twelve layers": video_autoencoder(**TWELVE_LAYERS),
        "clips, label shown, small patches": video_autoencoder(
            patch_size=2, label_mask_rate=0.0, num_audio_frequency_bands=3, min_padding_size=1
        ),
        "copy task": models.ar_copy(131_072),
        "pixels": models.ar_imagenet64(),
        "causal model, turned": models.ar_rotary(),
        "causal model, other channels": deepmind_causal_model(
            num_input_channels=24, num_cross_attention_qk_channels=24, num_cross_attention_heads=4
        ),
        "causal model, twelve layers": deepmind_causal_model(
            num_self_attention_layers=12,
            cross_attention_after_layers=(0, 10),
            initial_queries="mlp",
            num_latents_per_position=2,
            **TABLE,
        ),
    },
    "lucidrains": {
        "README": lucidrains.config(LUCIDRAINS),
        "README, tied": lucidrains.config({**LUCIDRAINS, "weight_tie_layers": True}),
        "README of IO": lucidrains.config(LUCIDRAINS_IO),
        "README of IO, tied": lucidrains.config({**LUCIDRAINS_IO, "weight_tie_layers": True}),
        "twelve layers": lucidrains.config({**LUCIDRAINS_IO, "depth": 12, "decoder_ff": True}),
        "twelve steps": lucidrains.config({**LUCIDRAINS, "depth": 12, "self_per_cross_attn": 1}),
        "answers as they are": lucidrains.config({**LUCIDRAINS_IO, "logits_dim": None}),
        "README of LM": lucidrains.config(LUCIDRAINS_LM),
        "language model, tied": lucidrains.config({**LUCIDRAINS_LM, "weight_tie_layers": True}),
        "language model, twelve layers": lucidrains.config(
            {**LUCIDRAINS_LM, "depth": 12, "decoder_ff": True}
        ),
        "README of AR": lucidrains.config(LUCIDRAINS_AR),
        "causal model, twelve layers": lucidrains.config(
            {**LUCIDRAINS_AR, "depth": 12, "perceive_depth": 2, "dim_head": 48, "heads": 3}
        ),
        "images": model(
            MeanPoolDecoderConfig(norm=True),
            num_cross_attention_layers=3,
            num_self_attention_blocks=3,
            first_self_attention_block_shared=False,
            position_channel_order="lucidrains",
            self_attention_widening_factor=4,
            **LAYERS,
            **ONE_HEAD,
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


@pytest.mark.parametrize(("name", "case"), BOTH)
def test_settings_survive_translation(name, case):
    """Ours → theirs → ours: parameters have the same shapes, and nothing is left to say."""
    module, config = FORMATS[name], EXPRESSIBLE[name][case]
    settings = module.settings(config)
    assert json.loads(json.dumps(settings)) == settings
    again = module.config(settings)
    assert module.settings(again) == settings
    assert models.skeleton(again).params == models.skeleton(config).params
    assert all(got == needed for got, needed in module.requirements(again).values())
    ours, theirs = parts(config), parts(again)
    for part in ours:
        for field in ("activation", "cross_attention_residual", "num_cross_attention_heads"):
            assert getattr(ours[part], field, None) == getattr(theirs[part], field, None), field
        assert schedule(theirs[part]) == schedule(ours[part])


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
        ("krasserm", flow_model("gelu", {"flow_scale": 1.0}), "flow_scale=1.0 instead of 20.0"),
        ("krasserm", flow_model("gelu", max_resolution=(9.0, 9.0)), "max_resolution"),
        ("huggingface", flow_model(decoder={"flow_scale": 1.0}), "flow_scale=1.0 instead of 20.0"),
        ("huggingface", flow_model(decoder={"rescale_factor": 1.0}), "rescale_factor=1.0"),
        (
            "huggingface",
            flow_model(decoder={"num_cross_attention_qk_channels": None}),
            "decoder.num_cross_attention_qk_channels=322 instead of 8",
        ),
        ("huggingface", flow_model(decoder={"cross_attention_residual": True}), "residual=True"),
        ("huggingface", flow_model(max_resolution=(9.0, 9.0)), "(9.0, 9.0) instead of (4.0, 5.0)"),
        ("huggingface", flow_model(num_patch_hidden_channels=8), "hidden_channels=8 instead of 64"),
        ("deepmind", flow_model("gelu"), "encoder.activation='gelu'"),
        (
            "deepmind",
            flow_model(decoder={"cross_attention_widening_factor": 2}),
            "decoder.cross_attention_widening_factor=2 instead of 1",
        ),
        ("krasserm", deepmind_causal_model(), "initial_queries='linear' instead of 'inputs'"),
        ("deepmind", causal_model(), "tied_logits=True instead of False"),
        (
            "deepmind",
            deepmind_causal_model(rotary_pairs="halves"),
            "rotary_pairs='halves' instead of 'interleaved'",
        ),
        (
            "deepmind",
            deepmind_causal_model(num_cross_attention_layers=2),
            "num_cross_attention_layers=2 instead of 1",
        ),
        (
            "deepmind",
            deepmind_causal_model(query_position_offset=2),
            "query_position_offset=2 instead of 1",
        ),
        (
            "deepmind",
            deepmind_causal_model(abs_pos_emb=True),
            "(rotary_fraction)=4 instead of 0",
        ),
        ("deepmind", deepmind_causal_model(**(TABLE | {"first_position": 0})), "first_position=0"),
        ("krasserm", causal_model(activation="squared_relu"), "activation='squared_relu'"),
        ("krasserm", causal_model(qkv_bias=True), "qkv_bias=True instead of False"),
        ("lucidrains", causal_model(), "tied_logits=True instead of False"),
        ("krasserm", causal_model(mlp_bias=True), "mlp_bias=True instead of False"),
        ("krasserm", causal_model(out_bias=False), "out_bias=False instead of True"),
        ("krasserm", causal_model(self_attention_out_bias=True), "self_attention_out_bias=True"),
        ("krasserm", causal_model(rotary_fraction=0.25), "(rotary_fraction)=2 instead of 4"),
        ("krasserm", causal_model(rotary_fraction=0.0), "(rotary_fraction)=0 instead of 4"),
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


@pytest.mark.parametrize("name", ["krasserm", "huggingface", "deepmind"])
def test_a_pooled_head_is_refused(name):
    with pytest.raises(ValueError, match="has no PooledImageClassifier; of our models it has "):
        FORMATS[name].rows(model(MeanPoolDecoderConfig()))


@pytest.mark.parametrize("name", ["huggingface"])
def test_a_causal_model_is_refused(name):
    for translate in (FORMATS[name].rows, FORMATS[name].settings, FORMATS[name].requirements):
        with pytest.raises(ConfigError, match="has no CausalSequenceModel; of our models it has "):
            translate(causal_model())


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
    assert deepmind.config(HAIKU) == dataclasses.replace(preset, decoder=decoder)


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
        deepmind.config({**HAIKU, part: HAIKU[part] | change})
