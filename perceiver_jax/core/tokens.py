"""Tokens: what an input adapter hands to the encoder.

- The content keeps its grid and its positions stay axis by axis, so that an attention may use the
  structure; `dense()` is the definition that any such attention has to equal.
- Latents and output queries can be tokens as well, where more is to be said of them than an array
  says: moments in time, segments, a mask.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.typing import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """Input elements before they are flattened.

    Attributes:
        content: [B, *grid, c] features of each element; `[B, M, c]` is a grid of one axis. Elements
            that are nothing but their position have c = 0.
        positions: either empty or one table [size_k, p_k] per grid axis, concatenated to the
            content of every element according to where it stands on that axis.
        order: channel j of the concatenated position features is channel `order[j]` of the tables
            laid side by side; None: as they lie.
        mask: [B, M] bool, True = an element, False = padding; None where all are elements.
        times: [B or 1, M] moments, real numbers, for attentions that are turned by time; None where
            there are none.
        segments: [B or 1, M] integers, which of several examples packed into one row an element
            belongs to; attention stays within a segment. None: a row is one example.
    """

    content: Array
    positions: tuple[Array | np.ndarray, ...] = ()
    order: tuple[int, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    mask: Array | None = None
    times: Array | None = None
    segments: Array | None = None

    @classmethod
    def of(cls, x: "Array | Tokens") -> "Tokens":
        """Tokens as they are; an array [n, c] or [B, n, c] as tokens that are nothing else.

        Raises:
            ValueError: the array has another number of axes.
        """
        if isinstance(x, Tokens):
            return x
        x = jnp.asarray(x)
        if x.ndim not in (2, 3):
            raise ValueError(
                f"an array of shape {x.shape} is no set of tokens; give [elements, channels], or "
                "[B, elements, channels]"
            )
        return cls(content=x[None] if x.ndim == 2 else x)

    @property
    def grid(self) -> tuple[int, ...]:
        """Sizes of the grid axes."""
        return self.content.shape[1:-1]

    @property
    def num_tokens(self) -> int:
        """Elements M of an example."""
        return math.prod(self.grid)

    @property
    def num_channels(self) -> int:
        """Channels C of a dense element."""
        return self.content.shape[-1] + sum(table.shape[-1] for table in self.positions)

    @property
    def is_array(self) -> bool:
        """Whether the content says it all."""
        others = (self.mask, self.times, self.segments)
        return len(self.grid) == 1 and not self.positions and all(x is None for x in others)

    def dense_positions(self) -> Array | None:
        """[M, P] position features in the content's type, at least float32, or None.

        Raises:
            ValueError: the position tables do not fit the grid.
        """
        if not self.positions:
            return None
        sizes = tuple(len(table) for table in self.positions)
        if sizes != self.grid:
            raise ValueError(
                f"position tables of sizes {sizes} do not fit a content grid of {self.grid}; "
                "give one table per grid axis, as long as that axis"
            )
        columns = [(axis, i) for axis, t in enumerate(self.positions) for i in range(t.shape[-1])]
        order = range(len(columns)) if self.order is None else self.order
        features = [
            self._spread(axis, columns)
            for axis, columns in _contiguous([columns[i] for i in order])
        ]
        return jnp.concatenate(features, axis=-1).reshape(self.num_tokens, -1)

    def _spread(self, axis: int, columns: slice) -> Array:
        """[*grid, columns] part of an axis' table, repeated along the other axes."""
        # Features of high frequency would lose their meaning in bfloat16.
        dtype = jnp.promote_types(self.content.dtype, jnp.float32)
        table = jnp.asarray(self.positions[axis][:, columns], dtype)
        others = tuple(i for i in range(len(self.grid)) if i != axis)
        return jnp.broadcast_to(
            jnp.expand_dims(table, others), (*self.grid, columns.stop - columns.start)
        )

    def positions_at(self, indices: Array) -> Array | None:
        """[o, P] position features of the elements with these [o] row-major indices, or None."""
        if not self.positions:
            return None
        dtype = jnp.promote_types(self.content.dtype, jnp.float32)
        places = jnp.unravel_index(indices, self.grid)
        features = [
            jnp.asarray(table, dtype)[place]
            for table, place in zip(self.positions, places, strict=True)
        ]
        features = jnp.concatenate(features, axis=-1)
        return features if self.order is None else features[:, np.array(self.order)]

    def at(self, indices: Array) -> "Tokens":
        """Some elements of each example, positions written out.

        Args:
            indices: [b, o] row-major indices of elements, where b or B may be 1.

        Returns:
            Tokens of o elements with the channels of the dense ones, and their mask. Elements that
            do not exist, below 0 or beyond the last, are NaN.
        """
        others = (x for x in (self.mask, self.times, self.segments) if x is not None)
        batch = max(len(x) for x in (indices, self.content, *others))
        indices = jnp.broadcast_to(indices, (batch, indices.shape[1]))
        content = jnp.broadcast_to(self._line(), (batch, self.num_tokens, self.content.shape[-1]))
        parts = [jnp.take_along_axis(content, indices[:, :, None], axis=1)]
        positions = self.positions_at(indices.reshape(-1))
        if positions is not None:
            parts.append(positions.reshape(*indices.shape, -1))

        def taken(x):
            if x is None:
                return None
            return jnp.take_along_axis(
                jnp.broadcast_to(x, (batch, self.num_tokens)), indices, axis=1
            )

        inside = (indices >= 0) & (indices < self.num_tokens)
        return Tokens(
            content=jnp.where(inside[:, :, None], jnp.concatenate(parts, axis=-1), jnp.nan),
            mask=taken(self.mask),
            times=taken(self.times),
            segments=taken(self.segments),
        )

    def _line(self) -> Array:
        """[B, M, c] content."""
        return self.content.reshape(len(self.content), self.num_tokens, self.content.shape[-1])

    def dense(self) -> Array:
        """[B, M, C] elements in row-major order: content, then position features."""
        content = self._line()
        positions = self.dense_positions()
        if positions is None:
            return content
        positions = jnp.broadcast_to(positions, (content.shape[0], *positions.shape))
        return jnp.concatenate([content, positions], axis=-1)


def _contiguous(columns: list[tuple[int, int]]) -> list[tuple[int, slice]]:
    """Joins (axis, column) pairs that follow each other into (axis, slice) pieces."""
    pieces: list[tuple[int, slice]] = []
    for axis, column in columns:
        if pieces and pieces[-1][0] == axis and pieces[-1][1].stop == column:
            pieces[-1] = (axis, slice(pieces[-1][1].start, column + 1))
        else:
            pieces.append((axis, slice(column, column + 1)))
    return pieces
