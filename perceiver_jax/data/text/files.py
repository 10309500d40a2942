"""Documents in files of one's own: text, JSON lines and parquet.

- A split is a subfolder or the start of a file's name: `train/…`, `train.txt`,
  `train-00000-of-00002.parquet`. 'all' is every file, in the order of their paths.
- `c4-train.00000-of-01024.json.gz` is in 'c4-train'. WikiText's `wiki.train.tokens`, or `.raw`, is
  in 'train', and each of its articles is a document.
- A slice in percent is a part of a split's documents: 'all[:90%]', 'all[90%:]'. Where there is but
  one document it is a part of its text.
- Labels are integers from 0, also written as 1.0, where negative ones mean "none"; or texts, whose
  classes are sorted, numbers among them by their value. Classes are those of all files, so that all
  splits agree on them.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text import readers
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import Document
from perceiver_jax.data.text.file_splits import Split, find_files, of_split
from perceiver_jax.data.text.readers import Record

_MAX_CLASSES = 2**16
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class FileDocuments:
    """Documents of files, one after the other; each is in memory as a whole.

    Args:
        path: a file, a folder, which is searched with its subfolders, or a pattern with `*`.
        split: see the module.
        config: fields, and how texts are read.
        labels: whether documents have labels, and those without one are left out.

    Raises:
        DatasetError: there are no such files, or none of the split.
    """

    def __init__(self, path: str, split: str, config: TextDataConfig, *, labels: bool):
        self._path, self._config, self._labels = path, config, labels
        self._split = Split.parse(split)
        self._root, self._files = find_files(path)
        self._chosen = of_split(self._files, self._root, self._split.name)

    @property
    def fingerprint(self) -> str:
        """See `Documents`; files are read for this: equal names, sizes and times prove nothing.

        Raises:
            DatasetError: a file cannot be read.
        """
        config = self._config
        fields = (config.text_field, config.label_field, config.document_per_line)
        split = dataclasses.asdict(self._split)
        # Classes are those of all files.
        files = self._files if self._labels else self._chosen
        return fingerprint(
            *("files", 2, split, fields, config.encoding_errors, self._labels),
            [(file.relative_to(self._root).as_posix(), readers.digest(file)) for file in files],
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of all files, which are read for this.

        Raises:
            DatasetError: labels are neither all integers nor all texts.
        """
        return self._class_names

    @functools.cached_property
    def _class_names(self) -> tuple[str, ...]:
        name = self._config.label_field
        found = {
            _label(record, name)
            for file in self._files
            for _, record in self._records(file, (name,))
        }
        found.discard(None)
        names = [label for label in found if isinstance(label, str)]
        if len(names) == len(found):
            return tuple(sorted(names, key=_place))
        if all(isinstance(label, int) and label < _MAX_CLASSES for label in found):
            return tuple(str(i) for i in range(max(found) + 1))  # pyright: ignore
        shown = ", ".join(sorted(repr(label) for label in found)[:5])
        raise DatasetError(
            f"field '{name}' of 'files:{self._path}' has the values {shown}, …; labels must be "
            f"all texts, or all integers from 0 to {_MAX_CLASSES - 1}; name another "
            "--config.data.label_field"
        )

    def __iter__(self) -> Iterator[Document]:
        documents = self._sliced()
        return (x for x in documents if x.label is not None) if self._labels else documents

    @property
    def num_parts(self) -> int:
        """See `DividedDocuments`: the files of a split, unless it is a slice."""
        return len(self._chosen) if self._split.whole else 1

    def part(self, index: int, start: int) -> Iterator[Document]:
        """See `DividedDocuments`; without labels, as those are what documents are left out by."""
        if not self._split.whole:
            return itertools.islice(self, start, None)
        file = self._chosen[index]
        records = itertools.islice(self._records(file, self._fields), start, None)
        return (self._document(file, number, record) for number, record in records)

    def _sliced(self) -> Iterator[Document]:
        documents = (
            self._document(file, number, record)
            for file in self._chosen
            for number, record in self._records(file, self._fields)
        )
        if self._split.whole:
            return documents
        count = sum(map(self._count, self._chosen))
        if count == 1:
            return map(self._cut, documents)
        return itertools.islice(documents, *self._split.part(count))

    def _cut(self, document: Document) -> Document:
        start, stop = self._split.part(len(document.text))
        return Document(document.text[start:stop], document.label)

    @property
    def _fields(self) -> tuple[str, ...]:
        label = (self._config.label_field,) if self._labels else ()
        return (self._config.text_field, *label)

    def _records(self, file: Path, fields: tuple[str, ...]) -> Iterator[tuple[int, Record]]:
        """Records with their number in the file, from 1."""
        kind, errors = readers.suffix(file) or "", self._config.encoding_errors
        if kind == ".parquet":
            records = readers.parquet_records(file, fields, errors)
        elif kind.startswith(".json"):
            records = readers.json_records(file, errors)
        else:
            records = ({self._config.text_field: text} for text in self._texts(file))
        return enumerate(records, 1)

    def _texts(self, file: Path) -> Iterator[str]:
        if self._config.document_per_line:
            return readers.lines(file, self._config.encoding_errors)
        if readers.wikitext_split(file):
            return readers.articles(file, self._config.encoding_errors)
        return iter([readers.whole_text(file, self._config.encoding_errors)])

    def _count(self, file: Path) -> int:
        kind = readers.suffix(file) or ""
        if kind == ".parquet":
            return readers.num_parquet_records(file)
        if kind.startswith(".txt") and not self._config.document_per_line:
            return 1
        return sum(1 for _ in self._records(file, ()))

    def _document(self, file: Path, number: int, record: Record) -> Document:
        name = self._config.text_field
        if name not in record:
            raise DatasetError(
                f"{file}, record {number}, has no field '{name}'; it has {_known(file, record)}; "
                "name the field of the text with --config.data.text_field"
            )
        text, errors = record[name], self._config.encoding_errors
        where = f"{file}, record {number}, field '{name}',"
        if text is None:
            text = ""
        elif isinstance(text, bytes):
            text = readers.decoded(text, errors, where)
        elif not isinstance(text, str):
            raise DatasetError(f"{where} holds {type(text).__name__}; expected text")
        text = readers.without_surrogates(text, errors, where)
        return Document(text, self._number_of(record) if self._labels else None)

    def _number_of(self, record: Record) -> int | None:
        label = _label(record, self._config.label_field)
        return self._class_numbers[label] if isinstance(label, str) else label

    @functools.cached_property
    def _class_numbers(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.class_names)}


def _label(record: Record, name: str) -> int | str | None:
    """The label of a record; None where it has none.

    Raises:
        DatasetError: it is of another type.
    """
    label = record.get(name)
    # What columns of integers become where some rows have none.
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, int):
        return None if label < 0 else int(label)
    if label is None or isinstance(label, str):
        return label
    raise DatasetError(
        f"field '{name}' holds {label!r}; labels must be integers from 0, or texts; name another "
        "--config.data.label_field"
    )


def _place(name: str) -> tuple[bool, float, str]:
    """Where a class stands among others: numbers by their value, '2' before '10', then texts."""
    number = _NUMBER.fullmatch(name) is not None
    return not number, float(name) if number else 0.0, name


def _known(file: Path, record: Record) -> str:
    if readers.suffix(file) == ".parquet":
        return ", ".join(readers.parquet_fields(file))
    return ", ".join(record) or "none"
