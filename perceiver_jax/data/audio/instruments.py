"""Endless mixes of one to three notes of recorded instruments; labels are their families.

- The recordings are those of `general_midi`. A note begins at a random time, is held to the end,
  and is 0 to 12 decibels softer than the loudest it can be.
- Families are eight, by how the sound comes about: the basses of General MIDI are among the plucked
  strings, bagpipes among the reeds.
- The test split plays other instruments than training does, and no recording is of both: what is
  tested is an instrument never heard, such as a cello after violins and contrabasses. Training has
  61 instruments, the test 16.
- All instruments play the same two octaves, so that the register tells nothing.
- Mix i of a split is always the same.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.audio.soundfont import SoundFont
from perceiver_jax.data.audio.sounds import Samples
from perceiver_jax.data.splits import check_split

ENDLESS = 2**30
"""Length of a source that does not end: as far as orders are shuffled by position."""
FAMILIES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "keyboard": ((0, 1, 2, 3, 4, 6, 7), (5,)),
    "mallets": ((8, 10, 11, 13, 14, 108, 114), (9, 12)),
    "organ": ((16, 17, 18, 20, 21), (19, 22)),
    "plucked": ((24, 25, 26, 28, 31, 32, 34, 35, 36, 38, 45, 46, 104, 105, 107), (27, 33, 37)),
    "bowed": ((40, 41, 43, 44, 50, 51, 110), (42, 49)),
    "brass": ((56, 58, 59, 61, 62, 63), (57, 60)),
    "reed": ((64, 65, 67, 68, 70, 71, 109, 111), (66, 69)),
    "pipe": ((72, 73, 75, 76, 77, 78), (74, 79)),
}
"""General MIDI presets, from 0, of each family: those of training, and those of the test. Those
that share recordings with both are left out."""
KEYS = range(48, 73)
"""From the C below middle C to the one above."""
MOST_NOTES = 3
_SOFTEST_DB = -12.0
_LATEST = 0.5
"""Of the mix, where the last notes begin."""
_FULL = 1 / MOST_NOTES
"""The peak of the loudest note: mixes stay in [-1, 1]."""


class InstrumentMixes:
    """Mixes by index, `{"sound": Samples, "label": [8] bool}`.

    Args:
        font: the recordings.
        split: "train" or "test".
        num_samples: length of a mix.
        sample_rate: samples a second.
        num_examples: how many there are.

    Raises:
        DatasetError: there is no such split.
    """

    class_names: tuple[str, ...] = tuple(FAMILIES)

    def __init__(
        self,
        font: SoundFont,
        split: str,
        *,
        num_samples: int,
        sample_rate: int,
        num_examples: int = ENDLESS,
    ):
        check_split(split, ("train", "test"))
        self._font, self._rate, self._num_samples = font, sample_rate, num_samples
        self._num_examples, self._seed = num_examples, ("train", "test").index(split)
        self._presets = [presets[self._seed] for presets in FAMILIES.values()]
        # A SoundFont may lack a key here and there.
        self._keys = {
            preset: [key for key in KEYS if font.zones(preset, key)]
            for preset in sum(self._presets, ())
        }
        # Playing costs milliseconds, and there are a thousand notes.
        self._note = functools.lru_cache(maxsize=2048)(self._played)

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self._seed, index))
        families = rng.permutation(len(FAMILIES))[: rng.integers(1, MOST_NOTES + 1)]
        mix = np.zeros(self._num_samples, np.float32)
        for family in families:
            preset = int(rng.choice(self._presets[family]))
            note = self._note(preset, int(rng.choice(self._keys[preset])))
            first = int(rng.uniform(0, _LATEST) * self._num_samples)
            gain = np.float32(_FULL * 10 ** (rng.uniform(_SOFTEST_DB, 0) / 20))
            mix[first:] += gain * note[: self._num_samples - first]
        label = np.zeros(len(FAMILIES), bool)
        label[families] = True
        return {"sound": Samples(mix[None], self._rate), "label": label}

    def _played(self, preset: int, key: int) -> np.ndarray:
        """[num_samples] float32 of a key held down; its peak is 1."""
        zones = self._font.zones(preset, key)
        size = (self._num_samples, self._rate)
        sound = np.sum([self._font.play(zone, key, *size) for zone in zones], axis=0)
        return sound / max(float(np.abs(sound).max()), 1e-6)
