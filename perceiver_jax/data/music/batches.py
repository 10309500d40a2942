"""Music batches: rows of events for models that predict the next one.

- `{"ids", "targets": [B, L] int32, "input_mask", "predicted": [B, L] bool}`: the target of an event
  is the one after it.
- L is always `max_seq_len`. Shorter rows are padded on the left; there both masks are False.
- Training cuts rows out of pieces at random; evaluation cuts each piece from its beginning, so that
  every event but the first of a piece is a target once. It adds `"mask": [B]`, see `pipeline`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.folders import prepared_folder
from perceiver_jax.data.music.augmentation import stretched, transposable, transposed
from perceiver_jax.data.music.config import MusicDataConfig
from perceiver_jax.data.music.performance import PAD_ID
from perceiver_jax.data.music.pieces import open_pieces
from perceiver_jax.data.music.prepared import PreparedPieces, prepare
from perceiver_jax.data.pipeline import Example, Shard


def open_events(config: MusicDataConfig, split: str) -> PreparedPieces:
    """Events of the pieces of a split, prepared where they are not yet, opened once.

    Raises:
        DatasetError: the dataset is not there, or not what the config says.
        MusicError: a file of it cannot be read.
    """
    return _opened(config.dataset, split, config.data_dir, config.cache_dir, config.every_velocity)


@functools.lru_cache(maxsize=8)
def _opened(
    dataset: str, split: str, data_dir: str | None, cache_dir: str | None, every_velocity: bool
) -> PreparedPieces:
    config = MusicDataConfig(dataset=dataset, data_dir=data_dir)
    into, what = prepared_folder(cache_dir), f"split '{split}' of '{dataset}'"
    pieces = open_pieces(config, split)
    return PreparedPieces(prepare(pieces, every_velocity=every_velocity, into=into, what=what))


def causal_batches(
    config: MusicDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches for models of the next event, see `pipeline`.

    Raises:
        DatasetError: the dataset is not there, or not what the config says.
        MusicError: a file of it cannot be read.
    """
    events = open_events(config, config.train_split if training else config.eval_split)
    rows = _Rows(events, config.max_seq_len)
    if not training:
        return pipeline.evaluation_batches(
            rows, _FixedRow(config), batch_size=config.eval_batch_size, shard=shard
        )
    return pipeline.training_batches(
        rows, _RandomRow(config), batch_size=config.batch_size, seed=seed, shard=shard
    )


class _Rows:
    """A source of pieces, each as often as rows fit into it."""

    class_names: tuple[str, ...] = ()

    def __init__(self, events: PreparedPieces, length: int):
        self._events = events
        self._ends = np.cumsum(np.maximum(1, -(-(events.lengths - 1) // length)))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        piece = int(np.searchsorted(self._ends, index, side="right"))
        first = self._ends[piece - 1] if piece else 0
        return {"events": self._events[piece], "row": index - int(first)}


@dataclasses.dataclass(frozen=True)
class _FixedRow:
    """Rows of a piece from its beginning, each from the last target of the one before."""

    config: MusicDataConfig

    def __call__(self, example: Example) -> Example:
        length = self.config.max_seq_len
        start = example["row"] * length
        return _padded(example["events"][start : start + length + 1], length)


@dataclasses.dataclass(frozen=True)
class _RandomRow:
    """A row out of anywhere in a piece, of random length where that is asked for, moved at random.

    Source: krasserm `SymbolicAudioNumpyDataset`.
    Differs: there a row is cut out of all pieces joined, of which the longest part of one is kept.
        Lengths are up to `max_seq_len`, there up to one less.
    """

    config: MusicDataConfig

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        config, events = self.config, example["events"]
        length = config.max_seq_len
        if config.min_seq_len is not None:
            length = int(rng.integers(config.min_seq_len, length + 1))
        # Also before the beginning and behind the end, which else would be in few of the rows.
        start = int(rng.integers(-length, len(events)))
        start = min(max(start, 0), max(len(events) - length - 1, 0))
        # A faster piece has fewer events that pass time: from more of it, as many as are needed.
        reach = 2 * length if config.stretch else length
        cut = self._moved(np.array(events[start : start + reach + 1]), rng)
        return _padded(cut[: length + 1], config.max_seq_len)

    def _moved(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        if config.stretch:
            ids = stretched(ids, rng.uniform(1.0 - config.stretch, 1.0 + config.stretch))
        if config.transpose:
            lowest, highest = transposable(ids)
            least, most = max(-config.transpose, lowest), min(config.transpose, highest)
            ids = transposed(ids, int(rng.integers(least, most + 1)))
        return ids


def _padded(events: np.ndarray, length: int) -> Example:
    """[n] events, length + 1 at most, as a row of [length] ids and targets."""
    missing = length - max(len(events) - 1, 0)
    ids, targets = np.full((2, length), PAD_ID, np.int32)
    ids[missing:], targets[missing:] = events[:-1], events[1:]
    known = np.arange(length) >= missing
    return {"ids": ids, "targets": targets, "input_mask": known, "predicted": known.copy()}
