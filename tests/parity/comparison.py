"""Comparisons that say where two models part, and models built from bare arrays.

- Stages are compared in order of computation, so the first difference is the cause of the others.
- Measured errors are printed: `pytest -rP` shows them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from interop.rows import Arrays
from perceiver_jax.params import Skeleton

Stages = list[tuple[str, Any]]
QUICK_COMPILATION = {"xla_cpu_use_fusion_emitters": False}
"""Compiler options for functions that run once: they compile in less than half the time."""


def max_error(ours: Any, theirs: Any) -> float:
    """Largest absolute difference; axes of size 1 may stand for repetition."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.ndim == theirs.ndim, f"shape {ours.shape} instead of {theirs.shape}"
    return float(np.abs(ours - theirs).max())


def assert_same_stages(ours: Stages, theirs: Stages, atol: float) -> None:
    """Compares named arrays in order; the failure names the first that differ."""
    errors = []
    for (name, got), (their_name, want) in zip(ours, theirs, strict=True):
        errors.append(max_error(got, want))
        assert errors[-1] <= atol, (
            f"the first stage that differs is {name} (theirs: {their_name}), by {errors[-1]:.1e}"
        )
    print(f"largest error of {len(errors)} stages: {max(errors):.1e}")


def assert_same_arrays(ours: Arrays, theirs: Arrays, atol: float) -> None:
    """Compares arrays by name; the failure lists all that differ."""
    assert ours.keys() == theirs.keys()
    errors = {name: max_error(ours[name], theirs[name]) for name in ours}
    wrong = {name: f"{error:.1e}" for name, error in errors.items() if not error <= atol}
    assert not wrong, f"these differ: {wrong}"
    print(f"largest error of {len(errors)} arrays: {max(errors.values()):.1e}")


def wanted(skeleton: Skeleton, dtype: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of all arrays of a model, floats in another type if given."""
    return {
        path: jax.ShapeDtypeStruct(
            shape.shape, dtype if dtype and shape.dtype == np.float32 else shape.dtype
        )
        for path, shape in (skeleton.params | skeleton.stats).items()
    }


def bind(skeleton: Skeleton, arrays: Mapping[str, Any]) -> Any:
    """The model with these parameters and statistics."""
    return skeleton.bind(
        {path: arrays[path] for path in skeleton.params},
        {path: arrays[path] for path in skeleton.stats},
    )
