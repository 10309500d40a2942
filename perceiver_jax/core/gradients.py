"""Gradients written by hand where a backend computes JAX's own slowly; the one dispatch point.

- A program that keeps less for the backward pass is faster on CPU, where fresh memory costs as much
  as arithmetic: layer norms and GELUs keep their inputs and compute the rest again.
- On CPU the gradient of a kernel is `inputsᵀ · cotangent`, operands in this order: XLA copies the
  left operand transposed, and with the cotangent there it fuses the whole chain of residual
  gradients into that copy, again for every layer. Kernels that narrow have the cotangent there
  all the same: it is so much smaller than the inputs, into whose copy a GELU would be fused.
- The exact GELU is computed with `erf`, as PyTorch does: the longer formula of `erfc`, JAX's own,
  is kept in three parts for the backward pass.
- Layers that follow each other without a loop have their residual gradients fused into one chain
  on CPU, which is computed anew for each of them; a loop cuts the chain.
- Elsewhere nothing is gained, and JAX's own gradients stay.
- They cannot be differentiated forwards (`jax.jvp`); `implementation="plain"` can.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from perceiver_jax.typing import Array


def project(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    """[..., in] inputs, [in, out] kernel → [..., out]; a `dot_general` for linear layers."""
    asked = [name for name, value in options.items() if value is not None]
    if jax.default_backend() == "cpu" and not asked:
        return _project(x, kernel)
    return jax.lax.dot_general(x, kernel, dimension_numbers, **options)


def normalize(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Layer norm over the last axis, with a two-pass variance, in the type of its operands.

    Args:
        x: [..., C].
        scale: [C].
        bias: [C].
        epsilon: added to the variance.
    """
    return _normalize(x, scale, bias, epsilon)


def gelu(x: Array, *, tanh: bool) -> Array:
    """The exact GELU, or its form with a tanh."""
    if jax.default_backend() == "cpu":
        return _gelu(x, tanh)
    return jax.nn.gelu(x, approximate=tanh)


def prefers_loop(activations: Array, num_parameters: int) -> bool:
    """Whether a loop over layers is faster in compiled code than writing them out.

    A loop stacks the parameters of all layers, which costs time in their number. On CPU that is
    less than the loop spares where there are more activations, as in a small model on a batch.
    """
    compiled = isinstance(activations, Tracer)
    return compiled and jax.default_backend() == "cpu" and activations.size > num_parameters


def _product(x: Array, kernel: Array) -> Array:
    return jax.lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


_project = jax.custom_vjp(_product)


def _save(x, kernel):
    # The product itself, for remat policies to see.
    return _product(x, kernel), (x, kernel)


def _project_gradient(saved, d_y):
    x, kernel = saved
    leading = tuple(range(x.ndim - 1))
    d_x = jax.lax.dot_general(d_y, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    over_rows = ((leading, leading), ((), ()))
    if kernel.shape[0] > kernel.shape[1]:
        return d_x, jax.lax.dot_general(d_y, x, over_rows).T
    return d_x, jax.lax.dot_general(x, d_y, over_rows)


_project.defvjp(_save, _project_gradient)


def _normalized(x, scale, bias, epsilon):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    inverse_deviation = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    over_last = (None,) * (x.ndim - 1)
    y = centred * inverse_deviation * scale[over_last] + bias[over_last]
    return y, (x, mean, inverse_deviation, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(x, scale, bias, epsilon):
    return _normalized(x, scale, bias, epsilon)[0]


def _normalize_gradient(epsilon, saved, d_y):
    del epsilon
    x, mean, inverse_deviation, scale = saved
    y = (x - mean) * inverse_deviation
    leading = tuple(range(x.ndim - 1))
    d_normed = d_y * scale[(None,) * (x.ndim - 1)]
    along = (d_normed * y).mean(-1, keepdims=True)
    d_x = (d_normed - d_normed.mean(-1, keepdims=True) - y * along) * inverse_deviation
    return d_x, (d_y * y).sum(leading), d_y.sum(leading)


_normalize.defvjp(_normalized, _normalize_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gelu(x, tanh):
    return jax.nn.gelu(x, approximate=True) if tanh else x * _probability(x)


def _probability(x):
    """That a standard normal variable is less than x."""
    return (1 + lax.erf(x * math.sqrt(0.5))) / 2


def _gelu_gradient(tanh, x, d_y):
    if tanh:
        root, cubic = math.sqrt(2 / math.pi), 0.044715
        t = jnp.tanh(root * (x + cubic * x**3))
        slope = (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * cubic * x * x)
    else:
        density = jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        slope = _probability(x) + x * density
    return (d_y * slope,)


_gelu.defvjp(lambda x, tanh: (_gelu(x, tanh), x), _gelu_gradient)
