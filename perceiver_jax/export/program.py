"""A model as a program of `jax.export`: weights and inputs to outputs, for several platforms.

- Of a batch of any size, each example is computed by itself (`jax.vmap`): what the library chooses
  from shapes it chooses for one example, and no shape that it sees is a symbol.
- cuDNN's attention is left out: a program with it runs nowhere else, and JAX does not promise that
  a later version runs it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from perceiver_jax import models
from perceiver_jax.errors import UserError
from perceiver_jax.export.signature import Signature
from perceiver_jax.params import Skeleton

PLATFORMS = ("cpu", "cuda", "tpu")
"""What programs are made for, if nothing else is said."""
BATCH = "b"
"""The symbol that stands for the size of the batch."""


def export_program(
    config: Any,
    signature: Signature,
    *,
    platforms: Sequence[str] = PLATFORMS,
    batch_size: int | None = None,
) -> export.Exported:
    """The program `(weights, *inputs) → outputs`, inputs in the order of the signature.

    Args:
        config: of the model.
        signature: what it is called with.
        platforms: what the program runs on.
        batch_size: the one that it takes; None: any.

    Raises:
        UserError: the model does not take these arrays, or cannot be exported.
    """
    structure = models.skeleton(config)
    names = tuple(signature.arrays)

    def call(weights: Mapping[str, Any], *inputs: Any) -> Any:
        model: Any = bound(structure, weights)
        arguments = dict(zip(names, inputs, strict=True))
        if batch_size is not None:
            return model(**arguments)

        def one(example: Mapping[str, Any]) -> Any:
            outputs = model(**jax.tree.map(lambda x: x[None], dict(example)))
            return jax.tree.map(lambda x: x[0], outputs)

        return jax.vmap(one)(arguments)

    (symbol,) = export.symbolic_shape(BATCH)
    shapes = signature.shapes(batch_size or symbol)
    weights = {**structure.params, **structure.stats}
    try:
        with jax.default_device(_cpu()):
            return export.export(jax.jit(call), platforms=platforms)(weights, *shapes.values())
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UserError(f"the model cannot be exported: {error}") from error


def bound(structure: Skeleton, weights: Mapping[str, Any]) -> Any:
    """The model with parameters and statistics that stand in one dict."""
    params, stats = (
        {path: weights[path] for path in paths} for paths in (structure.params, structure.stats)
    )
    return structure.bind(params, stats)


def platform_here() -> str:
    """The platform of this machine, as programs name it."""
    return export.default_export_platform()


def largest_difference(got: Any, wanted: Any) -> tuple[float, float]:
    """The largest absolute difference of two trees of outputs, and the largest value wanted."""
    pairs = [
        (np.asarray(one, np.float64), np.asarray(other, np.float64))
        for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    ]
    return (
        max(float(np.abs(one - other).max()) for one, other in pairs),
        max(float(np.abs(other).max()) for _, other in pairs),
    )


def _cpu() -> Any:
    """A device that is not from NVIDIA: where programs are traced for the default device."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError(
            f"a program is made on the CPU, which JAX does not see ({error}); set JAX_PLATFORMS to "
            "a list with cpu in it, as in JAX_PLATFORMS=cuda,cpu"
        ) from error
