"""The copy task: a row of random bytes and its mirror image, which a model is to say by heart.

- `{"ids", "targets": [B, L] int32, "input_mask", "predicted": [B, L] bool}`, see `causal_rows`;
  evaluation adds `"mask": [B]`. L is `seq_len - 1`: the last token of a row is only predicted.
- A row is SOS, (seq_len - 2) / 2 random bytes, the same bytes from last to first, EOS.
- Only the mirror image is predicted: the first half cannot be known.

Source: perceiver-ar `RandomMirroredDataset`.
"""

import dataclasses
import sys

import grain
import numpy as np

from perceiver_jax.config import setting
from perceiver_jax.data import pipeline
from perceiver_jax.data.marked_bytes import EOS_ID, FIRST_VALUE_ID, PAD_ID, SOS_ID, VOCAB_SIZE
from perceiver_jax.data.pipeline import Example, Shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyTaskConfig:
    """Rows of the copy task: how long, and how many at once."""

    seq_len: int = setting(32, "tokens of a row, its two markers included; an even number")
    batch_size: int = setting(64, "training rows per step, over all devices")
    eval_batch_size: int = setting(128, "held-out rows per step, over all devices")
    num_eval: int = setting(1024, "held-out rows, the same for every run and seed")
    random_min_seq_len: int | None = setting(
        None,
        "training sees the beginnings of rows, of a random length from this to seq_len - 1; "
        "None: whole rows",
    )

    @property
    def dataset(self) -> str:
        """What a model was trained on, for its card."""
        return f"the copy task of length {self.seq_len:,}"

    def __post_init__(self):
        if min(self.batch_size, self.eval_batch_size, self.num_eval) < 1:
            raise ValueError(
                f"batch_size={self.batch_size}, eval_batch_size={self.eval_batch_size} and "
                f"num_eval={self.num_eval} must be 1 or more"
            )
        if self.seq_len < 4 or self.seq_len % 2:
            raise ValueError(f"seq_len={self.seq_len} must be an even number of 4 or more")
        least = self.random_min_seq_len
        if least is not None and not self.seq_len // 2 <= least < self.seq_len:
            raise ValueError(
                f"random_min_seq_len={least} is not from {self.seq_len // 2}, with which something "
                f"is predicted, to {self.seq_len - 1}"
            )


def copy_batches(
    config: CopyTaskConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`.

    A training batch is a function of the seed, its position and the process, and all are new.

    Raises:
        UserError: a batch cannot be divided over the processes.
    """
    if training:
        return grain.MapDataset.source(_TrainingBatches(config, seed, shard))
    return pipeline.evaluation_batches(
        _HeldOut(config), dict, batch_size=config.eval_batch_size, shard=shard
    )


class _TrainingBatches:
    """A source of whole batches: short rows one by one take far longer."""

    def __init__(self, config: CopyTaskConfig, seed: int, shard: Shard):
        self._config, self._seed, self._process = config, seed, shard.index
        self._size = shard.batch_size(config.batch_size)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((_TRAINING, self._seed, index, self._process))
        tokens = _mirrored(self._config, self._size, rng)
        least, most = self._config.random_min_seq_len, self._config.seq_len - 1
        lengths = rng.integers(least or most, most + 1, self._size)
        return _rows(self._config, tokens, lengths)


class _HeldOut:
    """A source of held-out rows."""

    class_names: tuple[str, ...] = ()

    def __init__(self, config: CopyTaskConfig):
        self._config = config

    def __len__(self) -> int:
        return self._config.num_eval

    def __getitem__(self, index: int) -> Example:
        tokens = _mirrored(self._config, 1, np.random.default_rng((_EVALUATION, index)))
        batch = _rows(self._config, tokens, np.array([self._config.seq_len - 1]))
        return {name: values[0] for name, values in batch.items()}


_EVALUATION, _TRAINING = 0, 1
"""First parts of seeds, so that no seed trains on held-out rows."""


def _mirrored(config: CopyTaskConfig, num_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Whole rows, [B, seq_len] int32."""
    shape = num_rows, (config.seq_len - 2) // 2
    half = rng.integers(FIRST_VALUE_ID, VOCAB_SIZE, shape, np.int32)
    first, last = (np.full((num_rows, 1), id, np.int32) for id in (SOS_ID, EOS_ID))
    return np.concatenate([first, half, half[:, ::-1], last], axis=1)


def _rows(config: CopyTaskConfig, tokens: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    """The beginnings of whole rows, of which `lengths` [B] tokens are read, as a model takes them.

    See `causal_rows`, which does the same with one row.
    """
    length, half = config.seq_len - 1, config.seq_len // 2 - 1
    # Of the token that is read; negative where the row is filled up.
    places = np.arange(length) - (length - lengths[:, None])
    there, read = places >= 0, np.maximum(places, 0)
    return {
        "ids": np.where(there, np.take_along_axis(tokens, read, 1), np.int32(PAD_ID)),
        "targets": np.where(there, np.take_along_axis(tokens, read + 1, 1), np.int32(PAD_ID)),
        "input_mask": there,
        "predicted": (half <= places) & (places < 2 * half),
    }
