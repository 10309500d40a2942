"""Seeded sentences of a tiny grammar, for smoke runs and tests.

- Each is good or bad news, which two of its words tell.
"""

from collections.abc import Iterator

import numpy as np

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.text.documents import Document

_WORDS = {
    "animal": ("bear", "cat", "dog", "fox", "goose", "hare", "owl", "wolf"),
    "place": ("barn", "forest", "garden", "house", "meadow", "village"),
    "bad": ("angry", "gloomy", "lonely", "sad", "tired"),
    "good": ("brave", "cheerful", "clever", "happy", "kind"),
    "bad_verb": ("fears", "hates", "leaves", "loses"),
    "good_verb": ("enjoys", "finds", "likes", "loves"),
}


class SyntheticSentences:
    """Two sentences to a document.

    Args:
        split: "train" (2,048 documents) or "test" (512).

    Raises:
        DatasetError: the split is unknown.
    """

    class_names: tuple[str, ...] = ("bad", "good")

    def __init__(self, split: str):
        check_split(split, ("train", "test"))
        self._held_out = split == "test"
        self.fingerprint = fingerprint("synthetic", 1, split)

    def __iter__(self) -> Iterator[Document]:
        rng = np.random.default_rng((0, self._held_out))
        for _ in range(512 if self._held_out else 2048):
            label = int(rng.integers(2))
            mood = self.class_names[label]
            text = " ".join(_sentence(mood, rng) for _ in range(2))
            yield Document(text, label)


def _sentence(mood: str, rng: np.random.Generator) -> str:
    def word(kind: str) -> str:
        return _WORDS[kind][rng.integers(len(_WORDS[kind]))]

    return f"The {word(mood)} {word('animal')} {word(mood + '_verb')} the {word('place')}."
