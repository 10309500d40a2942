"""From a source to batches, with grain: shuffle, shard over processes, transform, batch.

- Everything is a function of (seed, position): a run resumes by position and sees the same batches.
- Training repeats and reshuffles forever; evaluation passes once, padded to whole batches.
- Reader threads, not processes: OpenCV and NumPy release the interpreter lock.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from perceiver_jax.data.sources import Source
from perceiver_jax.errors import UserError

Example = Mapping[str, Any]
ROW = "row"
Batches = grain.MapDataset | grain.IterDataset
"""By position; or, of what is too large for that, one after the other."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which part of the data this process reads.

    Attributes:
        index: this process, from 0.
        count: processes.
    """

    index: int = 0
    count: int = 1

    def batch_size(self, total: int) -> int:
        """This process' part of a batch of all processes."""
        if total % self.count:
            raise UserError(
                f"a batch of {total} cannot be divided over {self.count} processes; choose a "
                "multiple of them"
            )
        return total // self.count


def training_batches(
    source: Source | Sequence[Any],
    transform: Callable[[Any, np.random.Generator], Example],
    *,
    batch_size: int,
    seed: int,
    shard: Shard,
    numbered: bool = False,
) -> grain.MapDataset:
    """Endless shuffled batches by position.

    Args:
        source: examples, or their numbers where the transform reads them.
        transform: makes an example ready, with randomness of its own.
        batch_size: over all processes.
        seed: of order and transforms.
        shard: which part this process reads.
        numbered: whether the transform is told the example's place in the batch of all processes,
            as `ROW`.

    Returns:
        Batches `{name: [batch, ...]}`.

    Raises:
        UserError: there are fewer examples than one batch takes.
    """
    if len(source) < batch_size:
        raise UserError(
            f"the training split has {len(source)} examples, fewer than one batch of {batch_size}; "
            "lower --config.data.batch_size"
        )
    examples = grain.MapDataset.source(source).seed(seed).shuffle().repeat(None)
    if numbered:
        examples = examples.map_with_index(lambda i, example: {**example, ROW: i % batch_size})
    return (
        examples
        # Before the division, so that rows draw the same numbers whatever the processes.
        .random_map(transform)[shard.index :: shard.count].batch(
            shard.batch_size(batch_size), drop_remainder=True
        )
    )


def evaluation_batches(
    source: Source | Sequence[Any],
    transform: Callable[[Any], Example],
    *,
    batch_size: int,
    shard: Shard,
) -> grain.MapDataset:
    """Each example once, in order, in batches of one size.

    Args:
        source: examples, or their numbers where the transform reads them.
        transform: makes an example ready.
        batch_size: over all processes.
        shard: which part this process reads.

    Returns:
        Batches `{name: [batch, ...], "mask": [batch] bool}`; the mask is False on examples that
        only fill the last batch.
    """
    return grain.MapDataset.source(_Padded(source, transform, batch_size))[
        shard.index :: shard.count
    ].batch(shard.batch_size(batch_size), drop_remainder=True)


def iterate(dataset: Batches, *, num_threads: int = 8) -> grain.DatasetIterator:
    """A checkpointable iterator that reads ahead on the host; close it when done.

    A dataset that is not by position is read by one thread.
    """
    if isinstance(dataset, grain.IterDataset):
        ahead = grain.experimental.ThreadPrefetchIterDataset(
            dataset, prefetch_buffer_size=2 * num_threads
        )
        return iter(ahead)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    return iter(dataset.to_iter_dataset(options))


class _Padded:
    """A source of ready examples whose length is a multiple of the batch size."""

    def __init__(
        self, source: Source | Sequence[Any], transform: Callable[[Any], Example], multiple: int
    ):
        self._source, self._transform = source, transform
        self._length = -(-len(source) // multiple) * multiple

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        real = index < len(self._source)
        example = self._transform(self._source[index if real else 0])
        return {**example, "mask": np.bool_(real)}
