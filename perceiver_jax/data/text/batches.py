"""Text batches: rows of tokens, cut, wrapped, padded, and corrupted for masked language models.

- Masked: `{"ids", "targets": [B, L] int32, "predicted", "input_mask": [B, L] bool}`.
- Classification: `{"ids": [B, L] int32, "input_mask": [B, L] bool, "label": [B] int32}`, in
  training with `soft_labels` also `"target": [B, K] float32`, probabilities of the classes.
- Evaluation adds `"mask": [B]`, see `pipeline`. L is always `max_seq_len`.
"""

import dataclasses
import functools
import sys
from collections.abc import Sized

import grain
import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.folders import prepared_folder
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import open_documents
from perceiver_jax.data.text.masking import Masking, make_masking
from perceiver_jax.data.text.prepared import Plan, PreparedRows, prepare
from perceiver_jax.data.text.rows import (
    Framing,
    RandomCut,
    Rows,
    check_unlabelled,
)
from perceiver_jax.data.text.tokenizers import Tokenizer, load_tokenizer, required_token

WORTH_A_LINE = 0.01
"""Fraction of the text from which on it is said that it is cut away."""


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
    rows = PreparedRows(prepare(documents, tokenizer, plan, into=into, what=what))
    if rows.cut >= WORTH_A_LINE:
        remedy = "" if labels else "; with --config.data.layout=chunks it is read as well"
        print(
            f"{rows.cut:.1%} of the text of {what} is not read: documents of more than "
            f"{plan.length:,} tokens are cut at their end{remedy}",
            file=sys.stderr,
        )
    return rows


def check_enough(config: TextDataConfig, rows: Sized) -> None:
    """Raises a DatasetError where whole documents are too few rows for a batch of training."""
    if config.layout != "documents" or len(rows) >= config.batch_size:
        return
    whole_files = config.dataset.startswith("files:") and not config.document_per_line
    raise DatasetError(
        f"split '{config.train_split}' of '{config.dataset}' gives {len(rows)} of the "
        f"{config.batch_size} rows of a batch: with layout='documents' each document is one row"
        f"{', and a .txt file is one document' if whole_files else ''}; set "
        "--config.data.layout=chunks, which cuts all text into rows"
        f"{', or --config.data.document_per_line=True' if whole_files else ''}, or lower "
        "--config.data.batch_size"
    )


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
            which are of classes, or a `stream` are asked for.
        TokenizerError: the tokenizer lacks a token that is needed.
    """
    check_unlabelled(config, "masked language modelling")
    if config.stream:
        raise DatasetError(
            "stream=True is for causal language modelling: masked language modelling reads "
            "prepared rows; set --config.data.stream=False"
        )
    tokenizer = open_tokenizer(config)
    masking = make_masking(tokenizer, fraction=config.mask_fraction, whole_words=config.whole_words)
    transform = _MaskedRow(masking, Framing.of(config, tokenizer), seed)
    rows = open_rows(config, config.train_split if training else config.eval_split)
    if not training:
        return pipeline.evaluation_batches(
            Rows(rows), transform.fixed, batch_size=config.eval_batch_size, shard=shard
        )
    check_enough(config, rows)
    static, cut = config.masking == "static", RandomCut.of(config, transform)
    return pipeline.training_batches(
        Rows(rows, beyond=cut.length if config.random_shift else 0),
        (lambda row, rng: transform.fixed(row)) if static else cut,
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
    transform = _LabelledRow(Framing.of(config, open_tokenizer(config)))
    split = config.train_split if training else config.eval_split
    prepared = open_rows(config, split, labels=True)
    if config.soft_labels and not len(prepared.targets):
        raise DatasetError(
            f"dataset '{config.dataset}' knows no probabilities of its classes; set "
            "--config.data.soft_labels=False"
        )
    rows = Rows(prepared, targets=config.soft_labels and training)
    if not training:
        return pipeline.evaluation_batches(
            rows, transform, batch_size=config.eval_batch_size, shard=shard
        )
    return pipeline.training_batches(
        rows,
        RandomCut.of(config, lambda row, rng: transform(row)),
        batch_size=config.batch_size,
        seed=seed,
        shard=shard,
    )


@dataclasses.dataclass(frozen=True)
class _MaskedRow:
    masking: Masking
    framing: Framing
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
    framing: Framing

    def __call__(self, example: Example) -> Example:
        ids, _ = self.framing.wrap(example["ids"], example["kinds"])
        row = {
            "ids": self.framing.pad(ids, self.framing.pad_id),
            "input_mask": self.framing.mask(len(ids)),
            "label": np.int32(example["label"]),
        }
        return row | ({"target": example["target"]} if "target" in example else {})
