"""Our side of a comparison."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.workload import LEARNING_RATE, WEIGHT_DECAY, Loaded, Workload
from perceiver_jax import models, params
from perceiver_jax.models import release
from perceiver_jax.train.optim import OptimizerConfig, learning_rate_schedule, make_optimizer
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.step import make_train_step
from perceiver_jax.train.tasks import ImageClassification
from perceiver_jax.typing import Array, Model


def load(folder: Path, workload: Workload) -> Loaded:
    """Reads a model as `Release.save` wrote it, and compiles the work.

    Raises:
        UserError: the folder holds no release.
    """
    model: Any = release.read(folder).model()
    batch = _place(workload.batch(0))
    if workload.kind == "train_step":
        return _train_step(model, batch)
    function = jax.jit(cross_attend if workload.kind == "cross_attention" else _forward)
    return Loaded(
        place=_place,
        run=lambda batch: jax.block_until_ready(function(model, batch["image"])),
        facts=_facts(model, function.lower(model, batch["image"])),
    )


def cross_attend(model: Any, images: Array) -> Array:
    """[B, *grid, c] images → [B, N, D] latents after the first cross-attention layer."""
    encoder = model.encoder
    tokens = encoder.input_adapter(images)
    return encoder.cross_attention[0](encoder.latents[...][None], tokens)


def _forward(model: Model, images: Array) -> Any:
    return model(images)


def _train_step(model: Any, batch: Any) -> Loaded:
    """The step of `perceiver_jax.train`, with the metrics that it logs."""
    config = OptimizerConfig(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, no_decay=())
    optimizer = make_optimizer(config, num_steps=1)
    step = make_train_step(
        ImageClassification(),
        models.skeleton(model.config),
        optimizer,
        seed=0,
        learning_rate=learning_rate_schedule(config, num_steps=1),
    )
    step = jax.jit(step, donate_argnums=0)
    parameters, stats = params.flatten(model)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=parameters,
        stats=stats,
        opt_state=optimizer.init(parameters),
    )
    facts = _facts(model, step.lower(state, batch))

    def run(batch):
        nonlocal state
        state, metrics = jax.block_until_ready(step(state, batch))
        return metrics["loss"]

    return Loaded(place=_place, run=run, facts=facts)


def _place(batch: Any) -> Any:
    return jax.block_until_ready(jax.device_put(batch))


def _facts(model: Any, lowered: Any) -> dict[str, Any]:
    return {
        "num_parameters": params.count(params.flatten(model)[0]),
        "num_threads": len(os.sched_getaffinity(0)),
        "temporary_bytes": lowered.compile().memory_analysis().temp_size_in_bytes,
    }
