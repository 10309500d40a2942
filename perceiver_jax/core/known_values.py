"""What arrays hold, looked at where that is known: in calls outside of `jax.jit`.

- Inside, only shapes and types are known; a place that does not exist gives NaN there.
"""

import inspect
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from perceiver_jax.typing import Array

INSIDE = ("perceiver_jax", "flax", "jax")
"""Packages that may lie between a caller and a warning."""


def known(x: Any) -> np.ndarray | None:
    """The values of an array; None where it is traced, or where other processes hold parts."""
    if isinstance(x, Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return None
    return np.asarray(x)


def _that_count(x: Any, mask: Array | None) -> np.ndarray | None:
    """The values that a mask of their first axes leaves, if all is known."""
    values = known(x)
    if mask is None or values is None:
        return values
    counts = known(mask)
    return None if counts is None else values[np.broadcast_to(counts, values.shape[: counts.ndim])]


def check_indices(
    indices: Any, size: int, what: str, remedy: str, mask: Array | None = None
) -> None:
    """Raises a ValueError for integers below 0 or from `size` on, where they are known.

    Args:
        indices: the integers.
        size: of what they count.
        what: what they are.
        remedy: what to do about it.
        mask: bools that broadcast with them, True where they count; None: all do.
    """
    values = _that_count(indices, mask)
    if values is None or values.size == 0:
        return
    least, most = values.min(), values.max()
    if least < 0 or most >= size:
        raise ValueError(f"{what} from {least} to {most} are not all in 0 to {size - 1}; {remedy}")


def warn_outside(
    values: Any, least: float, most: float, what: str, remedy: str, mask: Array | None = None
) -> None:
    """Warns of real numbers outside of [least, most] by more than a hundredth of that range.

    Args:
        values: the numbers, of which those that are not finite are left out.
        least: smallest that is expected.
        most: likewise the largest.
        what: what the numbers are.
        remedy: what to do about it.
        mask: bools of their first axes, True where they count; None: all do.
    """
    numbers = _that_count(values, mask)
    if numbers is None or not (finite := numbers[np.isfinite(numbers)]).size:
        return
    slack = 0.01 * (most - least)
    if finite.min() < least - slack or finite.max() > most + slack:
        warnings.warn(
            f"{what} go from {finite.min():g} to {finite.max():g}, where {least:g} to {most:g} is "
            f"expected; {remedy}",
            stacklevel=frames_to_caller(),
        )


def frames_to_caller() -> int:
    """The `stacklevel` of a warning that is to name the line from which the library was called."""
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    return max(level, 1)


def within(indices: Array, size: int, mask: Array | None) -> Array:
    """The integers, those outside of 0 to `size` - 1 as 0 where the mask, if any, is False."""
    if mask is None:
        return indices
    outside = (indices < 0) | (indices >= size)
    return jnp.where(outside & ~mask, 0, indices)


def rows(table: Array, indices: Array) -> Array:
    """[..., C] rows of a [V, C] table; those of indices below 0 or from V on are NaN."""
    return (
        jnp.asarray(table)
        .at[indices]
        .get(mode="fill", fill_value=np.nan, wrap_negative_indices=False)
    )
