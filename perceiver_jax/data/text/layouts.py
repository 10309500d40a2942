"""How documents become rows of tokens, one document after the other.

- Rows hold text and separators; [CLS] and [SEP] around a row are added when it is read.
"""

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class TokenKind(enum.IntEnum):
    """What a token is to whole-word masking."""

    CONTINUES_WORD = 0
    STARTS_WORD = 1
    SPECIAL = 2


class EncodedDocument(NamedTuple):
    """Tokens of a document: one or more."""

    ids: np.ndarray
    """[n] integers"""
    kinds: np.ndarray
    """[n] uint8, of `TokenKind`"""
    label: int | None
    target: tuple[float, ...] | None = None
    """probabilities of the classes"""

    def __getitem__(self, part: slice) -> "EncodedDocument":  # pyright: ignore
        return self._replace(ids=self.ids[part], kinds=self.kinds[part])


class RowWriter(Protocol):
    """Takes tokens in order, and where rows end among them."""

    num_tokens: int
    """taken so far"""

    def add(self, ids: np.ndarray, kinds: np.ndarray) -> None:
        """Appends tokens."""
        ...

    def end_rows(self, ends: Sequence[int] | np.ndarray) -> None:
        """Appends rows by the number of tokens up to the end of each."""
        ...

    def add_label(self, label: int) -> None:
        """Appends the label of a row."""
        ...

    def add_target(self, target: Sequence[float]) -> None:
        """Appends the probabilities of the classes of a row."""
        ...


Layout = Callable[[Iterable[EncodedDocument], RowWriter, int, int | None], None]
"""(documents, writer, tokens of a row, separator) to rows."""


def _joined(document: EncodedDocument, separator: int | None) -> EncodedDocument:
    """The document with a separator behind it."""
    if separator is None:
        return document
    ids = np.append(document.ids, np.asarray(separator, document.ids.dtype))
    kinds = np.append(document.kinds, np.uint8(TokenKind.SPECIAL))
    return document._replace(ids=ids, kinds=kinds)


def chunks(
    documents: Iterable[EncodedDocument],
    writer: RowWriter,
    length: int,
    separator: int | None,
) -> None:
    """All documents joined and cut every `length` tokens: a row goes on where the last one ended.

    The remainder at the very end is no row, unless it is all there is.

    Differs: krasserm joins 1,000 documents at a time and drops the remainder of each batch.
    """
    for document in documents:
        document = _joined(document, separator)
        writer.add(document.ids, document.kinds)
    total = writer.num_tokens
    if total >= length:
        writer.end_rows(np.arange(length, total + 1, length))
    elif total:
        writer.end_rows([total])


_MAX_OPEN_ROWS = 64


def packed(
    documents: Iterable[EncodedDocument],
    writer: RowWriter,
    length: int,
    separator: int | None,
) -> None:
    """Whole documents, each in the first of the open rows that has room for it.

    A document longer than a row is cut into rows, and its remainder packed like a document. The
    separator ends each document, where the row has room left for it. Rows are written when they are
    full, the fullest when more than 64 are open, and the rest at the end.
    """
    rows: list[list[EncodedDocument]] = []
    filled: list[int] = []

    def close(index: int) -> None:
        for piece in rows.pop(index):
            writer.add(piece.ids, piece.kinds)
        filled.pop(index)
        writer.end_rows([writer.num_tokens])

    for document in documents:
        document = _joined(document, separator)
        for start in range(0, len(document.ids), length):
            piece = document[start : start + length]
            if len(piece.ids) == 1 and start:
                continue  # a separator alone, behind a row that the document fills
            room = (i for i, used in enumerate(filled) if used + len(piece.ids) <= length)
            index = next(room, len(rows))
            if index == len(rows):
                rows.append([])
                filled.append(0)
            rows[index].append(piece)
            filled[index] += len(piece.ids)
            if filled[index] == length:
                close(index)
        if len(rows) > _MAX_OPEN_ROWS:
            close(int(np.argmax(filled)))
    while rows:
        close(0)


def one_per_row(
    documents: Iterable[EncodedDocument],
    writer: RowWriter,
    length: int,
    separator: int | None,
) -> None:
    """A document to a row; what goes beyond `length` tokens is cut off at the end."""
    del separator
    for document in documents:
        cut = document[:length]
        writer.add(cut.ids, cut.kinds)
        writer.end_rows([writer.num_tokens])
        if cut.label is not None:
            writer.add_label(cut.label)
        if cut.target is not None:
            writer.add_target(cut.target)


LAYOUTS: dict[str, Layout] = {"chunks": chunks, "packed": packed, "documents": one_per_row}
"""By the name that `TextDataConfig.layout` has for them."""
