"""The table of a format for people to read."""

import math
from collections.abc import Iterable

from interop.ops import KEEP
from interop.rows import Row
from perceiver_jax.models import PerceiverConfig, skeleton


def describe(rows: Iterable[Row], config: PerceiverConfig) -> str:
    """One line per tensor: our path, its shape, the op, the foreign name, notes.

    Args:
        rows: the table of a format.
        config: of the model that it is for.
    """
    structure = skeleton(config)
    shapes = {path: x.shape for path, x in (structure.params | structure.stats).items()}
    cells = [_cells(row, shapes) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in cells
    ]
    total = sum(math.prod(x.shape) for x in structure.params.values())
    return "\n".join([*lines, f"{total:,} parameters, {len(shapes):,} arrays"])


def _cells(row: Row, shapes: dict[str, tuple[int, ...]]) -> tuple[str, str, str, str]:
    ours = " + ".join(row.ours) or "-"
    shape = " + ".join(str(list(shapes[path])) for path in row.ours)
    op = "" if row.default is not None else f"← {row.op.name}"
    theirs = " + ".join(row.theirs)
    tied = f"  (also {', '.join(row.tied)})" if row.tied else ""
    note = f"  # {row.note}" if row.note else ""
    return ours, shape, "" if row.op is KEEP and not row.ours else op, theirs + tied + note
