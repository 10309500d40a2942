"""Seeded series without files, for smoke runs and tests: two waves, at irregular times.

- The class says how fast the waves are, and whether the second runs ahead of the first or behind:
  neither can be told without the times.
- Times are in [0, 30]. Series have 12 to 32 steps, and a twentieth of their values is missing.
"""

import numpy as np

from perceiver_jax.data.time_series.series import Series, SeriesSource

CLASS_NAMES = ("slow, ahead", "slow, behind", "fast, ahead", "fast, behind")
NUM_CHANNELS = 2
DURATION = 30.0
_LENGTHS = (12, 32)
_CYCLES = (1.5, 4.0)
_MISSING = 0.05


def synthetic_series(*, num_series: int, seed: int) -> SeriesSource:
    """That many series; those of different seeds differ."""
    return SeriesSource(
        [_series(np.random.default_rng((seed, i))) for i in range(num_series)], CLASS_NAMES
    )


def _series(rng: np.random.Generator) -> Series:
    label = int(rng.integers(len(CLASS_NAMES)))
    length = int(rng.integers(_LENGTHS[0], _LENGTHS[1] + 1))
    times = np.sort(rng.uniform(0.0, DURATION, length))
    fast, behind = divmod(label, 2)
    angles = 2 * np.pi * (_CYCLES[fast] * times / DURATION + rng.random())
    shift = np.pi / 2 * (-1 if behind else 1)
    values = np.stack([np.sin(angles), np.sin(angles + shift)], axis=1)
    values += rng.normal(0.0, 0.1, values.shape)
    values[rng.random(values.shape) < _MISSING] = np.nan
    return Series(values.astype(np.float32), times, label)
