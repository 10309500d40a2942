"""What arrays hold, looked at where that is known: in calls outside of `jax.jit`.

- Inside, only shapes and types are known; a place that does not exist gives NaN there.
"""

import warnings
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from perceiver_jax.typing import Array


def known(x: Any) -> np.ndarray | None:
    """The values of an array; None where it is traced, or where other processes hold parts."""
    if isinstance(x, Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return None
    return np.asarray(x)


def check_indices(indices: Any, size: int, what: str, remedy: str) -> None:
    """Raises a ValueError for integers below 0 or from `size` on, where they are known."""
    values = known(indices)
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
        mask: bools, True where `values[mask]` count; None: all do.
    """
    numbers, counts = known(values), known(mask)
    if numbers is None or counts is None:
        return
    numbers = numbers if mask is None else numbers[counts]
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return
    slack = 0.01 * (most - least)
    if finite.min() < least - slack or finite.max() > most + slack:
        warnings.warn(
            f"{what} go from {finite.min():g} to {finite.max():g}, where {least:g} to {most:g} is "
            f"expected; {remedy}",
            stacklevel=3,
        )


def rows(table: Array, indices: Array) -> Array:
    """[..., C] rows of a [V, C] table; those of indices below 0 or from V on are NaN."""
    return table.at[indices].get(mode="fill", fill_value=np.nan, wrap_negative_indices=False)
