"""Training batches of text that is too large to prepare: tokenised as they are read, without end.

- Documents are read in order and joined with separators; a row begins where the last one ended,
  also from one epoch to the next. Rows are shuffled within a window, which is filled anew when it
  is empty.
- A process reads its own parts of the text, files for example; where there are fewer of them than
  processes, its own documents of each.
- Exactly resumable: the state says where, in tokens of a document, the window's first row begins.
  What is read anew is the rest of that part of the text, up to there, and the window.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np

from perceiver_jax.data.causal_rows import causal_row
from perceiver_jax.data.pipeline import Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.batches import open_tokenizer
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import DividedDocuments, Document, Documents, open_documents
from perceiver_jax.data.text.rows import Framing
from perceiver_jax.data.text.tokenizers import Tokenizer, required_token

_MAX_DOCUMENTS, _MAX_CHARACTERS = 64, 2**18
"""Given to the tokenizer at once; one long document may have more."""


def streamed_batches(config: TextDataConfig, *, seed: int, shard: Shard) -> grain.IterDataset:
    """Training batches for causal models, see `causal`; a function of the seed and the shard.

    The seed decides the order within windows and, with `random_min_seq_len`, the lengths of rows.

    Raises:
        DatasetError: the dataset is not there, or not what the config says.
        TokenizerError: the tokenizer lacks a token that is needed.

    Source: krasserm `C4DataModule`.
    Differs: there documents are joined 16 at a time, and what remains of these is lost.
    """
    framing = Framing.of(config, open_tokenizer(config))
    rows: grain.IterDataset = _TokenRows(config, seed, shard)
    if config.shuffle_window > 1:
        rows = grain.experimental.WindowShuffleIterDataset(
            rows, window_size=config.shuffle_window, seed=seed
        )

    def framed(ids: np.ndarray) -> dict[str, np.ndarray]:
        return causal_row(framing.wrap_ids(ids), length=framing.length, pad_id=framing.pad_id)

    return rows.map(framed).batch(shard.batch_size(config.batch_size), drop_remainder=True)


class _Place(NamedTuple):
    """A document."""

    epoch: int
    part: int
    """index among all parts"""
    number: int
    """in the part"""


class _TokenRows(grain.IterDataset):
    """Rows of tokens [n] of a split, n one more than a model reads, or less at random."""

    def __init__(self, config: TextDataConfig, seed: int, shard: Shard):
        super().__init__()
        self._config, self._seed, self._shard = config, seed, shard
        self._tokenizer = open_tokenizer(config)
        self._separator = np.zeros(0, np.int32)
        if config.separator != "none":
            purpose = f"separator='{config.separator}' of a stream"
            self._separator = np.array(
                [required_token(self._tokenizer, config.separator, purpose)], np.int32
            )
        self._documents = _ShardOfDocuments(
            open_documents(config, config.train_split),
            shard,
            f"split '{config.train_split}' of '{config.dataset}'",
        )

    def __iter__(self) -> "_TokenRowsIterator":
        more = 1 - self._config.num_wrapping_tokens
        most, least = self._config.max_seq_len, self._config.random_min_seq_len
        return _TokenRowsIterator(
            _Lengths(most + more, None if least is None else least + more, self._seed, self._shard),
            _EncodedDocuments(self._documents, self._tokenizer, self._separator),
        )

    def __str__(self) -> str:
        return f"rows of {self._config.dataset}"


class _TokenRowsIterator(grain.DatasetIterator):
    """See `_TokenRows`."""

    def __init__(self, lengths: "_Lengths", documents: "_EncodedDocuments"):
        super().__init__()
        self._lengths, self._documents = lengths, documents
        self._begin(_Place(0, 0, 0), token=0, row=0)

    def _begin(self, place: _Place, *, token: int, row: int) -> None:
        self._place, self._token, self._row = place, token, row
        self._coming = self._documents.since(place)
        # What is read and not yet in a row; of the first document, from `_token` on.
        self._held: collections.deque[tuple[_Place, np.ndarray]] = collections.deque()
        self._num_held = -token

    def __next__(self) -> np.ndarray:
        length = self._lengths.of(self._row)
        while self._num_held < length:
            place, ids = next(self._coming)
            self._held.append((place, ids))
            self._num_held += len(ids)
        pieces, missing = [], length
        while missing:
            self._place, ids = self._held[0]
            piece = ids[self._token : self._token + missing]
            pieces.append(piece)
            missing -= len(piece)
            self._token += len(piece)
            if missing:
                self._held.popleft()
                self._token = 0
        self._num_held -= length
        self._row += 1
        return np.concatenate(pieces)

    def get_state(self) -> dict[str, Any]:
        """Where the next row begins, and its number; fit for JSON."""
        return {**self._place._asdict(), "token": self._token, "row": self._row}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        place = _Place(*(state[name] for name in _Place._fields))
        self._begin(place, token=state["token"], row=state["row"])


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """How many tokens a row has, by its number."""

    most: int
    least: int | None
    seed: int
    shard: Shard

    def of(self, row: int) -> int:
        if self.least is None:
            return self.most
        rng = np.random.default_rng((self.seed, self.shard.index, row))
        return int(rng.integers(self.least, self.most + 1))


@dataclasses.dataclass(frozen=True)
class _ShardOfDocuments:
    """Those of the documents that a process reads, without end.

    Attributes:
        documents: of all processes.
        shard: which process.
        what: name of the documents, for messages.
    """

    documents: Documents
    shard: Shard
    what: str

    def since(self, place: _Place) -> Iterator[tuple[_Place, str]]:
        """The documents from a place on; those without text are left out.

        Raises:
            DatasetError: there is no text, or it cannot be read.
        """
        for epoch in itertools.count(place.epoch):
            first = place if epoch == place.epoch else _Place(epoch, 0, 0)
            found = False
            for there, document in self._epoch(first):
                if document.text and not document.text.isspace():
                    found = True
                    yield there, document.text
            if not found and first == (epoch, 0, 0):
                raise DatasetError(
                    f"{self.what} has no text for process {self.shard.index} of "
                    f"{self.shard.count}; choose another split, other files or fewer processes"
                )

    def _epoch(self, first: _Place) -> Iterator[tuple[_Place, Document]]:
        index, count = self.shard.index, self.shard.count
        documents, num_parts = self.documents, 1
        if isinstance(documents, DividedDocuments):
            num_parts = documents.num_parts
        by_parts = num_parts >= count
        for part in range(index if by_parts else 0, num_parts, count if by_parts else 1):
            if part < first.part:
                continue
            start = first.number if part == first.part else 0
            for number, document in enumerate(self._part(part, start), start):
                if by_parts or number % count == index:
                    yield _Place(first.epoch, part, number), document

    def _part(self, part: int, start: int) -> Iterator[Document]:
        if isinstance(self.documents, DividedDocuments):
            return self.documents.part(part, start)
        return itertools.islice(self.documents, start, None)


@dataclasses.dataclass(frozen=True, eq=False)
class _EncodedDocuments:
    """The same documents as tokens, [n] int32 with the separator behind them."""

    documents: _ShardOfDocuments
    tokenizer: Tokenizer
    separator: np.ndarray

    def since(self, place: _Place) -> Iterator[tuple[_Place, np.ndarray]]:
        for batch in _batched(self.documents.since(place)):
            places, texts = zip(*batch, strict=True)
            encoded = self.tokenizer.encode_words(texts)
            for there, (ids, _) in zip(places, encoded, strict=True):
                if len(ids):
                    yield there, np.concatenate([ids, self.separator])


def _batched(documents: Iterator[tuple[_Place, str]]) -> Iterator[list[tuple[_Place, str]]]:
    batch, characters = [], 0
    for place, text in documents:
        batch.append((place, text))
        characters += len(text)
        if len(batch) == _MAX_DOCUMENTS or characters >= _MAX_CHARACTERS:
            yield batch
            batch, characters = [], 0
