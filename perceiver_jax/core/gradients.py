"""Gradients written by hand where a backend computes JAX's own slowly; the one dispatch point.

- On CPU the gradient of a kernel is `inputsᵀ · cotangent`, operands in this order: XLA copies the
  left operand transposed, and with the cotangent there it fuses the whole chain of residual
  gradients into that copy, again for every layer.
- Layers that follow each other without a loop have their residual gradients fused into one chain
  on CPU, which is computed anew for each of them; a loop cuts the chain.
- Elsewhere nothing is gained, and JAX's own gradients stay.
- They cannot be differentiated forwards (`jax.jvp`); `implementation="plain"` can.
"""

from typing import Any

import jax
from jax.core import Tracer

from perceiver_jax.typing import Array


def project(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
    """[..., in] inputs, [in, out] kernel → [..., out]; a `dot_general` for linear layers."""
    asked = [name for name, value in options.items() if value is not None]
    if jax.default_backend() == "cpu" and not asked:
        return _project(x, kernel)
    return jax.lax.dot_general(x, kernel, dimension_numbers, **options)


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
    d_kernel = jax.lax.dot_general(x, d_y, ((leading, leading), ((), ())))
    return d_x, d_kernel


_project.defvjp(_save, _project_gradient)
