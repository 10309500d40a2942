"""The two-layer perceptron that follows each attention.

- The exact and the tanh form of GELU differ by up to 5e-4: PyTorch's libraries use the first,
  DeepMind the second.
- Gated forms project to twice the hidden width at once: values first, then gates.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core import gradients
from perceiver_jax.core.linear import ComputeDtype, Implementation, InitConfig, linear
from perceiver_jax.typing import Array

Activation = Literal["gelu", "gelu_tanh", "geglu", "squared_relu"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """What the reference implementations vary in an MLP and its residual branch.

    Attributes:
        widening_factor: hidden channels are this times the channels.
        activation: "gelu" (exact), "gelu_tanh", "geglu" (value times exact GELU of a gate) or
            "squared_relu".
        bias: whether both linear layers have biases.
        layer_norm_epsilon: added to the variance in the layer norm before the MLP.
        residual_dropout: dropout rate of the result before it is added to the input.
        init: initial values of the linear layers.
        compute_dtype: type in which the linear layers are computed.
        implementation: see `linear.linear`.
    """

    widening_factor: int = 1
    activation: Activation = "gelu"
    bias: bool = True
    layer_norm_epsilon: float = 1e-5
    residual_dropout: float = 0.0
    init: InitConfig = InitConfig()
    compute_dtype: ComputeDtype = "float32"
    implementation: Implementation = "auto"


class MLP(nnx.Module):
    """Linear, activation, linear.

    Args:
        config: see `MLPConfig`; its norm and residual-dropout fields belong to the layer around it.
        num_channels: channels in and out.
        rngs: where initial values come from.

    Source: Perceiver §3.2; deepmind `perceiver.MLP`, krasserm `MLP`, lucidrains `FeedForward`.
    """

    def __init__(self, config: MLPConfig, *, num_channels: int, rngs: nnx.Rngs):
        self.config = config
        hidden = config.widening_factor * num_channels
        gated = config.activation == "geglu"
        common: dict[str, Any] = {
            "bias": config.bias,
            "init": config.init,
            "compute_dtype": config.compute_dtype,
            "implementation": config.implementation,
            "rngs": rngs,
        }
        self.hidden = linear(num_channels, 2 * hidden if gated else hidden, **common)
        self.output = linear(hidden, num_channels, **common)

    def __call__(self, x: Array) -> Array:
        """[..., C] → [..., C]."""
        return self.output(
            activate(self.hidden(x), self.config.activation, self.config.implementation)
        )


def activate(x: Array, activation: Activation, implementation: Implementation = "plain") -> Array:
    """[..., hidden] → [..., hidden], or half the channels for a gated activation."""
    gelu = gradients.gelu if implementation == "auto" else _gelu
    if activation == "geglu":
        value, gate = jnp.split(x, 2, axis=-1)
        return value * gelu(gate, tanh=False)
    if activation == "squared_relu":
        return jnp.square(jax.nn.relu(x))
    return gelu(x, tanh=activation == "gelu_tanh")


def _gelu(x: Array, *, tanh: bool) -> Array:
    return jax.nn.gelu(x, approximate=tanh)
