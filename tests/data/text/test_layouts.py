"""Layouts: where the tokens of documents come to lie in rows."""

import numpy as np
import pytest

from perceiver_jax.data.text import layouts
from perceiver_jax.data.text.layouts import LAYOUTS, EncodedDocument, TokenKind

SEP = 99


class Rows:
    """A row writer in memory."""

    def __init__(self):
        self.ids, self.kinds, self.ends, self.num_tokens = [], [], [0], 0
        self.labels, self.targets = [], []

    def add(self, ids, kinds):
        assert len(ids) == len(kinds)
        self.ids.extend(ids.tolist())
        self.kinds.extend(kinds.tolist())
        self.num_tokens = len(self.ids)

    def end_rows(self, ends):
        self.ends.extend(int(end) for end in ends)

    def add_label(self, label):
        self.labels.append(label)

    def add_target(self, target):
        self.targets.append(target)


def lay(layout, lengths, length, separator=SEP, labels=()):
    """Rows of documents of such lengths: the tokens of document i are 100 i, 100 i + 1, …"""
    documents = [
        EncodedDocument(
            np.arange(100 * i, 100 * i + n, dtype=np.int32),
            np.full(n, TokenKind.CONTINUES_WORD, np.uint8),
            labels[i - 1] if labels else None,
        )
        for i, n in enumerate(lengths, 1)
    ]
    writer = Rows()
    LAYOUTS[layout](documents, writer, length, separator)
    for id, kind in zip(writer.ids, writer.kinds, strict=True):
        assert (id == SEP) == (kind == TokenKind.SPECIAL)
    spans = zip(writer.ends, writer.ends[1:], strict=False)
    return [writer.ids[start:end] for start, end in spans], writer


def test_chunks_carry_on_across_documents():
    rows, _ = lay("chunks", [3, 6, 2], 4)
    assert rows == [[100, 101, 102, SEP], [200, 201, 202, 203], [204, 205, SEP, 300]]
    rows, _ = lay("chunks", [3, 6, 2], 4, separator=None)
    assert rows == [[100, 101, 102, 200], [201, 202, 203, 204]]


def test_chunks_keep_the_remainder_behind_the_last_row_on_file():
    _, writer = lay("chunks", [3, 6, 2], 4)
    assert writer.ids[writer.ends[-1] :] == [301, SEP]


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_remainder_is_a_row_where_it_is_all_there_is(length):
    got, _ = lay("chunks", [3], length, separator=None)
    assert got == [[100, 101, 102][:length]]


def test_packed_rows_hold_whole_documents_where_they_first_fit():
    rows, _ = lay("packed", [5, 4, 2, 1, 1], 8)
    assert rows == [
        [200, 201, 202, 203, SEP, 300, 301, SEP],  # full first
        [100, 101, 102, 103, 104, SEP, 400, SEP],
        [500, SEP],
    ]


def test_a_document_longer_than_a_row_is_cut_and_its_remainder_packed():
    rows, _ = lay("packed", [10, 2], 4)
    assert rows == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109, SEP], [200, 201, SEP]]


@pytest.mark.parametrize("length", [4, 8])
def test_a_document_that_fills_its_row_has_no_row_of_a_separator(length):
    rows, _ = lay("packed", [8], length)
    assert rows == [list(range(100, 108))[i : i + length] for i in range(0, 8, length)]


def test_the_fullest_row_is_closed_where_too_many_are_open(monkeypatch):
    monkeypatch.setattr(layouts, "_MAX_OPEN_ROWS", 1)
    rows, _ = lay("packed", [3, 5, 2], 8)
    assert rows == [
        [200, 201, 202, 203, 204, SEP],
        [100, 101, 102, SEP, 300, 301, SEP],
    ]


def test_packing_loses_nothing_and_overfills_nothing():
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    rows, _ = lay("packed", lengths, 50)
    assert max(map(len, rows)) <= 50
    tokens = sorted(id for row in rows for id in row if id != SEP)
    assert tokens == sorted(100 * i + j for i, n in enumerate(lengths, 1) for j in range(n))
    whole = [n for n in lengths if n < 50]
    assert len(whole) < 500
    for i, n in enumerate(lengths, 1):
        if n < 50:  # in one row, in order, with its separator
            document = [*range(100 * i, 100 * i + n), SEP]
            assert any(
                row[row.index(100 * i) :][: n + 1] == document for row in rows if 100 * i in row
            )
    assert len(rows) < 1.1 * sum(n + 1 for n in lengths) / 50


def test_documents_are_cut_at_the_end_and_keep_their_labels():
    rows, writer = lay("documents", [5, 2, 3], 3, labels=[1, 0, 2])
    assert rows == [[100, 101, 102], [200, 201], [300, 301, 302]]
    assert writer.labels == [1, 0, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_documents_are_no_rows(layout):
    assert lay(layout, [], 4)[0] == []
