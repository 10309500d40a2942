"""Text batches: rows of tokens, cut, wrapped, padded, and corrupted for masked language models.

- Masked: `{"ids", "targets": [B, L] int32, "predicted", "input_mask": [B, L] bool}`.
- Classification: `{"ids": [B, L] int32, "input_mask": [B, L] bool, "label": [B] int32}`, in
  training with `soft_labels` also `"target": [B, K] float32`, probabilities of the classes.
- Evaluation adds `"mask": [B]`, see `pipeline`. L is always `max_seq_len`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import open_documents
from perceiver_jax.data.text.folders import prepared_folder
from perceiver_jax.data.text.layouts import TokenKind
from perceiver_jax.data.text.masking import Masking, make_masking
from perceiver_jax.data.text.prepared import Plan, PreparedRows, prepare
from perceiver_jax.data.text.tokenizers import Tokenizer, load_tokenizer, required_token


def open_tokenizer(config: TextDataConfig) -> Tokenizer:
    """The tokenizer of a config, opened once."""
    return load_tokenizer(config.tokenizer)


@functools.lru_cache(maxsize=8)
def open_rows(
    config: TextDataConfig,
    split: str,
    *,
    row_length: int | None = None,
    labels: bool = False,
) -> PreparedRows:
    """Rows of a split, prepared where they are not yet, opened once.

    Args:
        config: the dataset, its tokenizer and layout.
        split: which part of it.
        row_length: tokens of a row with those that are added around it; None: `max_seq_len`.
        labels: whether rows have labels; then only documents that have one become rows.

    Raises:
        DatasetError: the dataset is not there, or not what the config says.
        TokenizerError: the tokenizer lacks a token that rows need.
    """
    tokenizer = open_tokenizer(config)
    separates = config.layout != "documents" and config.separator != "none"
    purpose = f"separator='{config.separator}' of layout='{config.layout}'"
    plan = Plan(
        layout=config.layout,
        length=(row_length or config.max_seq_len) - config.num_wrapping_tokens,
        separator_id=required_token(tokenizer, config.separator, purpose) if separates else None,
        labels=labels,
    )
    what = f"split '{split}' of '{config.dataset}'"
    documents = open_documents(config, split, labels=labels)
    into = prepared_folder(config.cache_dir)
    return PreparedRows(prepare(documents, tokenizer, plan, into=into, what=what))


@functools.lru_cache(maxsize=8)
def class_names(config: TextDataConfig) -> tuple[str, ...]:
    """Names of the classes of a dataset, in the order of their labels, looked up once.

    Raises:
        DatasetError: it is not there, or has no labels.
    """
    return open_documents(config, config.train_split, labels=True).class_names


def masked_batches(
    config: TextDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches for masked language models, see `pipeline`.

    What is masked in evaluation depends on the seed and the row alone.

    Raises:
        DatasetError: the dataset is not there, or not what the config says; or `soft_labels`,
            which are of classes, are asked for.
        TokenizerError: the tokenizer lacks a token that is needed.
    """
    if config.soft_labels:
        raise DatasetError(
            "soft_labels=True is for classification: masked language modelling reads no labels; "
            "set --config.data.soft_labels=False"
        )
    tokenizer = open_tokenizer(config)
    masking = make_masking(tokenizer, fraction=config.mask_fraction, whole_words=config.whole_words)
    transform = _MaskedRow(masking, _Framing.of(config, tokenizer), seed)
    rows = open_rows(config, config.train_split if training else config.eval_split)
    if not training:
        return pipeline.evaluation_batches(
            _Rows(rows), transform.fixed, batch_size=config.eval_batch_size, shard=shard
        )
    static = config.masking == "static"
    return pipeline.training_batches(
        _Rows(rows, beyond=_text_length(config) if config.random_shift else 0),
        (lambda row, rng: transform.fixed(row)) if static else _Moved(config, transform),
        batch_size=config.batch_size,
        seed=seed,
        shard=shard,
    )


