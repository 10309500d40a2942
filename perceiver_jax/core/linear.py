"""Linear layers, layer norms and their initial values: the recipes of the reference libraries.

- `normal`: krasserm/perceiver-io; every kernel and table N(0, scale), biases 0.
- `variance_scaling`: DeepMind; kernels truncated normal with variance scale/fan_in, biases 0,
  tables N(0, 0.02) truncated at two standard deviations.
- `uniform`: PyTorch's own default, so lucidrains; kernels and biases U(-1, 1)/sqrt(fan_in), tables
  N(0, 1).
- Norms are exact: statistics in at least float32, two-pass variance, epsilon explicit.
"""

import dataclasses
from typing import Literal, cast

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.gradients import normalize, project
from perceiver_jax.typing import Array

InitMethod = Literal["normal", "variance_scaling", "uniform"]
ComputeDtype = Literal["float32", "bfloat16"]
Implementation = Literal["auto", "plain"]
NormKind = Literal["layer_norm", "rms_norm"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InitConfig:
    """How parameters start.

    Attributes:
        method: the recipe, see the head of this file.
        scale: standard deviation for `normal` (None: 0.02), variance times fan-in for
            `variance_scaling` (None: 1); `uniform` takes none.
    """

    method: InitMethod = "normal"
    scale: float | None = None

    def __post_init__(self):
        if self.method == "uniform" and self.scale is not None:
            raise ValueError(
                f"init_scale={self.scale} has no meaning with init_method='uniform', whose width "
                "follows from the fan-in; leave init_scale at None"
            )

    def kernel(self):
        """Initialiser of `[in, out]` (or `[h, w, in, out]`) kernels."""
        if self.method == "normal":
            return jax.nn.initializers.normal(0.02 if self.scale is None else self.scale)
        if self.method == "variance_scaling":
            scale = 1.0 if self.scale is None else self.scale
            return jax.nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
        return jax.nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")

    def bias(self, fan_in: int):
        """Initialiser of biases of a layer with that many inputs."""
        if self.method != "uniform":
            return jax.nn.initializers.zeros

        def uniform(key, shape, dtype=jnp.float32):
            return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

        return uniform

    def embedding(self):
        """Initialiser of `[vocabulary, channels]` embeddings of tokens.

        Source: krasserm and lucidrains as their other tables; deepmind `hk.Embed`, a truncated
        normal distribution of standard deviation 1.
        """
        return self.table(1.0 if self.method == "variance_scaling" else None)

    def table(self, scale: float | None = None):
        """Initialiser of latents, queries and position tables.

        Args:
            scale: standard deviation (where truncated: before that); None takes the recipe's.
        """
        if self.method == "variance_scaling":
            return jax.nn.initializers.truncated_normal(0.02 if scale is None else scale)
        if scale is None:
            scale = 1.0 if self.method == "uniform" else self.scale
        return jax.nn.initializers.normal(0.02 if scale is None else scale)


def linear(
    num_in: int,
    num_out: int,
    *,
    bias: bool = True,
    init: InitConfig,
    compute_dtype: ComputeDtype = "float32",
    implementation: Implementation = "plain",
    rngs: nnx.Rngs,
) -> nnx.Linear:
    """A projection `[..., num_in] → [..., num_out]` with a 2-D kernel.

    `compute_dtype="float32"` computes in the type of parameters and inputs (so in float64 where
    these are); "bfloat16" casts both before the product. `implementation="auto"` takes the gradient
    that suits the backend, see `gradients.project`; "plain" the one that JAX derives.
    """
    return nnx.Linear(
        num_in,
        num_out,
        use_bias=bias,
        kernel_init=init.kernel(),
        bias_init=init.bias(num_in),
        dtype=matmul_dtype(compute_dtype),
        dot_general=project if implementation == "auto" else jax.lax.dot_general,
        rngs=rngs,
    )


def matmul_dtype(compute_dtype: ComputeDtype):
    """The `dtype` argument of flax layers for a compute type; None follows the operands."""
    return jnp.bfloat16 if compute_dtype == "bfloat16" else None


class LayerNorm(nnx.LayerNorm):
    """Layer norm over the last axis, with scale and bias.

    Args:
        num_channels: size of the last axis.
        epsilon: added to the variance.
        implementation: "auto" takes the gradient that suits the backend, see `gradients.normalize`;
            "plain" the one that JAX derives.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        epsilon: float,
        implementation: Implementation = "plain",
        rngs: nnx.Rngs,
    ):
        super().__init__(num_channels, epsilon=epsilon, use_fast_variance=False, rngs=rngs)
        self.implementation = implementation

    def __call__(self, x: Array) -> Array:
        """[..., C] → [..., C], in the type of parameters and inputs."""
        if self.implementation == "plain" or jax.default_backend() != "cpu":
            return super().__call__(x)
        scale, bias = (cast(nnx.Param, x)[...] for x in (self.scale, self.bias))
        return normalize(x.astype(jnp.result_type(x, scale)), scale, bias, self.epsilon)


class RMSNorm(nnx.RMSNorm):
    """Division by the root mean square over the last axis, with a scale; nothing is subtracted.

    Args:
        num_channels: size of the last axis.
        epsilon: added to the mean square.
        rngs: where initial values come from.

    Source: Zhang and Sennrich 2019; transformers `Idefics2RMSNorm`.
    """

    def __init__(self, num_channels: int, *, epsilon: float, rngs: nnx.Rngs):
        super().__init__(num_channels, epsilon=epsilon, rngs=rngs)


def make_norm(
    kind: NormKind,
    num_channels: int,
    *,
    epsilon: float,
    implementation: Implementation = "plain",
    rngs: nnx.Rngs,
) -> LayerNorm | RMSNorm:
    """A norm over the last axis; `implementation` chooses the gradient of a layer norm."""
    if kind == "rms_norm":
        return RMSNorm(num_channels, epsilon=epsilon, rngs=rngs)
    return LayerNorm(num_channels, epsilon=epsilon, implementation=implementation, rngs=rngs)
