"""How a foreign tensor becomes ours and back: named pairs of inverse functions.

- An op takes and gives lists of arrays, one array per name of its row.
- None of them computes: values are moved, so a round trip is exact.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Arrays = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Op:
    """An invertible change of layout.

    Attributes:
        name: what a printed table shows.
        load: theirs → ours; raises a ValueError for arrays that it cannot take.
        save: ours → theirs, its inverse.
    """

    name: str
    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]


def RESHAPE(theirs: Sequence[int], ours: Sequence[int]) -> Op:  # noqa: N802
    """The same values in row-major order under another shape."""
    theirs, ours = tuple(theirs), tuple(ours)
    return Op(f"{list(theirs)}→{list(ours)}", _reshape(theirs, ours), _reshape(ours, theirs))


def SPLIT(n: int, axis: int, op: Op | None = None) -> Op:  # noqa: N802
    """One foreign tensor that holds n of ours of equal size, side by side.

    Args:
        n: how many.
        axis: along which axis of the foreign tensor they lie.
        op: how each part becomes ours; None keeps it.
    """
    part = op or KEEP

    def load(arrays: Arrays) -> Arrays:
        (whole,) = arrays
        if whole.ndim <= axis or whole.shape[axis] % n:
            raise ValueError(f"shape {list(whole.shape)} has no {n} equal parts on axis {axis}")
        return part.load(np.split(whole, n, axis))

    def save(arrays: Arrays) -> Arrays:
        return [np.concatenate(part.save(arrays), axis)]

    return Op(f"split {n} on {axis}, {part.name}", load, save)


def JOIN(n: int, axis: int, op: Op | None = None) -> Op:  # noqa: N802
    """Foreign tensors of equal size that lie side by side in one of ours: `SPLIT` the other way.

    Args:
        n: how many foreign tensors there are.
        axis: along which axis of ours they lie.
        op: how each becomes a part of ours; None keeps it.
    """
    part = op or KEEP
    apart = SPLIT(n, axis)

    def load(arrays: Arrays) -> Arrays:
        if len({array.shape for array in arrays}) > 1:
            shapes = " and ".join(str(list(array.shape)) for array in arrays)
            raise ValueError(f"shapes {shapes} are not equal")
        return apart.save(part.load(arrays))

    def save(arrays: Arrays) -> Arrays:
        return part.save(apart.load(arrays))

    return Op(f"{part.name}, join {n} on {axis}", load, save)


def _reshape(before: tuple[int, ...], after: tuple[int, ...]) -> Callable[[Arrays], Arrays]:
    def reshape(arrays: Arrays) -> Arrays:
        for array in arrays:
            # Any array of that size could be reshaped, a transposed one too.
            if array.shape != before:
                raise ValueError(f"shape {list(array.shape)} instead of {list(before)}")
        return [array.reshape(after) for array in arrays]

    return reshape


def _permute(*axes: int) -> Callable[[Arrays], Arrays]:
    return lambda arrays: [np.transpose(array, axes) for array in arrays]


KEEP = Op("=", list, list)
"""As it is."""
TRANSPOSE = Op("T", _permute(1, 0), _permute(1, 0))
"""Linear layers: [out, in] there, [in, out] here."""
CONV2D = Op("OIHW→HWIO", _permute(2, 3, 1, 0), _permute(3, 2, 0, 1))
"""Convolutions: [out, in, height, width] there, [height, width, in, out] here."""
