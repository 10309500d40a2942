"""Models that pipelines are tried on, and golden files."""

import dataclasses
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.release import release

HEADS = {"num_cross_attention_heads": 2}


@pytest.fixture(scope="session")
def text_release(random_model):
    """A function that makes a random model of texts: `text_release(decoder, **encoder fields)`."""

    def make(decoder=None, *, card=None, files=None, **fields):
        sizes = {"vocab_size": 262, "max_seq_len": 64} | fields
        decoder = decoder or TextDecoderConfig(**sizes, **HEADS)
        config = PerceiverConfig(
            encoder=TextEncoderConfig(
                num_input_channels=8,
                num_self_attention_heads=2,
                num_self_attention_layers_per_block=1,
                **sizes,
                **HEADS,
            ),
            decoder=decoder,
            num_latents=4,
            num_latent_channels=8,
        )
        found = release(random_model(lambda: models.build(config, jax.random.key(0))))
        card = card or ModelCard(text=TextPreprocessing())
        return dataclasses.replace(found, card=card, files=files or {})

    return make


@pytest.fixture(scope="session")
def class_decoder():
    """A decoder of three classes."""
    return ClassificationDecoderConfig(num_classes=3, num_output_query_channels=8, **HEADS)


@pytest.fixture(scope="session")
def golden_tiling():
    """Arrays made with DeepMind's own tiling of images for optical flow."""
    folder = os.environ.get("PERCEIVER_GOLDEN")
    if not folder:
        pytest.skip("PERCEIVER_GOLDEN is not set; it names the folder of golden files")
    return np.load(Path(folder) / "deepmind" / "flow_tiling.npz")


@pytest.fixture(scope="module")
def flow_release(random_model):
    """A tiny model of optical flow, for pictures of 12×16."""
    common = {"num_cross_attention_heads": 1}
    config = PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(
            image_shape=(12, 16),
            num_patch_hidden_channels=4,
            num_frequency_bands=2,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=1,
            **common,
        ),
        decoder=OpticalFlowDecoderConfig(rescale_factor=1.0, **common),
        num_latents=3,
        num_latent_channels=8,
    )
    return release(random_model(lambda: models.build(config, jax.random.key(0))))


@pytest.fixture
def flow_source(flow_release, tmp_path):
    """The same in a folder, as an option of a command."""
    folder = tmp_path / "model"
    flow_release.save(folder)
    return f"--source=ours:{folder}"
