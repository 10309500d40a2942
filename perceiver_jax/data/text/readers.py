"""Reading text files: .txt, .jsonl, both also gzipped, and .parquet; those of C4 and WikiText.

- C4 calls its gzipped JSON lines .json.gz. WikiText has the files wiki.train.tokens and so on.
- A record is a mapping; the fields that are asked for are in it as the file has them.
- Text is UTF-8. What is not is an error that says where, or becomes U+FFFD.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import how_to_install

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json.gz", ".parquet")
_WIKITEXT = re.compile(r"wiki\.(train|valid|test)\.(tokens|raw)")
_TITLE = re.compile(r" = [^=](.*[^=])? = ")
"""of an article of WikiText; those of its sections have more equality signs"""
Record = Mapping[str, Any]
Errors = Literal["strict", "replace"]
_PARQUET_ERRORS = (OSError, ValueError, NotImplementedError)
"""Bases of pyarrow's errors for files that are damaged, or of a kind that it does not know."""


def wikitext_split(path: Path) -> str | None:
    """The split that a file of WikiText is, by its name; None for other files."""
    match = _WIKITEXT.fullmatch(path.name)
    return match and match[1]


def suffix(path: Path) -> str | None:
    """The one of `SUFFIXES` that a file's name ends in, or the end of that of a WikiText file."""
    if wikitext_split(path):
        return path.suffix
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)


def digest(path: Path) -> str:
    """SHA-256 of what is in a file, in hexadecimal digits.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def whole_text(path: Path, errors: Errors) -> str:
    """All of a text file.

    Raises:
        DatasetError: it cannot be read or decoded.
    """
    with _opened(path) as file:
        return decoded(_guarded(file.read, path), errors, f"{path}, at byte", 0).removeprefix(
            "\ufeff"
        )


def lines(path: Path, errors: Errors) -> Iterator[str]:
    """Lines of a text file, without the line feed, or return and line feed, that ends them.

    Raises:
        DatasetError: it cannot be read or decoded.
    """
    offset = 0
    with _opened(path) as file:
        while line := _guarded(file.readline, path):
            text = decoded(line, errors, f"{path}, at byte", offset)
            if not offset:
                text = text.removeprefix("\ufeff")
            offset += len(line)
            yield text.removesuffix("\n").removesuffix("\r")


def articles(path: Path, errors: Errors) -> Iterator[str]:
    """Articles of a WikiText file, each from its title on; together they are the whole file.

    Raises:
        DatasetError: it cannot be read or decoded.
    """
    found: list[str] = []
    after_blank = True
    for line in lines(path, errors):
        if after_blank and _TITLE.fullmatch(line) and any(map(str.strip, found)):
            yield "".join(found)
            found = []
        found.append(f"{line}\n")
        after_blank = not line.strip()
    if found:
        yield "".join(found)


def text_lines(text: str) -> list[str]:
    """Lines of a text, divided like those of a file by `lines`: at line feeds alone.

    A byte order mark at its beginning is left out.

    Differs: `str.splitlines` also divides at form feeds, U+2028 and others, which texts hold.
    """
    found = text.removeprefix("\ufeff").split("\n")
    if not found[-1]:  # a line feed ends a line, and begins none
        found.pop()
    return [line.removesuffix("\r") for line in found]


def json_records(path: Path, errors: Errors) -> Iterator[Record]:
    """The object on each line of a .jsonl file; empty lines are left out.

    Raises:
        DatasetError: it cannot be read or decoded, or a line is no JSON object.
    """
    for number, line in enumerate(lines(path, errors), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"{path}, line {number}, is not valid JSON ({error}); correct it or take it away"
            ) from error
        if not isinstance(record, dict):
            raise DatasetError(
                f"{path}, line {number}, is not a JSON object; write each record as "
                '{"text": "…"}, in a line of its own'
            )
        yield record


def parquet_records(path: Path, fields: tuple[str, ...], errors: Errors) -> Iterator[Record]:
    """Rows of a .parquet file, with those of the fields that it has.

    Raises:
        DatasetError: it cannot be read or decoded, or the package pyarrow is not installed.
    """
    file = _parquet_file(path)
    names = [name for name in fields if name in file.schema_arrow.names]
    first = 1
    for batch in _batches(file, names, path):
        columns = [
            _values(batch.column(name), errors, f"{path}, record", first, f"field '{name}',")
            for name in names
        ]
        for i in range(batch.num_rows):
            yield {name: column[i] for name, column in zip(names, columns, strict=True)}
        first += batch.num_rows


def _batches(file: Any, names: list[str], path: Path) -> Iterator[Any]:
    try:
        yield from file.iter_batches(batch_size=1024, columns=names)
    except _PARQUET_ERRORS as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _values(column: Any, errors: Errors, where: str, first: int, field: str) -> list[Any]:
    """Values of a column of which the first is of record `first`."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        pass  # pyarrow decodes strictly: whether that is an error, and of which record, is our say
    except _PARQUET_ERRORS as error:
        raise DatasetError(f"{where}s from {first}, {field} cannot be read: {error}") from error
    try:
        encoded = column.cast("binary").to_pylist()
    except _PARQUET_ERRORS as error:
        raise DatasetError(
            f"{where}s from {first}, {field} hold text that is not UTF-8 inside of "
            f"{column.type}; convert the file"
        ) from error
    return [
        value if value is None else decoded(value, errors, f"{where} {number}, {field}")
        for number, value in enumerate(encoded, first)
    ]


def num_parquet_records(path: Path) -> int:
    """Rows of a .parquet file, as its end says.

    Raises:
        DatasetError: it cannot be read, or the package pyarrow is not installed.
    """
    return _parquet_file(path).metadata.num_rows


def parquet_fields(path: Path) -> list[str]:
    """Names of the columns of a .parquet file.

    Raises:
        DatasetError: it cannot be read, or the package pyarrow is not installed.
    """
    return _parquet_file(path).schema_arrow.names


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DatasetError(
            f"{path} needs the package pyarrow, which is not installed; {how_to_install('text')}"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except _PARQUET_ERRORS as error:
        raise DatasetError(f"{path} cannot be read as parquet: {error}") from error


def decoded(text: bytes, errors: Errors, where: str, offset: int | None = None) -> str:
    """Bytes as text.

    Args:
        text: UTF-8.
        errors: what to do where it is not.
        where: for the error message.
        offset: of the bytes in `where`, added to the message.

    Raises:
        DatasetError: it is not UTF-8, and errors are strict.
    """
    try:
        return text.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        at = where if offset is None else f"{where} {offset + error.start}"
        raise DatasetError(
            f"{at}: 0x{text[error.start]:02x} is not UTF-8 ({error.reason}); convert the file, or "
            "set --config.data.encoding_errors=replace"
        ) from error


def without_surrogates(text: str, errors: Errors, where: str) -> str:
    """The text, if it can be written as UTF-8: halves of characters, as JSON may have, cannot.

    Raises:
        DatasetError: it has some, and errors are strict.
    """
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError as error:
        if errors == "replace":
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        raise DatasetError(
            f"{where} has {text[error.start]!r}, half of a character, which is not UTF-8; mend "
            "the file, or set --config.data.encoding_errors=replace"
        ) from error


def _opened(path: Path) -> IO[bytes]:
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # type: ignore
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def _guarded(read: Any, path: Path) -> bytes:
    try:
        return read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
