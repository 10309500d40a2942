"""Texts to class names with probabilities; a long text is read in windows."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.errors import UserError
from perceiver_jax.models import ClassificationDecoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pipelines.texts import TextReader
from perceiver_jax.pretrained import Source, as_release

BATCH_SIZE = 8
"""Windows that the model sees at once."""


class Label(NamedTuple):
    """A class and how probable the model finds it."""

    label: str
    probability: float


class TextClassification:
    """A text classifier with what it needs before and after.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model; its card tells tokenizer and class
            names.
        tokenizer: another tokenizer than the card tells, as `load_tokenizer` takes it.

    Raises:
        UserError: it is no text classifier, or its tokenizer is not known.
    """

    def __init__(self, source: Source, tokenizer: str | None = None):
        release = as_release(source)
        self.reader = TextReader(release, tokenizer)
        decoder = half_of(release.config, "decoder")
        if not isinstance(decoder, ClassificationDecoderConfig) or decoder.num_output_queries != 1:
            raise UserError(
                f"{kind_of(release.config)} does not give texts one class; take a classifier of "
                "texts (TextEncoderConfig and ClassificationDecoderConfig) with one output query"
            )
        self.model = release.model()
        self.labels = release.card.labels or tuple(f"class {i}" for i in range(decoder.num_classes))

    def __call__(self, texts: Iterable[str], top: int = 1) -> Iterator[list[Label]]:
        """Yields the most probable classes of each text, the best first.

        A text of more tokens than the model takes is cut into windows of equal length; its
        probabilities are means over the windows.

        Args:
            texts: not empty.
            top: how many classes.

        Raises:
            UserError: an empty text, when it is reached.
        """
        for probabilities in self.probabilities(texts):
            order = np.argsort(-probabilities, kind="stable")[:top]
            yield [Label(self.labels[i], float(probabilities[i])) for i in order]

    def probabilities(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Yields the probabilities [classes] of each text; arguments and errors as in the call.

        Windows of several texts fill a batch, so that short texts are read together.
        """
        windows = ((i, part) for i, text in enumerate(texts) for part in self._windows(text))
        found: list[np.ndarray] = []
        current = 0
        while batch := list(itertools.islice(windows, BATCH_SIZE)):
            rows = [part for _, part in batch]
            size = 1 if len(rows) == 1 else BATCH_SIZE
            values = np.asarray(
                _predict(self.model, *self.reader.rows(rows + rows[:1] * (size - len(rows))))
            )
            for (i, _), row in zip(batch, values, strict=False):
                if i != current:
                    yield np.mean(found, axis=0)
                    found, current = [], i
                found.append(row)
        if found:
            yield np.mean(found, axis=0)

    def _windows(self, text: str) -> list[np.ndarray]:
        """Parts of a text that the model takes, of equal length."""
        ids = self.reader.tokenizer.encode(text)
        if not len(ids):
            raise UserError("an empty text has no class; leave it out")
        return np.array_split(ids, -(-len(ids) // self.reader.max_text_len))


@jax.jit
def _predict(model, ids, input_mask):
    return jax.nn.softmax(model(ids, input_mask).astype(jnp.float32))
