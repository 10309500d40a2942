"""Sounds to look at: what a model was given, as a small picture."""

import cv2
import numpy as np

HEIGHT, WIDTH = 96, 144
_PAPER, _INK = 255, np.array([40, 70, 160], np.uint8)
_MAP = cv2.COLORMAP_MAGMA


def waveform_picture(waveform: np.ndarray) -> np.ndarray:
    """[S, c] floats → [96, 144, 3] uint8: from the lowest to the highest sample of each moment.

    The largest sample reaches the edge.
    """
    samples = waveform.mean(axis=1) / max(float(np.abs(waveform).max()), 1e-9)
    columns = np.array_split(samples, WIDTH)
    low = np.array([column.min(initial=0.0) for column in columns])
    high = np.array([column.max(initial=0.0) for column in columns])
    heights = np.linspace(1.0, -1.0, HEIGHT)[:, None]
    inside = (heights >= low[None] - 1 / HEIGHT) & (heights <= high[None] + 1 / HEIGHT)
    picture = np.full((HEIGHT, WIDTH, 3), _PAPER, np.uint8)
    picture[inside] = _INK
    return picture


def spectrogram_picture(spectrogram: np.ndarray) -> np.ndarray:
    """[T, m] floats → [96, 144, 3] uint8: low bands below, the brighter the larger."""
    low, high = float(spectrogram.min()), float(spectrogram.max())
    grey = 255 * (spectrogram - low) / max(high - low, 1e-9)
    upright = np.ascontiguousarray(grey.astype(np.uint8).T[::-1])
    size = (WIDTH, HEIGHT)
    large = cv2.resize(upright, size, interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(cv2.applyColorMap(large, _MAP), cv2.COLOR_BGR2RGB)
