"""Shapes of a run's training batches, of which nothing is read where that can be helped.

- A batch of one example is made of synthetic data in place of the dataset, through the same code;
  with more examples only the first axis is longer.
- Other labelled data has shapes and classes of its own: its first examples are read.
"""

import dataclasses
import tempfile
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_jax.data import (
    FlowDataConfig,
    ImageDataConfig,
    MusicDataConfig,
    Shard,
    TextDataConfig,
    VideoDataConfig,
)
from perceiver_jax.data.image_sequences import ImageSequenceDataConfig
from perceiver_jax.data.pipeline import iterate
from perceiver_jax.train import parallel
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.tasks import Task
from perceiver_jax.typing import Batch


def batch_shapes(config: ExperimentConfig, mesh: Mesh) -> Batch:
    """The arrays of a batch of all devices, as shapes that say where they lie.

    Raises:
        UserError: the task does not take such data; or the data is read, and is not there.
    """
    sharding = parallel.batch_sharding(mesh)

    def shape(array: np.ndarray) -> jax.ShapeDtypeStruct:
        whole = (config.data.batch_size, *array.shape[1:])
        return parallel.place(jax.ShapeDtypeStruct(whole, array.dtype), sharding)

    with tempfile.TemporaryDirectory() as folder:
        batches = cast(Task, config.task).batches(
            _one_example(config, folder), training=True, seed=0, shard=Shard()
        )
        iterator = iterate(batches)
        try:
            return jax.tree.map(shape, jax.tree.map(np.asarray, dict(next(iterator))))
        finally:
            iterator.close()


def _one_example(config: ExperimentConfig, folder: str) -> Any:
    """Data with which a batch is one example; what has to be written goes to the folder."""
    changes: dict[str, Any] = {"batch_size": 1}
    match config.data:
        case ImageDataConfig():
            model = cast(Any, config.model)
            changes |= {
                "dataset": "synthetic",
                "synthetic_shape": model.encoder.image_shape,
                "synthetic_classes": model.decoder.num_classes,
            }
        case TextDataConfig():
            changes |= {"dataset": "synthetic", "tokenizer": "bytes", "stream": False}
            changes |= {"train_split": "train", "separator": "none", "cache_dir": folder}
            changes |= {"soft_labels": False}
        case MusicDataConfig():
            changes |= {"dataset": "synthetic", "cache_dir": folder, "train_split": "train"}
        case ImageSequenceDataConfig() | VideoDataConfig():
            changes |= {"dataset": "synthetic", "train_split": "train"}
        case FlowDataConfig():
            changes |= {"dataset": "synthetic", "textures": "noise", "train_split": "train"}
    return dataclasses.replace(config.data, **changes)
