"""Held-out metrics and pictures of a model, as training makes them between steps."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import grain
import jax
import numpy as np

from perceiver_jax.command import compilation_told_as
from perceiver_jax.data import Shard
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.train import parallel
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.metrics import average
from perceiver_jax.train.program import Program
from perceiver_jax.train.tasks import Media, Task
from perceiver_jax.typing import Batch, Params


class Evaluator:
    """Evaluates parameters on the held-out split.

    Args:
        config: of the run.
        program: of the run.

    Raises:
        DatasetError: the split is not there or has no examples.
    """

    def __init__(self, config: ExperimentConfig, program: Program):
        # The last batch is padded anyway, so any size can be made to divide over the devices.
        size = parallel.round_up(config.data.eval_batch_size)
        data = dataclasses.replace(config.data, eval_batch_size=size)
        config = dataclasses.replace(config, data=data)
        self._config, self._program = config, program
        self._task = cast(Task, config.task)
        self._batches = self._open(Shard(jax.process_index(), jax.process_count()))

    def metric_names(self) -> list[str]:
        """Names of the metrics, without running the model."""
        shapes = self._program.shapes
        step = self._program.evaluation_step
        return sorted(jax.eval_shape(step, shapes.params, shapes.stats, self._whole_batch()))

    def metrics(self, params: Params, stats: Params) -> dict[str, float]:
        """Metrics over every held-out example."""
        return average(
            self._program.evaluation_step(params, stats, batch) for batch in self._one_pass()
        )

    def show(self, params: Params, stats: Params) -> Media:
        """Pictures and texts of the first held-out examples, the same on every process."""
        first: Any = self._open(Shard())[0]
        model = self._program.skeleton.bind(params, stats)
        with compilation_told_as("the programs that show examples"):
            return self._task.show(model, first, self._config.data)

    def _whole_batch(self) -> Batch:
        """Shapes of a batch of all processes."""

        def whole(part: np.ndarray) -> jax.ShapeDtypeStruct:
            size = len(part) * jax.process_count()
            return jax.ShapeDtypeStruct((size, *part.shape[1:]), part.dtype)

        first: Any = self._batches[0]
        return jax.tree.map(lambda part: whole(np.asarray(part)), dict(first))

    def _open(self, shard: Shard) -> grain.MapDataset:
        config = self._config
        batches = self._task.batches(config.data, training=False, seed=config.seed, shard=shard)
        return cast(grain.MapDataset, batches)

    def _one_pass(self) -> Iterator[Batch]:
        with contextlib.closing(iterate(self._batches)) as iterator:
            for batch, _ in parallel.read_ahead(iterator, self._program.mesh):
                yield batch
