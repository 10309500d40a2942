"""What surrounds an attention or an MLP: the norm before it, the skip beside it."""

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.linear import LayerNorm, RMSNorm, make_norm
from perceiver_jax.core.mlp import MLPConfig
from perceiver_jax.typing import Array


def norm_before(
    config: AttentionConfig | MLPConfig, num_channels: int, *, rngs: nnx.Rngs
) -> LayerNorm | RMSNorm:
    """The norm that the config describes."""
    return make_norm(
        config.norm,
        num_channels,
        epsilon=config.layer_norm_epsilon,
        implementation=config.implementation,
        rngs=rngs,
    )


def skip(config: AttentionConfig, x: Array, attended: Array) -> Array:
    """What goes on after the attention: without a residual too, in the skip's type."""
    if config.residual:
        return x + attended
    return attended.astype(jnp.promote_types(x.dtype, attended.dtype))
