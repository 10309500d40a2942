"""Rows of tokens as examples: read by index, cut at random, framed by special tokens."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.pipeline import Example
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.layouts import TokenKind
from perceiver_jax.data.text.prepared import PreparedRows
from perceiver_jax.data.text.tokenizers import Tokenizer, required_token


class Rows:
    """A source of rows as examples.

    Args:
        rows: what it reads.
        beyond: how many of the tokens that follow a row come along.
        targets: whether examples have probabilities of the classes.
        chosen: [n] indices of the rows that are examples; None: all of them.
    """

    def __init__(
        self,
        rows: PreparedRows,
        *,
        beyond: int = 0,
        targets: bool = False,
        chosen: np.ndarray | None = None,
    ):
        self._rows, self._beyond, self._targets, self._chosen = rows, beyond, targets, chosen
        self.class_names = rows.class_names

    def __len__(self) -> int:
        return len(self._rows if self._chosen is None else self._chosen)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if self._chosen is not None:
            index = int(self._chosen[index])
        ids, kinds = self._rows.row(index, beyond=self._beyond)
        example = {"index": index, "ids": ids.astype(np.int32), "kinds": kinds}
        if len(self._rows.labels):
            example["label"] = self._rows.labels[index]
        if self._targets:
            example["target"] = self._rows.targets[index]
        return example


@dataclasses.dataclass(frozen=True)
class RandomCut:
    """Cuts a row at random before it is transformed.

    Attributes:
        length: tokens of text in a row, at most.
        least: tokens of text in a row, at least, where they are as many; None: rows stay as long.
        shift: whether a row begins anywhere in it and goes on in what follows.
        transform: of the cut row.

    Source: krasserm `RandomShiftDataset`, `RandomTruncationCollator`.
    Differs: there rows are cut batch by batch, with their special tokens, and the last row is lost.
    """

    length: int
    least: int | None
    shift: bool
    transform: Callable[[Example, np.random.Generator], Example]

    @classmethod
    def of(
        cls,
        config: TextDataConfig,
        transform: Callable[[Example, np.random.Generator], Example],
        *,
        num_following: int = 0,
    ) -> "RandomCut":
        """As a config says; rows have `num_following` tokens more than a model reads."""
        more = num_following - config.num_wrapping_tokens
        least = config.random_min_seq_len
        return cls(
            length=config.max_seq_len + more,
            least=None if least is None else least + more,
            shift=config.random_shift,
            transform=transform,
        )

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The transform of a part of `{"ids", "kinds": [n or more]}`."""
        start, ids, kinds = 0, example["ids"], example["kinds"]
        length = min(len(ids), self.length)
        if self.shift:
            # Where less than a row follows, as far as it reaches.
            start = min(int(rng.integers(length)), len(ids) - length)
        if self.least is not None:
            length = int(rng.integers(min(self.least, length), length + 1))
        part = slice(start, start + length)
        return self.transform({**example, "ids": ids[part], "kinds": kinds[part]}, rng)


@dataclasses.dataclass(frozen=True)
class Framing:
    """Puts special tokens around a row and fills it up to one length.

    Attributes:
        length: L.
        pad_id: fills.
        around: ids before and after the text, or None.
    """

    length: int
    pad_id: int
    around: tuple[int, int] | None

    @classmethod
    def of(cls, config: TextDataConfig, tokenizer: Tokenizer) -> "Framing":
        """As a config says.

        Raises:
            TokenizerError: the tokenizer lacks a token that is needed.
        """
        around = None
        if config.add_special_tokens:
            cls_id, sep_id = (
                required_token(tokenizer, kind, "add_special_tokens") for kind in ("cls", "sep")
            )
            around = (cls_id, sep_id)
        return cls(config.max_seq_len, required_token(tokenizer, "pad", "batching"), around)

    def wrap(self, ids: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and kinds [n] with special tokens around them."""
        if self.around is None:
            return ids, kinds
        return self.wrap_ids(ids), np.pad(kinds, 1, constant_values=TokenKind.SPECIAL)

    def wrap_ids(self, ids: np.ndarray) -> np.ndarray:
        """Ids [n] with special tokens around them."""
        if self.around is None:
            return ids
        first, last = self.around
        return np.concatenate([[first], ids, [last]], dtype=np.int32)

    def pad(self, array: np.ndarray, value: Any) -> np.ndarray:
        """[n] → [L]."""
        padded = np.full(self.length, value, array.dtype)
        padded[: len(array)] = array
        return padded

    def mask(self, num_tokens: int) -> np.ndarray:
        """[L] bool, True on tokens."""
        return np.arange(self.length) < num_tokens


def check_unlabelled(config: TextDataConfig, purpose: str) -> None:
    """Raises a DatasetError where soft labels are asked for, which `purpose` does not read."""
    if config.soft_labels:
        raise DatasetError(
            f"soft_labels=True is for classification: {purpose} reads no labels; "
            "set --config.data.soft_labels=False"
        )
