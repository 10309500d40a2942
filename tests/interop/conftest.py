"""Tiny models that several formats can express."""

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import ImagePreprocessing, ModelCard, TextPreprocessing
from perceiver_jax.models import (
    CausalSequenceConfig,
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    ResamplerConfig,
    TextDecoderConfig,
    TextEncoderConfig,
    VideoDecoderConfig,
    VideoEncoderConfig,
    ar_rotary,
)
from perceiver_jax.models.release import Release

CARD = ModelCard(
    labels=("zero", "one", "two"),
    preprocessing=ImagePreprocessing(image_shape=(224, 224, 3), resampling="pillow"),
    origin="a test",
    licence="MIT",
)
TEXT_CARD = ModelCard(
    text=TextPreprocessing(tokenizer="bytes", add_special_tokens=True),
    origin="a test",
    licence="MIT",
)
CAUSAL_CARD = ModelCard(
    text=TextPreprocessing(tokenizer="bytes", add_special_tokens=False),
    origin="a test",
    licence="MIT",
)
MUSIC_CARD = FLOW_CARD = RESAMPLER_CARD = ModelCard(origin="a test", licence="MIT")
NUM_BYTES = 262
MUSIC = {"vocab_size": 389, "output_norm": True, "output_bias": False, "abs_pos_emb": False}
"""What models of music have otherwise than those of bytes."""

A_NAME = {"deepmind": "x.pickle", "huggingface": "x", "krasserm": "x.ckpt", "lucidrains": "x.pt"}
"""What weights of a format may be called."""


def classifier(activation="gelu_tanh", decoder=None, **encoder):
    """Small images, and else what Hugging Face's class has: 64 bands of given frequencies."""
    fields = {
        "image_shape": (16, 16, 3),
        "num_frequency_bands": 64,
        "max_resolution": (224.0, 224.0),
        "num_cross_attention_heads": 1,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 2,
        "num_self_attention_blocks": 2,
        "activation": activation,
    }
    usual = {
        "num_classes": 3,
        "num_output_query_channels": 8,
        "num_cross_attention_heads": 1,
        "activation": activation,
    }
    return PerceiverConfig(
        encoder=ImageEncoderConfig(**(fields | encoder)),
        decoder=ClassificationDecoderConfig(**(usual | (decoder or {}))),
        num_latents=4,
        num_latent_channels=8,
    )


def pooled():
    """As lucidrains has it."""
    common = {"activation": "geglu", "qkv_bias": False, "masked_rows": "uniform"}
    return PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=(8, 8, 3),
            num_frequency_bands=2,
            max_resolution=(10.0, 10.0),
            position_channel_order="lucidrains",
            num_cross_attention_heads=1,
            num_cross_attention_qk_channels=6,
            cross_attention_widening_factor=4,
            num_self_attention_heads=2,
            num_self_attention_qk_channels=12,
            num_self_attention_layers_per_block=2,
            num_self_attention_blocks=2,
            num_cross_attention_layers=2,
            first_self_attention_block_shared=False,
            self_attention_widening_factor=4,
            **common,
        ),
        decoder=MeanPoolDecoderConfig(num_classes=3, norm=True),
        num_latents=4,
        num_latent_channels=8,
    )


def flow_model(activation="gelu_tanh", decoder=None, **encoder):
    """64 channels of a pixel, 64 bands and a decoder as Hugging Face's class has, and else tiny."""
    fields = {
        "image_shape": (4, 5),
        "num_cross_attention_heads": 1,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 2,
        "activation": activation,
    }
    usual = {
        "num_cross_attention_heads": 1,
        "num_cross_attention_qk_channels": 8,
        "activation": activation,
    }
    return PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(**(fields | encoder)),
        decoder=OpticalFlowDecoderConfig(**(usual | (decoder or {}))),
        num_latents=4,
        num_latent_channels=8,
    )


def text_encoder(**fields):
    """Of bytes, with the settings that all formats but lucidrains' have."""
    usual = {
        "vocab_size": 262,
        "max_seq_len": 12,
        "num_input_channels": 8,
        "num_cross_attention_heads": 2,
        "num_cross_attention_qk_channels": 4,
        "num_cross_attention_v_channels": 16,
        "num_self_attention_heads": 2,
        "num_self_attention_qk_channels": 4,
        "num_self_attention_v_channels": 16,
        "num_self_attention_layers_per_block": 2,
        "num_self_attention_blocks": 2,
    }
    return TextEncoderConfig(**(usual | fields))


def language_model(activation="gelu_tanh", decoder=None, **encoder):
    """A decoder as Hugging Face's class has it, and else tiny."""
    usual = {
        "vocab_size": 262,
        "max_seq_len": 12,
        "num_cross_attention_heads": 8,
        "num_cross_attention_qk_channels": 256,
        "num_cross_attention_v_channels": 8,
        "cross_attention_residual": False,
        "activation": activation,
    }
    return PerceiverConfig(
        encoder=text_encoder(activation=activation, **encoder),
        decoder=TextDecoderConfig(**(usual | (decoder or {}))),
        num_latents=4,
        num_latent_channels=16,
    )


