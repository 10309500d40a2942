"""Examples of different lengths packed into rows of one length: less of a batch is padding.

- Segments say which example of its row an element belongs to; attention stays within a segment.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Packing:
    """Where examples lie in rows.

    Attributes:
        row: [E] row of each example.
        segment: [E] number of each example within its row, from 0.
        start: [E] first place of each example in its row.
        length: [E] elements of each example.
        row_length: elements M of a row.
    """

    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray
    length: np.ndarray
    row_length: int

    @property
    def num_rows(self) -> int:
        """Rows R."""
        return int(self.row.max()) + 1

    @property
    def num_segments(self) -> int:
        """Examples of a row at most, S."""
        return int(self.segment.max()) + 1

    @property
    def segments(self) -> np.ndarray:
        """[R, M] int32: the number of its example for every element, -1 for padding."""
        lengths = [np.full(n, s, np.int32) for n, s in zip(self.length, self.segment, strict=True)]
        return self.place(lengths, fill=-1)

    def place(self, examples: Sequence[np.ndarray], fill: float = 0) -> np.ndarray:
        """Something of each example, [length, ...], in rows [R, M, ...].

        Args:
            examples: arrays in the order of the lengths that were packed.
            fill: what padding holds.

        Raises:
            ValueError: arrays of other lengths than were packed.
        """
        lengths = [len(example) for example in examples]
        if lengths != self.length.tolist():
            raise ValueError(
                f"{len(lengths)} examples of lengths {lengths[:5]}… are not those that were "
                f"packed, {len(self.length)} of lengths {self.length[:5].tolist()}…"
            )
        shape = (self.num_rows, self.row_length, *np.shape(examples[0])[1:])
        rows = np.full(shape, fill, np.result_type(*examples))
        for example, row, start in zip(examples, self.row, self.start, strict=True):
            rows[row, start : start + len(example)] = example
        return rows

    def taken(self, rows: np.ndarray) -> np.ndarray:
        """[R, S, ...] of each segment → [E, ...] in the order of the examples.

        Raises:
            ValueError: the first axes are not rows and segments.
        """
        if rows.shape[:2] != (self.num_rows, self.num_segments):
            raise ValueError(
                f"an array of shape {tuple(rows.shape)} is not of {self.num_rows} rows and "
                f"{self.num_segments} segments; give [{self.num_rows}, {self.num_segments}, ...], "
                "as by reshaping latents that lie segment after segment"
            )
        return rows[self.row, self.segment]


def pack(lengths: Sequence[int], row_length: int) -> Packing:
    """Packs examples, longest first, each into the first row that has room.

    Args:
        lengths: elements of each example.
        row_length: elements M of a row.

    Raises:
        ValueError: no examples, an empty one, or one that is longer than a row.

    Time grows with the square of the examples: pack a corpus in pieces of some thousands.

    Source: first-fit decreasing (Johnson 1973), at most 11/9 of the fewest rows and one more.
    """
    if any(np.ndim(length) for length in lengths):
        raise ValueError("pack takes lengths of examples; give [len(example) for example in ...]")
    length = np.asarray(lengths, np.int64)
    if length.ndim != 1 or not len(length) or length.min() < 1 or length.max() > row_length:
        raise ValueError(
            f"lengths from {length.min() if length.size else 'nothing'} to "
            f"{length.max() if length.size else 'nothing'} cannot be packed into rows of "
            f"{row_length}; examples have 1 to {row_length} elements"
        )
    row, segment, start = (np.zeros(len(length), np.int64) for _ in range(3))
    used: list[int] = []
    held: list[int] = []
    for example in np.argsort(-length, kind="stable"):
        fits = (i for i, taken in enumerate(used) if taken + length[example] <= row_length)
        place = next(fits, len(used))
        if place == len(used):
            used.append(0)
            held.append(0)
        row[example], segment[example], start[example] = place, held[place], used[place]
        used[place] += int(length[example])
        held[place] += 1
    return Packing(row, segment, start, length, row_length)
