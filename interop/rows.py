"""Rows that pair our parameters with foreign tensors, and the engine that walks them.

- A row names both sides and an invertible op, so one table loads and saves.
- Nothing is lenient: every name of either side has to be accounted for, and everything wrong is
  reported at once. To load a part of a model, filter the rows and arrays at the call.
- Arrays are never cast: a file of another precision is a dtype problem, to be cast by the caller.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from interop.ops import KEEP, Op
from perceiver_jax.errors import UserError

Arrays = Mapping[str, Any]
"""Arrays by name, NumPy's or JAX's; as `want`, anything with a shape and a dtype."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What one or several of our parameters are called elsewhere.

    Attributes:
        ours: paths of parameters or statistics; empty for a tensor that we do not keep.
        theirs: names of foreign tensors.
        op: how theirs become ours.
        tied: further foreign names that hold the same tensor as `theirs[0]`: checked to be equal
            on load, written on save.
        note: why the row is as it is.
        default: makes a tensor that we do not keep from our arrays; None for all other rows.
        tolerance: largest difference that a file's tensor may have from the one so made; None if
            its values do not matter.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    op: Op = KEEP
    tied: tuple[str, ...] = ()
    note: str = ""
    default: Callable[[Arrays], np.ndarray] | None = None
    tolerance: float | None = None


class Problem(NamedTuple):
    """One thing that does not fit."""

    kind: str
    """missing, unexpected, shape, dtype, not tied, value or duplicate"""
    name: str
    detail: str


class MappingError(UserError):
    """Weights and rows that do not fit each other.

    Attributes:
        problems: every one of them.
    """

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        lines = [f"{kind:<10} {name}: {detail}" for kind, name, detail in problems[:SHOWN]]
        if len(problems) > SHOWN:
            counts = Counter(problem.kind for problem in problems)
            lines.append(
                f"and more: {', '.join(f'{n} {kind}' for kind, n in counts.items())} in all"
            )
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines += _hints(problems)
        super().__init__("\n  ".join([f"weights do not fit, {number}:", *lines]))


SHOWN = 20
"""Most problems that the message of a `MappingError` lists; the error holds all of them."""


def _hints(problems: list[Problem]) -> list[str]:
    """What many problems together suggest."""
    missing = {problem.name for problem in problems if problem.kind == "missing"}
    unexpected = [problem.name for problem in problems if problem.kind == "unexpected"]
    hints = []
    for prefix in {name[: -len(other)] for name in unexpected[:1] for other in missing}:
        if prefix and all(name.removeprefix(prefix) in missing for name in unexpected):
            hints.append(f"the names in the file start with '{prefix}': save them without it")
    if any(problem.kind == "dtype" for problem in problems):
        hints.append("convert the arrays to the wanted type before saving the file")
    if missing and unexpected and not hints:
        hints.append("is this the right format, and the right config (--config)?")
    return hints


def row(
    ours: str | tuple[str, ...],
    theirs: str | tuple[str, ...],
    op: Op = KEEP,
    *,
    tied: tuple[str, ...] = (),
    note: str = "",
) -> Row:
    """A row for tensors that both sides keep."""
    return Row(_names(ours), _names(theirs), op, tied, note)


def ignore(
    theirs: str,
    why: str,
    default: Callable[[Arrays], np.ndarray],
    *,
    tolerance: float | None = None,
) -> Row:
    """A row for a foreign tensor that we do not keep: dropped on load, made again on save.

    Args:
        theirs: its name.
        why: what it is there for.
        default: makes it from our arrays.
        tolerance: as in `Row`.
    """
    return Row((), (theirs,), note=why, default=default, tolerance=tolerance)


def table(rows: Iterable[Row]) -> list[Row]:
    """The rows as a list.

    Raises:
        MappingError: a name of either side stands in two places.
    """
    rows = list(rows)
    problems = []
    for names in (
        [name for row in rows for name in row.ours],
        [name for row in rows for name in (*row.theirs, *row.tied)],
    ):
        problems += [
            Problem("duplicate", name, f"stands in the table {count} times, give it one row")
            for name, count in Counter(names).items()
            if count > 1
        ]
    if problems:
        raise MappingError(problems)
    return rows


def load(rows: Iterable[Row], foreign: Arrays, want: Arrays) -> dict[str, np.ndarray]:
    """Foreign tensors as our arrays.

    Args:
        rows: the table.
        foreign: {name: array}, everything that the file holds.
        want: {path: array or shape} of our parameters and statistics, as of `params.Skeleton`.

    Returns:
        {path: array} of exactly the paths of `want`.

    Raises:
        MappingError: with every problem.
    """
    return _convert(table(rows), foreign, want, loading=True)


