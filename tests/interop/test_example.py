"""Example batches of causal models; those of others are what conversions and checks run on."""

import numpy as np
import pytest

from interop.example import example_inputs
from perceiver_jax import models
from tests.interop.conftest import causal_model


@pytest.mark.parametrize(
    ("config", "num_tokens", "num_latents"),
    [
        (causal_model(), 12, 7),
        (causal_model(max_latents=12), 12, 12),
        (causal_model(max_latents=2), 12, 2),
        (causal_model(max_latents=9), 12, 9),
        (models.causal_bytes(), 64, 32),
        (models.symbolic_audio_giantmidi(), 64, 32),
    ],
)
def test_padding_lies_within_the_prefix(config, num_tokens, num_latents):
    example = example_inputs(config, seed=0)
    mask = example["input_mask"]
    assert example["inputs"].shape == mask.shape == (2, num_tokens)
    assert example["num_latents"] == num_latents
    prefix = num_tokens - num_latents
    assert prefix <= config.max_seq_len - config.max_latents and num_latents <= config.max_latents
    np.testing.assert_array_equal((~mask).sum(1), [0, prefix // 2])
    assert mask[:, prefix // 2 :].all()
