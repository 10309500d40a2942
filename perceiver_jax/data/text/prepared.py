"""Rows of tokens on disk: made once of documents, then read through a memory map.

- A folder per combination of documents, tokenizer, layout and lengths: `about.json` and flat files.
- A folder is written under a temporary name and renamed when it is whole. Processes that prepare
  the same at once each write their own, and the first to end is kept. What a killed one left is
  removed when the same is prepared a day later.
"""

import dataclasses
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich.status import Status

from perceiver_jax.command import make_console
from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.documents import Document, Documents
from perceiver_jax.data.text.layouts import LAYOUTS, EncodedDocument, TokenKind
from perceiver_jax.data.text.tokenizers import Tokenizer

FORMAT_VERSION = 4
_MAX_DOCUMENTS, _MAX_CHARACTERS = 256, 2**20
"""Given to the tokenizer at once; one long document may have more."""
_ABANDONED = 24 * 3600.0
"""Seconds without a write after which a preparation counts as killed."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What rows are made of.

    Attributes:
        layout: a key of `LAYOUTS`.
        length: tokens of a row, at most.
        separator_id: ends a document inside a row; None: nothing does.
        labels: whether each row has a label.
    """

    layout: str
    length: int
    separator_id: int | None
    labels: bool


class PreparedRows:
    """Rows by index, out of files.

    Args:
        folder: what `prepare` made.

    Attributes:
        class_names: none where rows have no labels.
        cut: what fraction of the documents' tokens is in no row, as these were too long for one.
        labels: [rows] int32, or none.
        targets: [rows, classes] float32 probabilities of the classes, or none.

    Raises:
        DatasetError: files are missing, or of another length than when they were written.
    """

    def __init__(self, folder: Path):
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            self.class_names: tuple[str, ...] = tuple(about["class_names"])
            self.cut: float = about["cut"]
            self.offsets, self.ids, self.kinds, self.labels, targets = (
                _mapped(folder / name, about[name]["dtype"], about[name]["length"])
                for name in ("offsets", "ids", "kinds", "labels", "targets")
            )
            self.targets = targets.reshape(-1, max(1, len(self.class_names)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"the prepared rows in {folder} are damaged ({error}); delete that folder, and "
                "they are made again"
            ) from error

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int, *, beyond: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a row.

        Args:
            index: which one.
            beyond: how many of the tokens that follow come along, as far as there are any.

        Returns:
            Ids and kinds, both [n].
        """
        part = slice(self.offsets[index], self.offsets[index + 1] + beyond)
        return self.ids[part], self.kinds[part]


def _mapped(path: Path, dtype: str, length: int) -> np.ndarray:
    kind = np.dtype(dtype)
    if path.stat().st_size != length * kind.itemsize:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    if not length:  # nothing cannot be mapped
        return np.zeros(0, kind)
    # A plain array on top of the map: slices of np.memmap are slow.
    return np.asarray(np.memmap(path, kind, mode="r", shape=(length,)))


def prepare(
    documents: Documents, tokenizer: Tokenizer, plan: Plan, *, into: Path, what: str
) -> Path:
    """Writes rows, unless they are there already.

    Args:
        documents: where text comes from.
        tokenizer: divides it.
        plan: how rows are made.
        into: folder that prepared folders lie in.
        what: name of the documents, for messages.

    Returns:
        The folder to open with `PreparedRows`.

    Raises:
        DatasetError: there is no text, or the folder cannot be written.
    """
    key = fingerprint(
        FORMAT_VERSION, documents.fingerprint, tokenizer.fingerprint, dataclasses.asdict(plan)
    )
    folder = into / key[:32]
    if (folder / "about.json").is_file():
        return folder
    print(f"preparing {what} in {folder}", file=sys.stderr)
    temporary = into / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        _remove_abandoned(into, folder.name)
        temporary.mkdir(parents=True)
        with make_console(stderr=True).status("") as status:
            _write(documents, tokenizer, plan, temporary, what, status)
        _publish(temporary, folder)
    except OSError as error:
        raise DatasetError(
            f"rows of {what} cannot be written to {into}: {error}; choose another folder with "
            "--config.data.cache_dir"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _remove_abandoned(into: Path, name: str) -> None:
    for left in into.glob(f".{name}-*"):
        try:
            # A folder's own time does not change while its files grow.
            written = max(path.stat().st_mtime for path in (left, *left.iterdir()))
        except OSError:
            continue  # another process removes or publishes it
        if time.time() - written > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)
    except OSError:
        if not (folder / "about.json").is_file():  # else another process was faster
            raise


def _write(
    documents: Documents,
    tokenizer: Tokenizer,
    plan: Plan,
    folder: Path,
    what: str,
    status: Status,
) -> None:
    with _FlatFiles(folder, _id_dtype(tokenizer)) as files:
        counts = _Counts()
        encoded = _encoded(documents, tokenizer, counts)
        shown = _shown(encoded, counts, status, what)
        LAYOUTS[plan.layout](shown, files, plan.length, plan.separator_id)
        if counts.empty:
            print(f"left out {counts.empty:,} empty documents of {what}", file=sys.stderr)
        if not files.lengths["offsets"] - 1:
            kind = "text with a label" if plan.labels else "text"
            raise DatasetError(f"{what} has no {kind}; choose another split or other files")
    cut = 1 - files.num_tokens / counts.tokens if plan.layout == "documents" else 0.0
    files.describe(documents.class_names if plan.labels else (), cut)


def _id_dtype(tokenizer: Tokenizer) -> np.dtype:
    return np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<i4")


@dataclasses.dataclass
class _Counts:
    documents: int = 0
    empty: int = 0
    tokens: int = 0


def _encoded(
    documents: Iterable[Document], tokenizer: Tokenizer, counts: _Counts
) -> Iterator[EncodedDocument]:
    """Documents as tokens; those without any are counted and left out.

    Special tokens that a text becomes, such as that of unknown characters, are no part of words.
    """
    special = np.zeros(tokenizer.vocab_size, bool)
    special[list(tokenizer.special_ids)] = True
    for batch in _batched(documents):
        encoded = tokenizer.encode_words([document.text for document in batch])
        for document, (ids, starts_word) in zip(batch, encoded, strict=True):
            counts.documents += 1
            if not len(ids) or document.text.isspace():
                counts.empty += 1
                continue
            counts.tokens += len(ids)
            kinds = np.where(special[ids], TokenKind.SPECIAL, starts_word).astype(np.uint8)
            yield EncodedDocument(ids, kinds, document.label, document.target)


def _batched(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch, characters = [], 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == _MAX_DOCUMENTS or characters >= _MAX_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _shown(
    documents: Iterable[EncodedDocument], counts: _Counts, status: Status, what: str
) -> Iterator[EncodedDocument]:
    """The same documents, with their number on the terminal."""
    for number, document in enumerate(documents):
        if number % _MAX_DOCUMENTS == 0:
            status.update(f"{what}: {counts.documents:,} documents")
        yield document


class _FlatFiles:
    """Arrays that grow on disk; a `RowWriter`."""

    def __init__(self, folder: Path, id_dtype: np.dtype):
        self._folder = folder
        self._dtypes = {
            "ids": id_dtype,
            "kinds": np.dtype("u1"),
            "offsets": np.dtype("<i8"),
            "labels": np.dtype("<i4"),
            "targets": np.dtype("<f4"),
        }
        self._files: dict[str, BinaryIO] = {}
        self.lengths = dict.fromkeys(self._dtypes, 0)
        self.num_tokens = 0

    def __enter__(self) -> "_FlatFiles":
        for name in self._dtypes:
            self._files[name] = open(self._folder / name, "wb", buffering=2**20)
        self._append("offsets", [0])
        return self

    def __exit__(self, *exception: Any) -> None:
        for file in self._files.values():
            file.close()

    def add(self, ids: np.ndarray, kinds: np.ndarray) -> None:
        self._append("ids", ids)
        self._append("kinds", kinds)
        self.num_tokens += len(ids)

    def end_rows(self, ends: Sequence[int] | np.ndarray) -> None:
        self._append("offsets", ends)

    def add_label(self, label: int) -> None:
        self._append("labels", [label])

    def add_target(self, target: Sequence[float]) -> None:
        self._append("targets", target)

    def _append(self, name: str, values: Any) -> None:
        array = np.asarray(values, self._dtypes[name])
        self._files[name].write(array.tobytes())
        self.lengths[name] += len(array)

    def describe(self, class_names: tuple[str, ...], cut: float) -> None:
        """Writes what `PreparedRows` reads first."""
        about: dict[str, Any] = {
            name: {"dtype": dtype.str, "length": self.lengths[name]}
            for name, dtype in self._dtypes.items()
        }
        about |= {"class_names": class_names, "cut": cut}
        text = json.dumps(about, indent=1)
        (self._folder / "about.json").write_text(text, encoding="utf-8")
