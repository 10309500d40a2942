"""What a prepared example has to be: checked as it is made, since a dataset may be anybody's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_jax.config import suggestion
from perceiver_jax.data.sources import DatasetError

_ENTRIES = ("inputs", "input_mask", "label")
"""What a prepared example may have."""


def check_views(views: Any, num_classes: int) -> None:
    """Raises a DatasetError where views of an example are not what `LabelledDataConfig` asks for.

    Args:
        views: what `views` returned, or a list of what `prepare` did.
        num_classes: of the source.
    """
    if not isinstance(views, Sequence) or not views:
        raise DatasetError(
            f"views returned {_shown(views)}; expected a list of prepared examples, one at least"
        )
    for view in views:
        _check_example(view, num_classes)
        check_alike(view, views[0], "its first view")


def check_alike(example: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Raises a DatasetError where two examples cannot be in one batch.

    Args:
        example: prepared.
        other: another one.
        what: how to call the other one.
    """
    here, there = ({path: x.shape for path, x in _arrays(one)} for one in (example, other))
    if here.keys() != there.keys():
        raise DatasetError(
            f"it has {', '.join(here)}, but {what} has {', '.join(there)}; "
            "prepare must give all examples the same"
        )
    for path, shape in here.items():
        if shape != there[path]:
            raise DatasetError(
                f"'{path}' has shape {shape}, but that of {what} has {there[path]}; prepare must "
                "give all examples one shape: pad inputs, and say in 'input_mask' what is real"
            )


def _check_example(example: Any, num_classes: int) -> None:
    if not isinstance(example, Mapping) or not {"inputs", "label"} <= example.keys():
        raise DatasetError(
            f"prepare returned {_shown(example)}; expected a dict with 'inputs', an array or a "
            "dict of arrays, and 'label'"
        )
    for name in example:
        if name not in _ENTRIES:
            raise DatasetError(
                f"prepare returned '{name}', which nothing reads{suggestion(name, _ENTRIES)}"
            )
    if example.get("input_mask", True) is None:
        raise DatasetError("'input_mask' is None; leave it out where nothing is padded")
    for path, array in _arrays(example):
        if path != "label" and array.dtype.kind in "OSU":
            raise DatasetError(
                f"'{path}' is {_shown(array)}; a model takes numbers: make arrays of them in "
                "prepare, all rows of one length"
            )
    mask = np.asarray(example.get("input_mask", True))
    if mask.dtype != bool and not (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all()):
        raise DatasetError(
            f"'input_mask' is {_shown(mask)}; expected bools, True where there is an element: "
            "add .astype(bool)"
        )
    _check_label(example["label"], num_classes)


def _check_label(label: Any, num_classes: int) -> None:
    array = np.asarray(label)
    one = array.ndim == 0 and array.dtype.kind in "iub" and 0 <= array < num_classes
    if not one and not (array.dtype == bool and array.shape == (num_classes,)):
        raise DatasetError(
            f"'label' is {_shown(label)}; the source has {num_classes} class_names, so a label is "
            f"an integer from 0 to {num_classes - 1}, the place of its class among them; or, where "
            f"an example has any number of classes, {num_classes} bools"
        )


def _arrays(example: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Paths and arrays of what the model and the task get."""
    for name, value in example.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _arrays(value, f"{path}/")
        else:
            yield path, _array(value, path)


def _array(value: Any, path: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DatasetError(
            f"'{path}' is {_shown(value)} of rows of different lengths; make an array in prepare: "
            "pad the rows, and say in 'input_mask' what is real"
        ) from error


def _shown(value: Any) -> str:
    """What somebody returned, in a few words."""
    match value:
        case None:
            return "None"
        case Mapping():
            return f"a dict with {', '.join(map(repr, value)) or 'nothing'}"
        case np.ndarray() if value.ndim:
            return f"an array of shape {value.shape} and type {value.dtype}"
        case _:
            shown = repr(value)
            return f"{shown if len(shown) < 40 else f'{shown[:40]}…'} ({type(value).__name__})"