def text_classifier(activation="gelu", decoder=None, **encoder):
    """A decoder as Hugging Face's class has it, and else tiny."""
    usual = {
        "num_classes": 3,
        "num_output_query_channels": 16,
        "num_cross_attention_heads": 1,
        "activation": activation,
    }
    return PerceiverConfig(
        encoder=text_encoder(activation=activation, **encoder),
        decoder=ClassificationDecoderConfig(**(usual | (decoder or {}))),
        num_latents=4,
        num_latent_channels=16,
    )


def video_autoencoder(activation="gelu_tanh", decoder=None, **encoder):
    """Frequencies as Hugging Face's class has them, and else tiny."""
    fields = {
        "video_shape": (2, 8, 12, 3),
        "patch_size": 4,
        "num_samples": 12,
        "samples_per_patch": 3,
        "num_classes": 3,
        "video_max_resolution": (2.0, 3.0, 3.0),
        "num_cross_attention_heads": 1,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 2,
        "num_self_attention_blocks": 2,
        "activation": activation,
    }
    usual = {
        "num_label_query_channels": 5,
        "num_output_channels": 6,
        "num_cross_attention_heads": 1,
        "num_cross_attention_qk_channels": 8,
        "query_positions": "half_open",
        "activation": activation,
    }
    return PerceiverConfig(
        encoder=VideoEncoderConfig(**(fields | encoder)),
        decoder=VideoDecoderConfig(**(usual | (decoder or {}))),
        num_latents=4,
        num_latent_channels=8,
    )


def causal_model(**fields):
    """Of bytes, as krasserm's class has it, and else tiny."""
    usual = {
        "max_seq_len": 12,
        "max_latents": 7,
        "num_channels": 16,
        "num_heads": 2,
        "num_self_attention_layers": 2,
    }
    return CausalSequenceConfig(**(usual | fields))


TABLE = {
    "rotary_fraction": 0.0,
    "abs_pos_emb": True,
    "position_shape": (13,),
    "first_position": 1,
    "position_table": "sinusoidal",
    "train_positions": False,
}
"""Positions of DeepMind's copy task."""


def deepmind_causal_model(**fields):
    """Of bytes with three markers, turned, as DeepMind's class has it, and else tiny."""
    usual = {
        "max_seq_len": 12,
        "max_latents": 7,
        "num_channels": 16,
        "num_heads": 2,
        "num_self_attention_layers": 2,
        "abs_pos_emb": False,
    }
    return ar_rotary(**(usual | fields))


def resampler(**fields):
    """As Idefics2 has it, and else tiny."""
    usual = {
        "num_latents": 3,
        "num_latent_channels": 16,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "num_qk_channels": 24,
        "activation": "swiglu",
        "norm": "rms_norm",
        "layer_norm_epsilon": 1e-6,
        "masked_rows": "uniform",
    }
    return ResamplerConfig(**(usual | fields))


PROJECTION = {"num_input_channels": 10, "num_input_hidden_channels": 20}
"""What Idefics2 has before it."""
IDEFICS = {
    "num_kv_heads": None,
    "activation": "relu",
    "norm": "layer_norm",
    "layer_norm_epsilon": 1e-5,
}
"""What the first IDEFICS has otherwise."""
LUCIDRAINS_LM = {
    "num_tokens": 20_000,
    "dim": 32,
    "depth": 6,
    "max_seq_len": 2048,
    "num_latents": 256,
}
LUCIDRAINS_AR = {
    "num_tokens": 20_000,
    "dim": 512,
    "depth": 8,
    "max_seq_len": 4096,
    "cross_attn_seq_len": 3072,
    "cross_attn_dropout": 0.5,
}


def parts(config):
    """The halves of a config by name, or all of it under no name."""
    if not isinstance(config, PerceiverConfig):
        return {"": config}
    return {"encoder": config.encoder, "decoder": config.decoder}


def schedule(part):
    """Which layers follow each other, of what has that."""
    return getattr(part, "schedule", None)


def card_of(config):
    """What is known of a model that takes such inputs."""
    if isinstance(config, CausalSequenceConfig):
        return CAUSAL_CARD if config.vocab_size == NUM_BYTES else MUSIC_CARD
    if isinstance(config, ResamplerConfig):
        return RESAMPLER_CARD
    if isinstance(config.encoder, OpticalFlowEncoderConfig):
        return FLOW_CARD
    return TEXT_CARD if isinstance(config.encoder, TextEncoderConfig) else CARD


@pytest.fixture(scope="session")
def released():
    """A function that fills a config with random weights: counts 3, all else normal."""

    def make(config, seed=0):
        rng = np.random.default_rng(seed)
        structure = models.skeleton(config)
        arrays = {
            path: np.asarray(rng.normal(size=x.shape) + (len(x.shape) == 1), x.dtype)
            if np.issubdtype(x.dtype, np.floating)
            else np.full(x.shape, 3, x.dtype)
            for path, x in {**structure.params, **structure.stats}.items()
        }
        for path in arrays:
            if path.endswith("/var"):
                arrays[path] = np.abs(arrays[path]) + np.float32(0.1)
        return Release(config=config, arrays=arrays, card=card_of(config))

    return make


@pytest.fixture(scope="session")
def outputs():
    """A function that runs a release on images or texts: `outputs(release, inputs)`."""
    run = jax.jit(lambda model, inputs, mask: model(inputs, mask))
    return lambda release, inputs, mask=None: np.asarray(run(release.model(), inputs, mask))
