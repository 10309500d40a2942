"""A picture of a time series: a line for each channel, with a dot for each value."""

import cv2
import numpy as np

HEIGHT, WIDTH = 120, 160
_MARGIN = 6
_FINE = 4
"""Bits of a pixel's fraction in coordinates of lines."""


def draw(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """[HEIGHT, WIDTH, 3] uint8, time to the right; the scale is that of the values at hand.

    Args:
        values: [M, c]; missing values leave a gap.
        times: [M]; steps that are padding, 0 in values and times, are left out but for the first.
    """
    values, times = np.asarray(values, np.float64), np.asarray(times, np.float64)
    real = (times != 0) | (values != 0).any(axis=1)
    values, times = values[real], times[real]
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    if not np.isfinite(values).any():
        return picture
    order = np.argsort(times)
    right = _scaled(times[order], _MARGIN, WIDTH - _MARGIN)
    down = _scaled(-values[order], _MARGIN, HEIGHT - _MARGIN)
    for channel, color in enumerate(_colors(values.shape[1])):
        places = np.stack([right, down[:, channel]], axis=1)
        known = np.isfinite(places[:, 1])
        points = (np.where(known[:, None], places, 0.0) * 2**_FINE).round().astype(np.int32)
        for run in np.split(np.arange(len(known)), np.flatnonzero(~known)):
            line = points[run[known[run]]]
            cv2.polylines(picture, [line], False, color, 1, cv2.LINE_AA, _FINE)
        for x, y in points[known]:
            cv2.circle(picture, (int(x), int(y)), 2**_FINE, color, -1, cv2.LINE_AA, _FINE)
    return picture


def _scaled(numbers: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers brought to the range from low to high; NaN stays."""
    least, most = np.nanmin(numbers), np.nanmax(numbers)
    if most == least:
        return np.where(np.isnan(numbers), np.nan, (low + high) / 2)
    return low + (numbers - least) / (most - least) * (high - low)


def _colors(count: int) -> list[list[int]]:
    """So many hues, RGB."""
    hues = np.arange(count) * 180 // max(count, 1)
    hsv = np.stack([hues, np.full(count, 200), np.full(count, 190)], axis=1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0].tolist()
