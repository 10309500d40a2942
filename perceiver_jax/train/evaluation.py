"""Held-out metrics and pictures of a model, as training makes them between steps."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import grain
import jax
from jax.sharding import Mesh

from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.params import Skeleton
from perceiver_jax.train import parallel
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.metrics import average
from perceiver_jax.train.step import make_evaluation_step
from perceiver_jax.train.tasks import Media, Task
from perceiver_jax.typing import Batch, Params


class Evaluator:
    """Evaluates parameters on the held-out split.

    Args:
        config: of the run.
        skeleton: of the model.
        mesh: devices.

    Raises:
        DatasetError: the split is not there or has no examples.
    """

    def __init__(self, config: ExperimentConfig, skeleton: Skeleton, mesh: Mesh):
        # The last batch is padded anyway, so any size can be made to divide over the devices.
        size = parallel.round_up(config.data.eval_batch_size)
        data = dataclasses.replace(config.data, eval_batch_size=size)
        config = dataclasses.replace(config, data=data)
        self._config, self._skeleton, self._mesh = config, skeleton, mesh
        self._task = cast(Task, config.task)
        self._batches = self._open(Shard(jax.process_index(), jax.process_count()))
        self._step = jax.jit(make_evaluation_step(self._task, skeleton))

    def metric_names(self) -> list[str]:
        """Names of the metrics, without running the model."""
        shapes = self._skeleton.params, self._skeleton.stats
        return sorted(jax.eval_shape(self._step, *shapes, self._batches[0]))

    def metrics(self, params: Params, stats: Params) -> dict[str, float]:
        """Metrics over every held-out example."""
        return average(self._step(params, stats, batch) for batch in self._one_pass())

    def show(self, params: Params, stats: Params) -> Media:
        """Pictures and texts of the first held-out examples, the same on every process."""
        first: Any = self._open(Shard())[0]
        model = self._skeleton.bind(params, stats)
        return self._task.show(model, first, self._config.data)

    def _open(self, shard: Shard) -> grain.MapDataset:
        config = self._config
        batches = self._task.batches(config.data, training=False, seed=config.seed, shard=shard)
        return cast(grain.MapDataset, batches)

    def _one_pass(self) -> Iterator[Batch]:
        with contextlib.closing(iterate(self._batches)) as iterator:
            for batch, _ in parallel.read_ahead(iterator, self._mesh):
                yield batch
