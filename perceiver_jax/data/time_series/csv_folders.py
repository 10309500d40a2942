"""Series in folders of classes, a file of comma-separated values each: DIR/SPLIT/CLASS/*.csv.

- The first line names the columns. One of them is the time, numbers or dates in ISO 8601, days with
  dashes; the others are channels. Cells that are empty, '?' or 'NaN' are missing.
- Files are read at once, so that what is wrong with one is told before training starts.
"""

import csv
import functools
from pathlib import Path

import numpy as np

from perceiver_jax.data.class_folders import find_class_files
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.time_series.series import Series, SeriesSource, check_moments, moment, value


def read_csv_folder(
    root: Path, split: str, time_column: str | None, *, train_split: str
) -> SeriesSource:
    """A split of a folder.

    Args:
        root: the folder of the splits, see `class_folders`.
        split: a folder in it.
        time_column: name of the column of times; None: rows lie at 0, 1, 2, …
        train_split: the split whose classes and channels count.

    Raises:
        DatasetError: there is no such folder, or a file is not what it should be; see
            `find_class_files`.
    """
    find = functools.partial(
        find_class_files, root, train_split=train_split, suffixes=(".csv",), kind="series"
    )
    names, files = find(split)
    trained = find(train_split).files if (root / train_split).is_dir() else files
    first = Path(trained[0][0])
    channels, _ = _read(first, time_column, 0)
    series: list[Series] = []
    for path, label in files:
        found, one = _read(Path(path), time_column, label)
        if found != channels:
            raise DatasetError(
                f"{path}:1: channels {', '.join(found)} are not those of {first}, "
                f"{', '.join(channels)}; give all files the same columns in the same order"
            )
        series.append(one)
    return SeriesSource(series, names)


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
        column = time_column
        try:
            times.append(float(len(times)) if column is None else moment(cells[column]))
            row_values = []
            for column in channels:
                row_values.append(value(cells[column]))
        except ValueError as error:
            raise DatasetError(f"{file}:{number}: column '{column}': {error}") from error
        values.append(row_values)
    if time_column is not None:
        place = names.index(time_column)
        try:
            check_moments([row[place] for _, row in rows])
        except ValueError as error:
            raise DatasetError(f"{file}: {error}") from error
    return channels, Series(np.array(values, np.float32), np.array(times), label)
