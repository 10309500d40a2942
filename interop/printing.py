"""The table of a format for people to read."""

import math
from collections.abc import Iterable, Mapping

from interop.rows import Row
from perceiver_jax.models import AnyModelConfig, skeleton


def describe(rows: Iterable[Row], config: AnyModelConfig) -> str:
    """One line per tensor: our path, its shape, the op, the foreign name, notes.

    Args:
        rows: the table of a format.
        config: of the model that it is for.
    """
    structure = skeleton(config)
    shapes = {path: x.shape for path, x in (structure.params | structure.stats).items()}
    cells = [line for row in rows for line in _lines(row, shapes)]
    widths = [max(len(line[i]) for line in cells) for i in range(3)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]]).rstrip()
        for line in cells
    ]
    total = sum(math.prod(x.shape) for x in structure.params.values())
    return "\n".join([*lines, f"{total:,} parameters, {len(shapes):,} arrays"])


Line = tuple[str, str, str, str]
"""Our path, its shape, the op, the foreign name with notes."""


def _lines(row: Row, shapes: Mapping[str, tuple[int, ...]]) -> list[Line]:
    """One line, or one for each of several parameters that are a single tensor elsewhere."""
    tied = f"  (also {', '.join(row.tied)})" if row.tied else ""
    note = f"  # {row.note}" if row.note else ""
    theirs = " + ".join(row.theirs) + tied + note
    if not row.ours:
        return [("-", "", "", theirs)]
    first, *others = (str(list(shapes[path])) for path in row.ours)
    return [
        (row.ours[0], first, f"← {row.op.name}", theirs),
        *(
            (path, shape, "", "(in the same)")
            for path, shape in zip(row.ours[1:], others, strict=True)
        ),
    ]