def save(rows: Iterable[Row], ours: Arrays, want: Arrays | None = None) -> dict[str, np.ndarray]:
    """Our arrays as foreign tensors; arguments mirror those of `load`.

    Args:
        rows: the table.
        ours: {path: array}, parameters and statistics together.
        want: {name: array or shape} of what the foreign model takes; None if it is not at hand.

    Returns:
        {name: array}.

    Raises:
        MappingError: with every problem.
    """
    return _convert(table(rows), ours, want, loading=False)


def _convert(
    rows: list[Row], arrays: Arrays, want: Arrays | None, *, loading: bool
) -> dict[str, np.ndarray]:
    """The engine: either direction, all problems together."""
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    ignored = [(row, row.theirs[0], row.default) for row in rows if row.default is not None]
    result, ops, problems = _walk(rows, arrays, loading=loading)
    problems += _unaccounted(rows, arrays, loading=loading)
    if loading:
        problems += [
            Problem("missing", name, row.note) for row, name, _ in ignored if name not in arrays
        ]
    else:
        ops |= {name: KEEP for _, name, _ in ignored}
        # Made from our arrays, so only once these are known to be complete.
        result |= {name: make(arrays) for _, name, make in ignored if not problems}
    if want is not None:
        problems += _misfits(result, ops, want)
    if loading and not problems:
        for row, name, make in ignored:
            problems += _not_as_made(row, arrays[name], make(result))
    if problems:
        raise MappingError(problems)
    return result


def _walk(
    rows: list[Row], arrays: Arrays, *, loading: bool
) -> tuple[dict[str, np.ndarray], dict[str, Op], list[Problem]]:
    """Applies every row for tensors that both sides keep.

    Returns:
        The targets that could be made, the op that makes each of all targets, and problems.
    """
    result: dict[str, np.ndarray] = {}
    ops: dict[str, Op] = {}
    problems: list[Problem] = []
    for row in [row for row in rows if row.default is None]:
        sources, targets, convert = (
            (row.theirs, row.ours, row.op.load) if loading else (row.ours, row.theirs, row.op.save)
        )
        needed, copies = ((*sources, *row.tied), ()) if loading else (sources, row.tied)
        ops |= dict.fromkeys([*targets, *copies], row.op)
        absent = [name for name in needed if name not in arrays]
        problems += [Problem("missing", name, f"makes {', '.join(targets)}") for name in absent]
        if absent:
            continue
        if loading:
            problems += _untied(row, arrays)
        try:
            made = convert([arrays[name] for name in sources])
        except ValueError as error:
            problems.append(Problem("shape", sources[0], f"{error} ({row.op.name})"))
            continue
        result |= dict(zip(targets, made, strict=True)) | dict.fromkeys(copies, made[0])
    return result, ops, problems


def _unaccounted(rows: list[Row], arrays: Arrays, *, loading: bool) -> list[Problem]:
    """Sources that stand in no row."""
    known = {name for row in rows for name in ((*row.theirs, *row.tied) if loading else row.ours)}
    return [
        Problem("unexpected", name, f"{list(array.shape)}, is in no row of the table")
        for name, array in arrays.items()
        if name not in known
    ]


def _untied(row: Row, foreign: Arrays) -> list[Problem]:
    """Foreign tensors that should equal the row's first and do not."""
    first = row.theirs[0]
    return [
        Problem("not tied", name, f"differs from {first}, whose values it has to have")
        for name in row.tied
        if not np.array_equal(foreign[first], foreign[name])
    ]


def _misfits(result: Arrays, ops: Mapping[str, Op], want: Arrays) -> list[Problem]:
    """Targets that the receiving model lacks, or has with another shape or type."""
    problems = [
        Problem("unexpected", name, "the receiving model has no such tensor")
        for name in ops
        if name not in want
    ]
    problems += [
        Problem("missing", name, f"{list(want[name].shape)}, no row of the table makes it")
        for name in want
        if name not in ops
    ]
    for name in [name for name in result if name in want]:
        got, wanted = result[name], want[name]
        if tuple(got.shape) != tuple(wanted.shape):
            detail = f"{list(got.shape)} ({ops[name].name}), wanted {list(wanted.shape)}"
            problems.append(Problem("shape", name, detail))
        if np.dtype(got.dtype) != np.dtype(wanted.dtype):
            problems.append(Problem("dtype", name, f"{got.dtype}, wanted {wanted.dtype}"))
    return problems


def _not_as_made(row: Row, got: np.ndarray, made: np.ndarray) -> list[Problem]:
    """What speaks against dropping a foreign tensor: it is not the one that we would make."""
    name = row.theirs[0]
    if got.shape != made.shape:
        return [Problem("shape", name, f"{list(got.shape)}, wanted {list(made.shape)}")]
    error = 0.0 if row.tolerance is None else np.abs(got - made).max()
    if row.tolerance is None or error <= row.tolerance:
        return []
    return [Problem("value", name, f"is up to {error:.1e} away from what it should be")]


def _names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
