"""What arrays a model is called with, told as data: for programs that know no modality.

- Configs of encoders have a method `input_arrays`, which returns `{argument of the call: tree}`; a
  tree is an `InputArray`, or a dict of them.
- Shapes are those of one example: the axis of the batch stands before them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

InputArrays = Mapping[str, Any]
"""`{argument: InputArray or {name: InputArray}}`, in the order of the call."""


@dataclasses.dataclass(frozen=True)
class FreeSize:
    """A size that the model leaves open.

    Attributes:
        name: what is counted, as "points".
        default: the size where nothing else is said; None: the data has to tell.
    """

    name: str
    default: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputArray:
    """One array that a model takes.

    Attributes:
        shape: of an example.
        dtype: its type, as NumPy names it.
        meaning: what it is, and how its values come about.
        least: smallest value that has a meaning; None: any.
        most: likewise the largest.
    """

    shape: tuple[int | FreeSize, ...]
    dtype: str
    meaning: str
    least: float | None = None
    most: float | None = None


def mask_of(elements: FreeSize) -> InputArray:
    """The mask of so many elements."""
    return InputArray(
        shape=(elements,), dtype="bool", meaning=f"True: there are {elements.name}; False: padding"
    )
