"""Our side of a comparison."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import LEARNING_RATE, WEIGHT_DECAY, Data, Kind, Loaded, Workload
from perceiver_jax import models, params
from perceiver_jax.generate import CHUNK, stream
from perceiver_jax.models import release
from perceiver_jax.sampling import GREEDY
from perceiver_jax.train.optim import OptimizerConfig, learning_rate_schedule, make_optimizer
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.step import make_train_step
from perceiver_jax.train.tasks import (
    CausalModelling,
    ImageClassification,
    MaskedLanguageModelling,
    OpticalFlowEstimation,
    Task,
)
from perceiver_jax.typing import Array, Model


@dataclasses.dataclass(frozen=True)
class Training:
    """How a model of some data is trained.

    Attributes:
        task: whose loss is minimised.
        batch: what that task takes, from what `Workload.batch` gives.
    """

    task: Task
    batch: Callable[[dict[str, np.ndarray]], dict[str, Any]]


def _image_batch(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"image": batch["inputs"], "label": batch["targets"]}


def _token_batch(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every position is predicted, none is padding."""
    return {
        "ids": batch["inputs"],
        "targets": batch["targets"],
        "predicted": np.ones(batch["targets"].shape, bool),
        "input_mask": None,
    }


def _frame_batch(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    flow = batch["targets"]
    return {"frames": batch["inputs"], "flow": flow, "valid": np.ones(flow.shape[:-1], bool)}


TRAINING: dict[Data, Training] = {
    "images": Training(ImageClassification(), _image_batch),
    "tokens": Training(MaskedLanguageModelling(), _token_batch),
    "sequences": Training(CausalModelling(), _token_batch),
    "frames": Training(OpticalFlowEstimation(), _frame_batch),
}
"""How models are trained, by what they take."""


def load(folder: Path, workload: Workload) -> Loaded:
    """Reads a model as `Release.save` wrote it, and compiles the work.

    Raises:
        UserError: the folder holds no release.
    """
    # A program from a cache would take no time to compile.
    jax.config.update("jax_enable_compilation_cache", False)
    model: Any = release.read(folder).model()
    if workload.kind in OF_KIND:
        return OF_KIND[workload.kind](model, workload)
    forward = FORWARD.get(workload.data, _forward)
    function = jax.jit(cross_attend if workload.kind == "cross_attention" else forward)
    compiled, facts = _compile(model, function, model, _inputs(workload.batch(0)))
    return Loaded(
        place=_inputs,
        run=lambda inputs: jax.block_until_ready(compiled(model, inputs)),
        facts=facts,
    )


def cross_attend(model: Any, inputs: Array) -> Array:
    """[B, *grid, c] images or [B, M] ids → [B, N, D] latents after the first cross-attention."""
    encoder = model.encoder
    tokens = encoder.input_adapter(inputs)
    return encoder.cross_attention[0](encoder.latents[...][None], tokens)


def _forward(model: Model, inputs: Array) -> Any:
    return model(inputs)


def _decode_chunk(model: Any, inputs: dict[str, Any]) -> Array:
    """Answers of all modalities, in the order of their names, [B, numbers]."""
    answers = model(**inputs)
    return jnp.concatenate([jax.lax.collapse(x, 1) for _, x in sorted(answers.items())], axis=1)


FORWARD: dict[Data, Callable[[Any, Any], Array]] = {"clips": _decode_chunk}
"""From a model and inputs to outputs, by what models take; all others are called with inputs."""


def _train_step(model: Any, workload: Workload) -> Loaded:
    """The step of `perceiver_jax.train`, with the metrics that it logs."""
    training = TRAINING[workload.data]
    config = OptimizerConfig(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, no_decay=())
    optimizer = make_optimizer(config, num_steps=1)
    step = make_train_step(
        training.task,
        models.skeleton(model.config).bind,
        optimizer,
        seed=0,
        learning_rate=learning_rate_schedule(config, num_steps=1),
    )
    parameters, stats = params.flatten(model)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=parameters,
        stats=stats,
        opt_state=optimizer.init(parameters),
    )

    def place(batch):
        return _place(training.batch(batch))

    compiled, facts = _compile(
        model, jax.jit(step, donate_argnums=0), state, place(workload.batch(0))
    )

    def run(batch):
        nonlocal state
        state, metrics = jax.block_until_ready(compiled(state, batch))
        return metrics["loss"]

    return Loaded(place=place, run=run, facts=facts)


def _prefill(model: Any, workload: Workload) -> Loaded:
    """The call that begins a continuation; its output are logits, its cache is made as well."""

    def begin(model, ids, mask):
        logits, _, cache = model.prefill(ids, mask, num_latents=workload.num_latents, num_steps=0)
        return logits, cache

    def place(batch):
        ids = batch["inputs"].astype(np.int32)
        return _place((ids, np.ones(ids.shape, bool)))

    compiled, facts = _compile(model, jax.jit(begin), model, *place(workload.batch(0)))
    return Loaded(
        place=place,
        run=lambda placed: jax.block_until_ready(compiled(model, *placed))[0],
        facts=facts,
    )


def _decode(model: Any, workload: Workload) -> Loaded:
    """`generate` after its first token; what it compiles is compiled in the first call."""

    def place(batch):
        steps = stream(
            model,
            batch["inputs"],
            max_new_tokens=1 + workload.num_new_tokens,
            num_latents=workload.num_latents,
            sampling=GREEDY,
            at_once=CHUNK,
        )
        next(steps)
        return steps

    def run(steps):
        return np.concatenate(list(steps), axis=1)[:, : workload.num_alike]

    return Loaded(place=place, run=run, facts=_facts(model))


OF_KIND: dict[Kind, Callable[[Any, Workload], Loaded]] = {
    "train_step": _train_step,
    "prefill": _prefill,
    "decode": _decode,
}
"""Kinds of work that are more than a function of parameters and inputs."""


def _inputs(batch: dict[str, np.ndarray]) -> Any:
    return _place(batch["inputs"])


def _place(batch: Any) -> Any:
    return jax.block_until_ready(jax.device_put(batch))


def _compile(model: Any, function: Any, *arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A function compiled for arguments like these, and the facts about it and its model."""
    start = time.perf_counter()
    lowered = function.lower(*arguments)
    middle = time.perf_counter()
    compiled = lowered.compile()
    facts = _facts(model) | {
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "lower_seconds": middle - start,
        "compile_seconds": time.perf_counter() - middle,
    }
    return compiled, facts


def _facts(model: Any) -> dict[str, Any]:
    return {
        "num_parameters": params.count(params.flatten(model)[0]),
        "num_threads": len(os.sched_getaffinity(0)),
    }
