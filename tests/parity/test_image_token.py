"""The MNIST classifier built on lucidrains' PerceiverIO: an image is a token, the query zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from interop import load
from interop.formats import lucidrains
from interop.references import lucidrains as reference_of
from perceiver_jax import models
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from tests.parity import torch_models
from tests.parity.comparison import max_error, wanted

pytestmark = [pytest.mark.parity, pytest.mark.reference]

SETTINGS = {
    "class": "PerceiverIO",
    "depth": 3,
    "dim": 6 * 6 * 2,
    "queries_dim": 6,
    "logits_dim": 7,
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
LAYERS = {
    "activation": "geglu",
    "qkv_bias": False,
    "num_cross_attention_heads": 2,
    "num_cross_attention_qk_channels": 10,
}
IMAGE_CONFIG = PerceiverConfig(
    encoder=ImageEncoderConfig(
        image_shape=(6, 6, 2),
        preprocessing="patches",
        patch_size=6,
        num_frequency_bands=0,
        cross_attention_widening_factor=4,
        num_self_attention_heads=3,
        num_self_attention_qk_channels=12,
        num_self_attention_layers_per_block=3,
        self_attention_widening_factor=4,
        **LAYERS,
    ),
    decoder=ClassificationDecoderConfig(
        num_classes=7,
        num_output_query_channels=6,
        output_queries="zeros",
        cross_attention_residual=False,
        cross_attention_mlp=False,
        **LAYERS,
    ),
    num_latents=3,
    num_latent_channels=8,
)


def test_an_image_classifier_has_the_parameters_and_the_function_of_it(torch_float64):
    import torch

    pytest.importorskip("perceiver_pytorch")
    reference = reference_of.build(SETTINGS)
    torch_models.randomise(reference, seed=0)
    images = np.random.default_rng(0).normal(size=(3, 6, 6, 2))
    with torch.no_grad():
        theirs = reference(
            torch.from_numpy(images.reshape(3, 1, -1)), queries=torch.zeros(1, 6)
        ).squeeze(1)
    structure = models.skeleton(IMAGE_CONFIG)
    rows = lucidrains.rows(lucidrains.config(SETTINGS))
    arrays = load(rows, torch_models.state(reference), wanted(structure, jnp.float64))
    ours = jax.jit(structure.bind(arrays).__call__)(images)
    assert max_error(ours, theirs) <= 1e-10
