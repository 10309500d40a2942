"""The two-layer perceptron that follows each attention.

- The exact and the tanh form of GELU differ by up to 5e-4: PyTorch's libraries use the first,
  DeepMind the second.
- Gated forms project to twice the hidden width at once: values first, then gates. Their gates are
  GELUs (GEGLU) or SiLUs (SwiGLU).
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core import gradients
from perceiver_jax.core.linear import ComputeDtype, Implementation, InitConfig, NormKind, linear
from perceiver_jax.typing import Array

Activation = Literal["gelu", "gelu_tanh", "geglu", "swiglu", "relu", "squared_relu"]
GATED: tuple[Activation, ...] = ("geglu", "swiglu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """What the reference implementations vary in an MLP and its residual branch.

    Attributes:
        widening_factor: hidden channels are this times the channels.
        num_hidden_channels: hidden channels, where they are not that.
        activation: "gelu" (exact), "gelu_tanh", "geglu" (value times exact GELU of a gate),
            "swiglu" (value times SiLU of a gate), "relu" or "squared_relu".
        bias: whether both linear layers have biases.
        norm: which norm comes before the MLP.
        layer_norm_epsilon: added to the variance, or mean square, in that norm.
        residual_dropout: dropout rate of the result before it is added to the input.
        init: initial values of the linear layers.
        compute_dtype: type in which the linear layers are computed.
        implementation: see `linear.linear`.
    """

    widening_factor: int = 1
    num_hidden_channels: int | None = None
    activation: Activation = "gelu"
    bias: bool = True
    norm: NormKind = "layer_norm"
    layer_norm_epsilon: float = 1e-5
    residual_dropout: float = 0.0
    init: InitConfig = InitConfig()
    compute_dtype: ComputeDtype = "float32"
    implementation: Implementation = "auto"


class MLP(nnx.Module):
    """Linear, activation, linear.

    Args:
        config: see `MLPConfig`; its norm and residual-dropout fields belong to the layer around it.
        num_channels: channels in, and out where nothing else is said.
        num_output_channels: channels out; None: `num_channels`.
        rngs: where initial values come from.

    Source: Perceiver §3.1 and appendix C; deepmind `perceiver.MLP`, krasserm `MLP`, lucidrains
    `FeedForward`; transformers `Idefics2MLP` (SwiGLU, whose `up_proj` are the values).
    """

    def __init__(
        self,
        config: MLPConfig,
        *,
        num_channels: int,
        num_output_channels: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.config = config
        hidden = config.num_hidden_channels or config.widening_factor * num_channels
        gated = config.activation in GATED
        common: dict[str, Any] = {
            "bias": config.bias,
            "init": config.init,
            "compute_dtype": config.compute_dtype,
            "implementation": config.implementation,
            "rngs": rngs,
        }
        self.hidden = linear(num_channels, 2 * hidden if gated else hidden, **common)
        self.output = linear(hidden, num_output_channels or num_channels, **common)

    def __call__(self, x: Array) -> Array:
        """[..., C] → [..., num_output_channels]."""
        return self.output(
            activate(self.hidden(x), self.config.activation, self.config.implementation)
        )


def activate(x: Array, activation: Activation, implementation: Implementation = "plain") -> Array:
    """[..., hidden] → [..., hidden], or half the channels for a gated activation."""
    gelu = gradients.gelu if implementation == "auto" else _gelu
    if activation in GATED:
        value, gate = jnp.split(x, 2, axis=-1)
        return value * (gelu(gate, tanh=False) if activation == "geglu" else jax.nn.silu(gate))
    if activation in ("relu", "squared_relu"):
        x = jax.nn.relu(x)
        return x if activation == "relu" else jnp.square(x)
    return gelu(x, tanh=activation == "gelu_tanh")


def _gelu(x: Array, *, tanh: bool) -> Array:
    return jax.nn.gelu(x, approximate=tanh)
