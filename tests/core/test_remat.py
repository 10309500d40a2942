"""Policies of recomputation change no gradient, and trade memory for arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.config import ConfigError, from_dict, to_dict
from perceiver_jax.core import EncoderConfig
from perceiver_jax.models import CausalSequenceConfig

POLICIES = ("none", "dots", "full")
DEEP = {"num_self_attention_layers_per_block": 6, "self_attention_widening_factor": 4}
CAUSAL = {
    "vocab_size": 11,
    "max_seq_len": 96,
    "max_latents": 64,
    "num_channels": 16,
    "num_heads": 2,
    "num_self_attention_layers": 6,
}
IDS = jnp.arange(4 * 96).reshape(4, 96) % 11


def encoder_loss(tiny_encoder, random_model, **fields):
    """A deep encoder and its loss on 64 latents."""
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 12, 6)))
    model = random_model(lambda: tiny_encoder(num_latents=64, **DEEP, **fields))
    return model, lambda model: jnp.square(model(inputs, key=jax.random.key(1))).sum()


def causal_loss(tiny_encoder, random_model, **fields):
    """A deep causal model and its loss."""
    del tiny_encoder
    config = CausalSequenceConfig(**CAUSAL, **fields)
    model = random_model(lambda: models.build(config, jax.random.key(0)))
    return model, lambda model: jnp.square(model(IDS, key=jax.random.key(1))).sum()


LOSSES = pytest.mark.parametrize("make", [encoder_loss, causal_loss], ids=["encoder", "causal"])


@LOSSES
def test_gradients_are_those_without_recomputation(float64, tiny_encoder, random_model, make):
    want = None
    for policy in POLICIES:
        model, loss = make(tiny_encoder, random_model, remat=policy, residual_dropout=0.2)
        got = jax.tree.leaves(jax.jit(jax.grad(loss))(model))
        want = got if want is None else want
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@LOSSES
def test_more_recomputation_takes_less_memory(tiny_encoder, random_model, make):
    sizes = []
    for policy in POLICIES:
        model, loss = make(tiny_encoder, random_model, remat=policy)
        compiled = jax.jit(jax.grad(loss)).lower(model).compile()
        sizes.append(compiled.memory_analysis().temp_size_in_bytes)
    none, dots, full = sizes
    assert none > 1.1 * dots and dots > 1.1 * full, sizes


@pytest.mark.parametrize("cls, fields", [(EncoderConfig, {}), (CausalSequenceConfig, CAUSAL)])
def test_configs_of_old_say_yes_or_no(cls, fields):
    for saved, policy in ((False, "none"), (True, "full"), ("True", "full"), ("dots", "dots")):
        config = from_dict(cls, {**fields, "remat": saved})
        assert to_dict(config)["remat"] == policy
        assert config == cls(**fields, remat=policy)
    assert cls(**fields).remat == "none"


@pytest.mark.parametrize("cls, fields", [(EncoderConfig, {}), (CausalSequenceConfig, CAUSAL)])
def test_an_unknown_policy_is_refused(cls, fields):
    with pytest.raises(ValueError, match="remat='some' is not valid; it takes 'none' or 'dots'"):
        cls(**fields, remat="some")
    with pytest.raises(ConfigError, match="'none' or 'dots' or 'full'"):
        from_dict(cls, {**fields, "remat": "some"})