def classification_batches(
    config: TextDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches for classification of whole documents, see `pipeline`.

    Raises:
        DatasetError: the dataset is not there, or not what the config says, or has no labels (no
            probabilities of classes where they are asked for), or the layout is not 'documents'.
        TokenizerError: the tokenizer lacks a token that is needed.
    """
    if config.layout != "documents":
        raise DatasetError(
            f"classification takes a document per row, not layout='{config.layout}'; set "
            "--config.data.layout=documents"
        )
    transform = _LabelledRow(_Framing.of(config, open_tokenizer(config)))
    split = config.train_split if training else config.eval_split
    prepared = open_rows(config, split, labels=True)
    if config.soft_labels and not len(prepared.targets):
        raise DatasetError(
            f"dataset '{config.dataset}' knows no probabilities of its classes; set "
            "--config.data.soft_labels=False"
        )
    rows = _Rows(prepared, targets=config.soft_labels and training)
    if not training:
        return pipeline.evaluation_batches(
            rows, transform, batch_size=config.eval_batch_size, shard=shard
        )
    return pipeline.training_batches(
        rows,
        _Moved(config, lambda row, rng: transform(row)),
        batch_size=config.batch_size,
        seed=seed,
        shard=shard,
    )


def _text_length(config: TextDataConfig) -> int:
    return config.max_seq_len - config.num_wrapping_tokens


class _Rows:
    """A source of rows as examples."""

    def __init__(self, rows: PreparedRows, *, beyond: int = 0, targets: bool = False):
        self._rows, self._beyond, self._targets = rows, beyond, targets
        self.class_names = rows.class_names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        ids, kinds = self._rows.row(index, beyond=self._beyond)
        example = {"index": index, "ids": ids.astype(np.int32), "kinds": kinds}
        if len(self._rows.labels):
            example["label"] = self._rows.labels[index]
        if self._targets:
            example["target"] = self._rows.targets[index]
        return example


@dataclasses.dataclass(frozen=True)
class _Moved:
    """Cuts a row at random before it is transformed.

    Source: krasserm `RandomShiftDataset`, `RandomTruncationCollator`.
    Differs: there rows are cut batch by batch, with their special tokens, and the last row is lost.
    """

    config: TextDataConfig
    transform: Any

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        config, start = self.config, 0
        ids, kinds = example["ids"], example["kinds"]
        length = min(len(ids), _text_length(config))
        if config.random_shift:
            # Where less than a row follows, as far as it reaches.
            start = min(int(rng.integers(length)), len(ids) - length)
        if config.random_min_seq_len is not None:
            least = config.random_min_seq_len - config.num_wrapping_tokens
            length = int(rng.integers(min(least, length), length + 1))
        part = slice(start, start + length)
        return self.transform({**example, "ids": ids[part], "kinds": kinds[part]}, rng)


@dataclasses.dataclass(frozen=True)
class _Framing:
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
    def of(cls, config: TextDataConfig, tokenizer: Tokenizer) -> "_Framing":
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
        first, last = self.around
        ids = np.concatenate([[first], ids, [last]], dtype=np.int32)
        return ids, np.pad(kinds, 1, constant_values=TokenKind.SPECIAL)

    def pad(self, array: np.ndarray, value: Any) -> np.ndarray:
        """[n] → [L]."""
        padded = np.full(self.length, value, array.dtype)
        padded[: len(array)] = array
        return padded

    def mask(self, num_tokens: int) -> np.ndarray:
        """[L] bool, True on tokens."""
        return np.arange(self.length) < num_tokens


@dataclasses.dataclass(frozen=True)
class _MaskedRow:
    masking: Masking
    framing: _Framing
    seed: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        targets, kinds = self.framing.wrap(example["ids"], example["kinds"])
        ids, predicted = self.masking(targets, kinds, rng)
        pad = self.framing.pad
        return {
            "ids": pad(ids, self.framing.pad_id),
            "targets": pad(targets, self.framing.pad_id),
            "predicted": pad(predicted, False),
            "input_mask": self.framing.mask(len(ids)),
        }

    def fixed(self, example: Example) -> Example:
        """The same at every call with a row."""
        return self(example, np.random.default_rng((self.seed, example["index"])))


@dataclasses.dataclass(frozen=True)
class _LabelledRow:
    framing: _Framing

    def __call__(self, example: Example) -> Example:
        ids, _ = self.framing.wrap(example["ids"], example["kinds"])
        row = {
            "ids": self.framing.pad(ids, self.framing.pad_id),
            "input_mask": self.framing.mask(len(ids)),
            "label": np.int32(example["label"]),
        }
        return row | ({"target": example["target"]} if "target" in example else {})
