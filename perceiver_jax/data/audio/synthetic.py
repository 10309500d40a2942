"""Seeded sounds that are told apart by ear: tones, clicks, sweeps and noise, for tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.audio.sounds import Samples

KINDS = ("clicks", "noise", "sweep", "tone")
_LOUDNESS = 0.2


class SyntheticSounds:
    """Sounds of one or two kinds at a time, `{"sound": Samples, "label": [4] bool}`.

    Args:
        seconds: how long each is.
        rate: samples a second.
        num_examples: how many there are.
        seed: sounds of different seeds differ.
    """

    class_names: tuple[str, ...] = KINDS

    def __init__(self, *, seconds: float, rate: int, num_examples: int, seed: int = 0):
        self._times = np.arange(round(seconds * rate)) / rate
        self._rate, self._num_examples, self._seed = rate, num_examples, seed

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self._seed, index))
        label = np.zeros(len(KINDS), bool)
        label[rng.permutation(len(KINDS))[: rng.integers(1, 3)]] = True
        parts = [self._part(KINDS[i], rng) for i in np.flatnonzero(label)]
        sound = (_LOUDNESS * np.sum(parts, axis=0)).astype(np.float32)
        return {"sound": Samples(sound[None], self._rate), "label": label}

    def _part(self, kind: str, rng: np.random.Generator) -> np.ndarray:
        """[n], in [-2, 2] or near it."""
        times = self._times
        hertz = rng.uniform(0.01, 0.2) * self._rate
        if kind == "clicks":
            return 2.0 * ((times * rng.uniform(10, 40)) % 1.0 < 0.05)
        if kind == "noise":
            return rng.normal(0, 0.5, len(times))
        if kind == "sweep":
            return np.sin(2 * np.pi * hertz * times * times / times[-1])
        return np.sin(2 * np.pi * hertz * times)
