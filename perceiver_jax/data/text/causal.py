"""Text batches for causal models, which predict each token from those before it.

- `{"ids", "targets": [B, L] int32, "input_mask", "predicted": [B, L] bool}`, see `causal_rows`;
  evaluation adds `"mask": [B]`, see `pipeline`. L is always `max_seq_len`.
- A row has one token more than the model reads: the last is only ever predicted.
"""

import dataclasses

import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.causal_rows import causal_row
from perceiver_jax.data.pipeline import Batches, Example, Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.batches import check_enough, open_rows, open_tokenizer
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.prepared import PreparedRows
from perceiver_jax.data.text.rows import Framing, RandomCut, Rows, check_unlabelled
from perceiver_jax.data.text.stream import streamed_batches


def causal_batches(config: TextDataConfig, *, training: bool, seed: int, shard: Shard) -> Batches:
    """Training or evaluation batches for causal models, see `pipeline`.

    By position, except for training with `stream`, see `stream`. Rows of a single token, after
    which nothing comes, are left out.

    Raises:
        DatasetError: the dataset is not there, or not what the config says; or `soft_labels`,
            which are of classes, are asked for.
        TokenizerError: the tokenizer lacks a token that is needed.

    Source: krasserm `TextDataModule` with task "clm".
    """
    check_unlabelled(config, "causal language modelling")
    if training and config.stream:
        return streamed_batches(config, seed=seed, shard=shard)
    transform = _CausalRow(Framing.of(config, open_tokenizer(config)))
    split = config.train_split if training else config.eval_split
    rows = open_rows(config, split, row_length=config.max_seq_len + 1)
    chosen = _with_targets(config, rows, split)
    if not training:
        return pipeline.evaluation_batches(
            Rows(rows, chosen=chosen), transform, batch_size=config.eval_batch_size, shard=shard
        )
    cut = RandomCut.of(config, lambda row, rng: transform(row), num_following=1)
    source = Rows(rows, beyond=cut.length if config.random_shift else 0, chosen=chosen)
    check_enough(config, source)
    return pipeline.training_batches(
        source,
        cut,
        batch_size=config.batch_size,
        seed=seed,
        shard=shard,
    )


def _with_targets(config: TextDataConfig, rows: PreparedRows, split: str) -> np.ndarray | None:
    """Indices of the rows that have something to predict; None where all of them have."""
    enough = np.diff(rows.offsets) + config.num_wrapping_tokens > 1
    if enough.all():
        return None
    if not enough.any():
        raise DatasetError(
            f"no row of split '{split}' of '{config.dataset}' has two tokens, of which the second "
            "could be predicted; choose another split or other files"
        )
    return np.flatnonzero(enough)


@dataclasses.dataclass(frozen=True)
class _CausalRow:
    framing: Framing

    def __call__(self, example: Example) -> Example:
        framing = self.framing
        tokens = framing.wrap_ids(example["ids"])
        return causal_row(tokens, length=framing.length, pad_id=framing.pad_id)
