"""From a source of weights to a model that is ready to call."""

import os
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import SingleDeviceSharding

from perceiver_jax.config import from_dict
from perceiver_jax.typing import Model


def load_checkpoint(
    workdir: str | os.PathLike[str], step: int | Literal["best"] | None = None
) -> Model:
    """The model of a training run.

    Args:
        workdir: working directory of the run.
        step: which checkpoint; None: the newest; "best": the best by held-out metric.

    Returns:
        The model with its trained parameters, on the first device; `model.config` tells what it
        is. Call it with arrays: `model(images)`, or `jax.jit(lambda m, x: m(x))(model, images)`.

    Raises:
        UserError: there is no checkpoint, or not that one.
    """
    from perceiver_jax import models
    from perceiver_jax.train.checkpoint import Checkpoints
    from perceiver_jax.train.config import ExperimentConfig

    checkpoints = Checkpoints(Path(workdir))
    found = checkpoints.find(step)
    config = from_dict(ExperimentConfig, checkpoints.config(found))
    structure = models.skeleton(config.model)
    values = checkpoints.restore_model(found, on_one_device((structure.params, structure.stats)))
    checkpoints.close()
    return structure.bind(*values)


def on_one_device(shapes: Any) -> Any:
    """The same shapes, to be placed on the first device of this process."""
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
