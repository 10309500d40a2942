"""Texts with [MASK] in them to the most probable fills.

- Masks that follow each other are one gap, filled token by token from the left, by beam search: the
  probability of a fill is the product of those of its tokens.
- To a model of bytes, a gap of one mask stands for a word of unknown length; several masks stand
  for that many bytes.
- Of a text longer than the model takes, it sees what lies around the gap.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.data.text.tokenizers import ByteTokenizer, required_token
from perceiver_jax.errors import UserError
from perceiver_jax.models import TextDecoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pipelines.texts import TextReader
from perceiver_jax.pretrained import Source, as_release

MAX_ROWS = 16
"""Rows that the model sees at once."""
MAX_WORD_BYTES = 12
"""Longest word that a single mask stands for, to a model of bytes."""
NUM_LENGTHS = 2
"""Lengths of a word that are searched, the most probable ones."""
SPACE = 32 + 6


class Fill(NamedTuple):
    """What may stand in a gap.

    Attributes:
        text: without the spaces around it.
        probability: of the tokens, each given those before it and all around the gap; for a word of
            unknown length the geometric mean over its bytes, so that lengths can be compared.
    """

    text: str
    probability: float


class MaskFilling:
    """A masked language model with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells the tokenizer.
        tokenizer: another tokenizer than the card tells, as `load_tokenizer` takes it.

    Raises:
        UserError: it is no masked language model, or its tokenizer is not known or has no mask.
    """

    def __init__(self, source: Source, tokenizer: str | None = None):
        release = as_release(source)
        self.reader = TextReader(release, tokenizer)
        decoder = half_of(release.config, "decoder")
        if not isinstance(decoder, TextDecoderConfig):
            raise UserError(
                f"{kind_of(release.config)} fills no masks; take a masked language model "
                "(TextEncoderConfig and TextDecoderConfig)"
            )
        self.model = release.model()
        self.tokenizer = self.reader.tokenizer
        self.mask_id = required_token(self.tokenizer, "mask", "filling masks")
        special = np.zeros(self.tokenizer.vocab_size, bool)
        special[list(self.tokenizer.special_ids)] = True
        self._special = special

    def __call__(self, text: str, top: int = 5) -> list[list[Fill]]:
        """The most probable fills of each gap of a text, the best first.

        Args:
            text: with [MASK] in it, or several.
            top: how many fills.

        Raises:
            UserError: there is no mask, or a gap is longer than the model.
        """
        ids = self.tokenizer.encode_with_masks(text)
        gaps = _runs(ids == self.mask_id)
        if not gaps:
            raise UserError(f"there is no [MASK] to fill in {text[:60]!r}")
        return [self._fill(ids, start, stop, top) for start, stop in gaps]

    def _fill(self, ids: np.ndarray, start: int, stop: int, top: int) -> list[Fill]:
        if stop - start >= self.reader.max_text_len:
            raise UserError(
                f"a gap of {stop - start:,} masks is longer than this model, which takes "
                f"{self.reader.max_text_len:,} tokens"
            )
        if isinstance(self.tokenizer, ByteTokenizer) and stop - start == 1:
            return self._word(ids, start, top)
        gap = _Gap(ids, start, stop)
        return self._best(((t, np.exp(s)) for t, s in self._search(gap, top)), top)

    def _word(self, ids: np.ndarray, place: int, top: int) -> list[Fill]:
        """A word of bytes in place of one mask.

        Whitespace goes with the word that follows it, as in training: the space before the gap is
        asked for anew.
        """
        start = place - 1 if place and ids[place - 1] == SPACE else place
        longest = min(MAX_WORD_BYTES, self.reader.max_text_len // 2) + (place - start)
        gaps = []
        for length in range(1 + place - start, longest + 1):
            mask = np.full(length, self.mask_id, np.int32)
            widened = np.concatenate([ids[:start], mask, ids[place + 1 :]])
            gaps.append(_Gap(widened, start, start + length))
        scores = [float(self._log_probabilities([gap])[0].max(-1).mean()) for gap in gaps]
        likely = [gaps[i] for i in np.argsort(scores)[::-1][:NUM_LENGTHS]]
        found = (
            (tokens, np.exp(score / (gap.stop - gap.start)))
            for gap in likely
            for tokens, score in self._search(gap, top)
        )
        return self._best(found, top)

    def _best(self, found: Iterable[tuple[np.ndarray, float]], top: int) -> list[Fill]:
        """Fills that differ in more than the spaces around them, the best first."""
        words: dict[str, float] = {}
        for tokens, probability in found:
            word = " ".join(self.tokenizer.decode(tokens).split())
            words[word] = max(float(probability), words.get(word, 0.0))
        best = sorted(words.items(), key=lambda item: -item[1])
        return [Fill(word, probability) for word, probability in best if word and probability][:top]

    def _search(self, gap: "_Gap", top: int) -> list[tuple[np.ndarray, float]]:
        """The most probable tokens of a gap and the logarithm of their probability.

        More than are asked for, as some of them may be the same word with other spaces.
        """
        beams: list[tuple[np.ndarray, float]] = [(gap.ids, 0.0)]
        for place in range(gap.start, gap.stop):
            rows = [_Gap(ids, gap.start, gap.stop) for ids, _ in beams]
            grown = []
            for (ids, score), log_p in zip(beams, self._log_probabilities(rows), strict=True):
                here = log_p[place - gap.start]
                for token in np.argsort(-here, kind="stable")[: 2 * top]:
                    filled = ids.copy()
                    filled[place] = token
                    grown.append((filled, score + float(here[token])))
            last = place + 1 == gap.stop
            beams = grown if last else sorted(grown, key=lambda beam: -beam[1])[:top]
        return [(ids[gap.start : gap.stop], score) for ids, score in beams]

    def _log_probabilities(self, gaps: Sequence["_Gap"]) -> list[np.ndarray]:
        """[gap, vocabulary] for each row, special tokens excluded."""
        found = []
        for i in range(0, len(gaps), MAX_ROWS):
            part = gaps[i : i + MAX_ROWS]
            windows = [gap.window(self.reader.max_text_len) for gap in part]
            log_p = np.asarray(_predict(self.model, *self.reader.rows([ids for ids, _ in windows])))
            for (_, start), gap, values in zip(windows, part, log_p, strict=True):
                first = self.reader.offset + start
                here = values[first : first + gap.stop - gap.start]
                found.append(np.where(self._special, -np.inf, here))
        return found


class _Gap(NamedTuple):
    """Tokens of a text and where the gap lies."""

    ids: np.ndarray
    start: int
    stop: int

    def window(self, length: int) -> tuple[np.ndarray, int]:
        """At most `length` tokens with the gap in their middle, and where it begins in them."""
        room = length - (self.stop - self.start)
        first = max(0, min(self.start - room // 2, len(self.ids) - length))
        return self.ids[first : first + length], self.start - first


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where True begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@jax.jit
def _predict(model, ids, input_mask):
    logits = model(ids, input_mask)
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
