"""Files .ts, as the UEA and UCR archives have them: headers that start with @, then a case a line.

- A line is `1.0,2.0,?:3.0,4.0,5.0:label`: a dimension after the other, then the class.
- With timestamps it is `(0.5,1.0),(0.9,2.0):(0.5,3.0):label`; times are numbers or dates, days with
  dashes. What a dimension does not have at a time that another one has is missing; `?` is a
  dimension of which everything is.
- Of a folder, NAME_TRAIN.ts is the split 'train' and NAME_TEST.ts is 'test'.
- Series may have different lengths; dimensions of one may not, without timestamps.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.time_series.series import Series, SeriesSource, check_moments, moment, value

_BETWEEN_DIMENSIONS = re.compile(r":(?![^(]*\))")
"""A colon that is not the one of a time of day in brackets."""
_PAIR = re.compile(r"\(([^()]*),([^(),]*)\)\s*,?\s*")


@dataclasses.dataclass(frozen=True)
class Header:
    """What the lines before @data say, as far as it is needed.

    Attributes:
        class_names: in the order of the labels.
        timestamps: whether values come with their times.
        num_dimensions: as the header says; None: it does not say.
    """

    class_names: tuple[str, ...]
    timestamps: bool
    num_dimensions: int | None


def read_folder(folder: Path, split: str) -> SeriesSource:
    """A split of a folder of .ts files.

    Args:
        folder: has NAME_TRAIN.ts and NAME_TEST.ts; with several NAMEs that of the folder counts.
        split: "train" or "test", or whatever follows the NAME in small letters.

    Raises:
        DatasetError: there is no such file, or it cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder; name one with files NAME_TRAIN.ts in it")
    ending = f"_{split.upper()}.ts"
    own = folder / f"{folder.name}{ending}"
    found = [own] if own.is_file() else sorted(folder.glob(f"*{ending}"))
    if len(found) != 1:
        there = ", ".join(file.name for file in sorted(folder.glob("*.ts"))) or "no .ts files"
        raise DatasetError(
            f"split '{split}' is read from one file *{ending}, or {own.name}, in {folder}; there: "
            f"{there}. Name the folder of one dataset in --config.data.data_dir"
        )
    return read_ts(found[0])


def read_ts(path: Path) -> SeriesSource:
    """All cases of a .ts file.

    Raises:
        DatasetError: the file cannot be read, is no classification problem, or a line of it is not
            what the header says; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    said: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text.lower() == "@data":
            header = _header(path, said)
            return SeriesSource(_cases(path, header, lines[number:], number), header.class_names)
        if text.startswith("@"):
            name, _, rest = text[1:].partition(" ")
            said[name.lower()] = rest.strip()
        elif text and text[0] not in "#%":
            raise DatasetError(
                f"{path}:{number}: '{text[:40]}' stands before @data, where lines start with @ or "
                "#; is it a whole .ts file?"
            )
    raise DatasetError(f"{path} has no line @data; it is no whole .ts file")


def _header(path: Path, said: Mapping[str, str]) -> Header:
    has_labels, *names = said.get("classlabel", "false").split() or ["false"]
    if has_labels.lower() != "true" or not names:
        raise DatasetError(
            f"{path} has no line '@classLabel true' with the names of its classes: its series are "
            "not divided into classes; choose a dataset whose series are"
        )
    dimensions = said.get("dimensions", said.get("dimension"))
    if dimensions is not None and not dimensions.isdecimal():
        raise DatasetError(f"{path}: @dimensions {dimensions} is no number; get the file again")
    univariate = said.get("univariate", "").lower() == "true"
    return Header(
        # Files of one dataset may name them in different orders.
        class_names=tuple(sorted(names)),
        timestamps=said.get("timestamps", "").lower() == "true",
        num_dimensions=int(dimensions) if dimensions else 1 if univariate else None,
    )


def _cases(path: Path, header: Header, lines: Sequence[str], before: int) -> list[Series]:
    """Of the lines after the header, of which there are `before`."""
    cases: list[Series] = []
    num_dimensions = header.num_dimensions
    for number, line in enumerate(lines, start=before + 1):
        text = line.strip()
        if not text or text[0] in "#%":
            continue
        try:
            case = _case(text, header)
            num_dimensions = num_dimensions or case.values.shape[1]
            if case.values.shape[1] != num_dimensions:
                raise ValueError(
                    f"the case has {case.values.shape[1]} dimensions, expected {num_dimensions}"
                )
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from error
        cases.append(case)
    return cases


def _case(text: str, header: Header) -> Series:
    """A line; what is wrong with it is a ValueError."""
    *dimensions, name = (part.strip() for part in _BETWEEN_DIMENSIONS.split(text))
    if not dimensions:
        raise ValueError("no ':' divides the values from a class label")
    if name not in header.class_names:
        known = ", ".join(map(repr, header.class_names))
        raise ValueError(f"'{name}' is none of the classes {known}")
    values, times = _timed(dimensions) if header.timestamps else _counted(dimensions)
    return Series(values.astype(np.float32), times, header.class_names.index(name))


def _counted(dimensions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Values at times that count the steps from 0."""
    columns = [[value(text) for text in dimension.split(",")] for dimension in dimensions]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        listed = ", ".join(str(len(column)) for column in columns)
        raise ValueError(f"dimensions of different lengths, {listed}, need timestamps")
    return np.array(columns).T, np.arange(lengths.pop(), dtype=np.float64)


def _timed(dimensions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Values at all times that any dimension has, in their order."""
    columns = [_pairs(dimension) for dimension in dimensions]
    check_moments([pair[1] for dimension in dimensions for pair in _PAIR.finditer(dimension)])
    if not any(columns):
        raise ValueError("every dimension is missing, so that there is no time; take the case away")
    times = np.array(sorted(set().union(*columns)), np.float64)
    rows = [[column.get(time, np.nan) for column in columns] for time in times.tolist()]
    return np.array(rows), times


def _pairs(dimension: str) -> dict[float, float]:
    """Values by their times; none of a dimension that is missing."""
    found: dict[float, float] = {}
    if dimension == "?":
        return found
    end = 0
    for pair in _PAIR.finditer(dimension):
        if pair.start() != end:
            break
        time = moment(pair[1])
        if time in found:
            raise ValueError(f"time {pair[1]} stands twice in a dimension")
        found[time], end = value(pair[2]), pair.end()
    if end != len(dimension) or not found:
        raise ValueError(f"'{dimension[end : end + 40]}' is no (time,value)")
    return found
