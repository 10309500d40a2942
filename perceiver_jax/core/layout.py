"""How tokens lie when they are streamed: in rows of a grid, or one after the other.

- On a grid the positions of each axis stay a small table: the innermost axes make a row, the others
  count the rows.
- Where there is one axis only, or a row would be too long, positions become features like the
  content, shared by all examples.
- A layout takes functionals over dense channels apart, and puts weighted sums back together.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from perceiver_jax.core.separable import Elements, Functional, Norm
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array

MIN_ROW, MAX_ROW = 16, 4096
"""Tokens in a row of a grid: fewer make too many steps, more too large a table of the row."""
LINE_ROW = 512
"""Tokens in a row of a line, at most."""


def layout_of(tokens: Tokens) -> "GridLayout | LineLayout":
    """The layout in which these tokens are best streamed."""
    if len(tokens.grid) > 1 and tokens.positions:
        first_inner = _first_inner(tokens.grid)
        if math.prod(tokens.grid[first_inner:]) <= MAX_ROW:
            return GridLayout(tokens, first_inner)
    return LineLayout(tokens)


def _first_inner(grid: Sequence[int]) -> int:
    """The axis from which on axes make a row: as few as reach the least size."""
    axis = len(grid) - 1
    while axis > 0 and math.prod(grid[axis:]) < MIN_ROW:
        axis -= 1
    return axis


@dataclasses.dataclass(frozen=True)
class GridLayout:
    """Rows of a grid with one position table per axis.

    Attributes:
        tokens: as the adapter made them.
        first_inner: the axes from this one on make a row.
    """

    tokens: Tokens
    first_inner: int

    @property
    def num_features(self) -> int:
        """Numbers that a token is multiplied with, one by one."""
        return self.tokens.content.shape[-1]

    @property
    def table_size(self) -> int:
        """Entries of all position tables."""
        return sum(table.size for table in self.tokens.positions)

    def functional(self, u: Array) -> Functional:
        """[b, C, R] over dense channels → over content, outer and inner places."""
        content, by_table = _split(self.tokens, u)
        by_axis = [
            jnp.einsum("sp,bpr->bsr", jnp.asarray(table, u.dtype), part)
            for table, part in zip(self.tokens.positions, by_table, strict=True)
        ]
        outer, inner = by_axis[: self.first_inner], by_axis[self.first_inner :]
        return Functional(content, _outer_sum(outer) if outer else None, _outer_sum(inner))

    def elements(self, mask: Array | None, epsilon: float | None) -> Elements:
        """The tokens in rows, with a mask [B, M]; normed where an epsilon is given."""
        content, tables = self.tokens.content, self.tokens.positions
        inner = math.prod(self.tokens.grid[self.first_inner :])
        rows = (len(content), self.tokens.num_tokens // inner, inner)
        norm = None
        if epsilon is not None:
            outer_tables, inner_tables = tables[: self.first_inner], tables[self.first_inner :]
            norm = Norm(
                outer=_moments(outer_tables) if outer_tables else None,
                inner=_moments(inner_tables),
                num_outer=sum(table.shape[-1] for table in outer_tables),
                num_inner=sum(table.shape[-1] for table in inner_tables),
                epsilon=epsilon,
            )
        return Elements(
            content=content.reshape(*rows, content.shape[-1]),
            shared=None,
            norm=norm,
            mask=None if mask is None else mask.reshape(rows),
        )

    def channels(self, sums: Functional) -> Array:
        """Weighted sums → [B, C, R] over dense channels."""
        by_axis = []
        for place, sizes in (
            (sums.outer, self.tokens.grid[: self.first_inner]),
            (sums.inner, self.tokens.grid[self.first_inner :]),
        ):
            if place is not None:
                spread = place.reshape(len(place), *sizes, -1)
                axes = set(range(1, len(sizes) + 1))
                by_axis += [spread.sum(tuple(axes - {axis})) for axis in axes]
        by_table = [
            jnp.einsum("sp,bsr->bpr", jnp.asarray(table, sums.features.dtype), part)
            for table, part in zip(self.tokens.positions, by_axis, strict=True)
        ]
        return _join(self.tokens, sums.features, by_table)


@dataclasses.dataclass(frozen=True)
class LineLayout:
    """Tokens one after the other, positions (if any) as features.

    Attributes:
        tokens: as the adapter made them.
    """

    tokens: Tokens

    @property
    def num_features(self) -> int:
        """Numbers that a token is multiplied with, one by one."""
        return self.tokens.num_channels

    @property
    def table_size(self) -> int:
        """Entries of position tables beside the features: none."""
        return 0

    def functional(self, u: Array) -> Functional:
        """[b, C, R] over dense channels → over features, which they are."""
        return Functional(u, None, None)

    def elements(self, mask: Array | None, epsilon: float | None) -> Elements:
        """The tokens in rows, with a mask [B, M]; normed where an epsilon is given.

        The last row is filled up with masked tokens where no row length divides their number.
        """
        content, num_tokens = self.tokens.content, self.tokens.num_tokens
        if mask is None and num_tokens % _row_length(num_tokens):
            mask = jnp.ones((len(content), num_tokens), bool)
        positions = self.tokens.dense_positions()
        return Elements(
            content=_rows(content.reshape(len(content), num_tokens, content.shape[-1])),
            shared=None if positions is None else _rows(positions[None].astype(content.dtype))[0],
            norm=None if epsilon is None else Norm(None, None, 0, 0, epsilon),
            mask=None if mask is None else _rows(mask),
        )

    def channels(self, sums: Functional) -> Array:
        """Weighted sums → [B, C, R] over dense channels, which they are."""
        return sums.features


def _row_length(num_tokens: int) -> int:
    """Tokens in a row of a line: a divisor of their number, if there is one of about that size."""
    if num_tokens <= LINE_ROW:
        return num_tokens
    divisors = [n for n in range(LINE_ROW, LINE_ROW // 4, -1) if num_tokens % n == 0]
    return divisors[0] if divisors else LINE_ROW


def _rows(x: Array) -> Array:
    """[B, M, ...] → [B, rows, tokens of a row, ...], filled up with zeros."""
    num_tokens = x.shape[1]
    row = _row_length(num_tokens)
    missing = -num_tokens % row
    if missing:
        x = jnp.pad(x, [(0, missing if axis == 1 else 0) for axis in range(x.ndim)])
    return x.reshape(len(x), x.shape[1] // row, row, *x.shape[2:])


def _moments(tables: Sequence[Any]) -> Array:
    """Position tables of some axes → [product of sizes, 2] moments of all their entries at a place.

    These are the mean, and the sum of squared distances from it.
    """
    tables = [jnp.asarray(table) for table in tables]
    sizes = [table.shape[-1] for table in tables]
    means = [table.mean(-1, keepdims=True)[None] for table in tables]
    totals = [size * own for size, own in zip(sizes, means, strict=True)]
    mean = _outer_sum(totals) / sum(sizes)
    distances = jnp.zeros_like(mean)
    for axis, table in enumerate(tables):
        within = jnp.square(table - means[axis][0]).sum(-1, keepdims=True)[None]
        others = [jnp.zeros_like(own) for own in means]
        own, within = (
            _outer_sum([*others[:axis], x, *others[axis + 1 :]]) for x in (means[axis], within)
        )
        distances = distances + within + sizes[axis] * jnp.square(own - mean)
    return jnp.concatenate([mean, distances], axis=-1)[0]


def _outer_sum(by_axis: Sequence[Array]) -> Array:
    """[b, size, R] per axis → [b, product of sizes, R] sums of all combinations."""
    total, *others = by_axis
    for values in others:
        total = total[:, :, None] + values[:, None]
        total = total.reshape(len(total), -1, total.shape[-1])
    return total


def _split(tokens: Tokens, u: Array) -> tuple[Array, list[Array]]:
    """[b, C, R] dense channels → content [b, c, R], and [b, p, R] for each position table."""
    num_content = tokens.content.shape[-1]
    positions = u[:, num_content:]
    if tokens.order is not None:
        positions = positions[:, np.argsort(tokens.order)]
    ends = np.cumsum([table.shape[-1] for table in tokens.positions])[:-1]
    return u[:, :num_content], jnp.split(positions, ends, axis=1)


def _join(tokens: Tokens, content: Array, by_table: Sequence[Array]) -> Array:
    """Undoes `_split`."""
    positions = jnp.concatenate(by_table, axis=1)
    if tokens.order is not None:
        positions = positions[:, np.array(tokens.order)]
    return jnp.concatenate([content, positions], axis=1)
