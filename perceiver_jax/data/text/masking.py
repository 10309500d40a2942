"""Masked language modelling: which tokens of a row are to be predicted, and what stands there.

- A word is all that lies between two starts: see `TokenKind`. Special tokens are in no word.
- Randomness comes from the generator alone.
"""

import dataclasses

import numpy as np

from perceiver_jax.data.text.layouts import TokenKind
from perceiver_jax.data.text.tokenizers import Tokenizer, required_token

MASKED, RANDOM = 0.8, 0.1
"""Of what is chosen, the parts that become the mask token and a random one; the rest stays."""


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
    """How rows are corrupted.

    Attributes:
        fraction: of tokens, or words, to choose, in (0, 1].
        whole_words: whether words are chosen, and not tokens.
        mask_id: the mask token.
        ordinary_ids: [v] ids that random tokens are taken from.
    """

    fraction: float
    whole_words: bool
    mask_id: int
    ordinary_ids: np.ndarray

    def __call__(
        self, ids: np.ndarray, kinds: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corrupts a row.

        Each token or word is chosen with the same probability, independently, and at least one is
        where the row has any. The tokens of a word share their fate.

        Args:
            ids: [n] int32.
            kinds: [n] uint8, of `TokenKind`.
            rng: randomness.

        Returns:
            The row as the model sees it [n] int32, and the tokens to predict [n] bool.

        Source: BERT, section 3.1; krasserm `WordMaskingCollator`.
        Differs: Hugging Face's collators may choose nothing in a short row, and draw the fate of
        the tokens of a word one by one.
        """
        maskable = kinds != TokenKind.SPECIAL
        units = word_numbers(kinds) if self.whole_words else np.arange(len(ids))
        chosen, fate = self._choose(units, maskable, rng)
        predicted = chosen[units] & maskable
        fate = fate[units]
        masked = predicted & (fate < MASKED)
        replaced = predicted & ~masked & (fate < MASKED + RANDOM)
        corrupted = np.where(masked, np.int32(self.mask_id), ids)
        draws = rng.integers(len(self.ordinary_ids), size=np.count_nonzero(replaced))
        corrupted[replaced] = self.ordinary_ids[draws]
        return corrupted, predicted

    def _choose(
        self, units: np.ndarray, maskable: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """For each unit, whether it is chosen, and a number in [0, 1) that is its fate."""
        chance, fate = rng.random((2, units[-1] + 1 if len(units) else 0))
        chosen = chance < self.fraction
        candidates = units[maskable]
        if len(candidates) and not chosen[candidates].any():
            # That with the least chance, or a row of one word would never have one chosen.
            chosen[candidates[np.argmin(chance[candidates])]] = True
        return chosen, fate


def word_numbers(kinds: np.ndarray) -> np.ndarray:
    """The word that each token is of, [n] from 0; a special token has a number of its own."""
    if not len(kinds):
        return np.zeros(0, np.int64)
    special = kinds == TokenKind.SPECIAL
    starts = special | (kinds == TokenKind.STARTS_WORD)
    starts[1:] |= special[:-1]
    starts[0] = True
    return np.cumsum(starts) - 1


def make_masking(tokenizer: Tokenizer, *, fraction: float, whole_words: bool) -> Masking:
    """Masking with a tokenizer's vocabulary.

    Raises:
        TokenizerError: it has no mask token.
    """
    special = np.array(sorted(tokenizer.special_ids), np.int32)
    return Masking(
        fraction=fraction,
        whole_words=whole_words,
        mask_id=required_token(tokenizer, "mask", "masked language modelling"),
        ordinary_ids=np.setdiff1d(np.arange(tokenizer.vocab_size, dtype=np.int32), special),
    )
