"""Series in folders of classes, a file of comma-separated values each: DIR/SPLIT/CLASS/*.csv.

- The first line names the columns. One of them is the time, numbers or dates in ISO 8601, days with
  dashes; the others are channels. Cells that are empty, '?' or 'NaN' are missing.
- Labels are by the sorted names of the classes of all splits, so that they are the same in each.
- Files are read at once, so that what is wrong with one is told before training starts.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.time_series.series import Series, SeriesSource, check_moments, moment, value


def read_csv_folder(root: Path, split: str, time_column: str | None) -> SeriesSource:
    """A split of a folder.

    Args:
        root: the folder of the splits.
        split: a folder in it.
        time_column: name of the column of times; None: rows lie at 0, 1, 2, …

    Raises:
        DatasetError: there is no such folder, or a file is not what it should be.
    """
    folder = root / split
    if not folder.is_dir():
        there = ", ".join(x.name for x in _folders(root)) or "no folders"
        raise DatasetError(
            f"{root} has no folder '{split}'; expected DIR/SPLIT/CLASS/*.csv, found {there}"
        )
    names = sorted({x.name for one in _folders(root) for x in _folders(one) if _files(x)})
    series: list[Series] = []
    firsts = (file for one in _folders(root) for x in _folders(one) for file in _files(x))
    first = next(firsts, None)
    channels = None if first is None else _read(first, time_column, 0)[0]
    for label, name in enumerate(names):
        for file in _files(folder / name):
            found, one = _read(file, time_column, label)
            channels = channels or found
            if found != channels:
                raise DatasetError(
                    f"{file}:1: channels {', '.join(found)} are not those of {first}, "
                    f"{', '.join(channels)}; give all files the same columns in the same order"
                )
            series.append(one)
    if not series:
        raise DatasetError(f"{folder} has no series; expected DIR/SPLIT/CLASS/*.csv")
    return SeriesSource(series, tuple(names))


def _read(file: Path, time_column: str | None, label: int) -> tuple[list[str], Series]:
    """Names of the channels, and the series."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.reader(opened)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    if len(rows) < 2:
        raise DatasetError(f"{file} has no rows; expected a line of names and one per time step")
    (_, header), *rows = rows
    names = [name.strip() for name in header]
    if time_column is not None and time_column not in names:
        raise DatasetError(
            f"{file}:1: no column is called '{time_column}'; there are {', '.join(names)}. Name "
            "that of the times with --config.data.time_column, or None where there is none"
        )
    channels = [name for name in names if name != time_column]
    if not channels or len(set(names)) < len(names):
        raise DatasetError(
            f"{file}:1: columns {', '.join(names)}; expected different names, of a channel at least"
        )
    values, times = [], []
    for number, row in rows:
        if len(row) != len(names):
            raise DatasetError(f"{file}:{number}: {len(row)} cells, expected {len(names)}")
        cells = dict(zip(names, row, strict=True))
        try:
            times.append(float(len(times)) if time_column is None else moment(cells[time_column]))
            values.append([value(cells[name]) for name in channels])
        except ValueError as error:
            raise DatasetError(f"{file}:{number}: {error}") from error
    if time_column is not None:
        column = names.index(time_column)
        try:
            check_moments([row[column] for _, row in rows])
        except ValueError as error:
            raise DatasetError(f"{file}: {error}") from error
    return channels, Series(np.array(values, np.float32), np.array(times), label)


def _folders(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return ()
    return sorted(x for x in folder.iterdir() if x.is_dir() and not x.name.startswith("."))


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return ()
    inside = (x for x in folder.iterdir() if x.is_file() and not x.name.startswith("."))
    return sorted(x for x in inside if x.suffix.lower() == ".csv")
