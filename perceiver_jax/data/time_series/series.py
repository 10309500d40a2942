"""Labelled time series in memory: what every reader of files makes, and a source of them."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

EPOCH = datetime.datetime(1970, 1, 1)


@dataclasses.dataclass(frozen=True)
class Series:
    """One series.

    Attributes:
        values: [n, c] float32, NaN where a value is missing; n is 1 or more.
        times: [n] float64 in any unit, counted from anywhere.
        label: its class.
    """

    values: np.ndarray
    times: np.ndarray
    label: int


class SeriesSource:
    """Series as examples `{"values": [n, c], "times": [n], "label": int, "index": int}`.

    Args:
        series: of a split; all have the same channels.
        class_names: one per class.
    """

    def __init__(self, series: Sequence[Series], class_names: tuple[str, ...]):
        self.series, self.class_names = series, class_names

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        one = self.series[index]
        return {"values": one.values, "times": one.times, "label": one.label, "index": index}

    def mixed(self) -> "SeriesSource":
        """The same in an order of no meaning, which is always the same.

        Files are sorted by class, and the first examples are those that people are shown.
        """
        order = np.random.default_rng(0).permutation(len(self.series))
        return SeriesSource([self.series[i] for i in order], self.class_names)


def moment(text: str) -> float:
    """A number, or the seconds since 1970 of a date in ISO 8601, as a time.

    Raises:
        ValueError: it is neither, or not finite.
    """
    try:
        found = float(text)
    except ValueError:
        date = datetime.datetime.fromisoformat(text.strip())
        # Dates without a zone are not those of the machine's: a day has 24 hours.
        found = date.timestamp() if date.tzinfo else (date - EPOCH).total_seconds()
    if not np.isfinite(found):
        raise ValueError(f"{text} is not finite")
    return found


def check_moments(texts: Sequence[str]) -> None:
    """Checks that the times of a series, each good for `moment`, have one meaning together.

    Raises:
        ValueError: some are numbers and some are dates; or all are numbers that read as days.
    """
    numbers = [text for text in texts if _is_number(text)]
    if 0 < len(numbers) < len(texts):
        date = next(text for text in texts if not _is_number(text))
        raise ValueError(
            f"times are numbers, such as {numbers[0]}, and dates, such as {date}; write all of a "
            "series as numbers or all as dates"
        )
    if numbers and all(_is_day(text) for text in numbers):
        raise ValueError(
            f"times such as {numbers[0]} may be days or numbers; write days with dashes, as in "
            "2024-01-31, and numbers with a point, as in 20240131.0"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_day(text: str) -> bool:
    """Whether it is a date without dashes, of a year from 1900 to 2099."""
    text = text.strip()
    if len(text) != 8 or not text.isdecimal() or text[:2] not in ("19", "20"):
        return False
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def value(text: str) -> float:
    """A number; NaN of an empty text, '?' and 'NaN', which stand for what is missing.

    Raises:
        ValueError: it is something else, or infinite.
    """
    text = text.strip()
    found = float(text) if text not in ("", "?") else np.nan
    if abs(found) > float(np.finfo(np.float32).max):
        raise ValueError(f"{text} is not finite in float32")
    return found
