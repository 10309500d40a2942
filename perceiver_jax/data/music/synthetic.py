"""Seeded tunes with a bass, for smoke runs and tests.

- A walk on a major scale over tonic, subdominant and dominant: there is something to learn.
"""

from collections.abc import Iterator

import numpy as np

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.music.performance import Note
from perceiver_jax.data.splits import check_split

_SCALE = (0, 2, 4, 5, 7, 9, 11)
_BASSES = (0, 5, 7, 0)
_NOTES_PER_BAR = 4


class SyntheticPieces:
    """Eight bars of 40 notes in all to a piece.

    Args:
        split: "train" (256 pieces) or "test" (64).

    Raises:
        DatasetError: the split is unknown.
    """

    def __init__(self, split: str):
        check_split(split, ("train", "test"))
        self._held_out = split == "test"
        self.fingerprint = fingerprint("synthetic music", 1, split)

    def __iter__(self) -> Iterator[list[Note]]:
        rng = np.random.default_rng((0, self._held_out))
        for _ in range(64 if self._held_out else 256):
            yield _tune(rng)


def _tune(rng: np.random.Generator) -> list[Note]:
    key, length = int(rng.integers(55, 67)), float(rng.choice((0.2, 0.25, 0.3)))
    degree, now, notes = int(rng.integers(7)), 0.0, []
    for bar in range(8):
        bass = key - 24 + _BASSES[bar % len(_BASSES)]
        notes.append(Note(bass, 64, now, now + _NOTES_PER_BAR * length))
        for _ in range(_NOTES_PER_BAR):
            pitch = key + 12 * (degree // 7) + _SCALE[degree % 7]
            notes.append(Note(pitch, 80, now, now + length))
            degree = int(np.clip(degree + rng.integers(-2, 3), 0, 13))
            now += length
    return notes
