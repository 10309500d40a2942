"""Training side by side: the same batches, the same optimizer, in PyTorch and here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from interop.rows import Arrays, Row, load
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    bind,
    max_error,
    wanted,
)

STEPS = 20
TOLERANCE = 1e-8
LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON = 1e-2, 0.05, (0.9, 0.99), 1e-8

Batches = Sequence[Mapping[str, np.ndarray]]


def assert_same_training(
    reference: Any,
    their_loss: Callable[[Any, Mapping[str, Any]], Any],
    structure: Skeleton,
    our_loss: Callable[[Any, Mapping[str, Any]], Any],
    rows: Iterable[Row],
    batches: Batches,
    tolerance: float = TOLERANCE,
) -> None:
    """Trains both with AdamW from the same weights; losses and parameters must stay the same.

    Args:
        reference: a float64 torch model with its weights, which are changed.
        their_loss: (model, batch of tensors) → scalar.
        structure: our model, trained in inference mode: nothing is random.
        our_loss: (model, batch of arrays) → scalar.
        rows: pair the weights of both.
        batches: one per step, {name: array}.
        tolerance: largest difference of losses and parameters.
    """
    rows = list(rows)

    def parameters() -> Arrays:
        theirs = torch_models.state(reference)
        return load(rows, theirs, wanted(structure, np.float64))

    before = parameters()
    our_losses, ours = _train_ours(structure, our_loss, before, batches)
    their_losses = _train_theirs(reference, their_loss, batches)
    print(f"losses from {their_losses[0]:.3f} to {their_losses[-1]:.3f}")
    error = max_error(our_losses, their_losses)
    assert error <= tolerance, f"losses differ by {error:.1e}: {our_losses} {their_losses}"
    print(f"largest error of {len(batches)} losses: {error:.1e}")
    after = parameters()
    assert_same_arrays(ours, after, tolerance)
    # A parameter that did not move would be the same in any training.
    still = [path for path in structure.params if np.array_equal(before[path], after[path])]
    assert not still, f"these were not trained: {still}"


def _train_ours(
    structure: Skeleton, loss: Callable, arrays: Arrays, batches: Batches
) -> tuple[np.ndarray, Arrays]:
    optimizer = optax.adamw(
        LEARNING_RATE, b1=BETAS[0], b2=BETAS[1], eps=EPSILON, weight_decay=WEIGHT_DECAY
    )
    stats = {path: arrays[path] for path in structure.stats}

    def step(params, state, batch):
        value, gradients = jax.value_and_grad(
            lambda params: loss(bind(structure, {**params, **stats}), batch)
        )(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    step = jax.jit(step, compiler_options=QUICK_COMPILATION)
    params = {path: arrays[path] for path in structure.params}
    state = optimizer.init(params)
    losses = []
    for batch in batches:
        params, state, value = step(params, state, dict(batch))
        losses.append(value)
    return np.asarray(losses), {**params, **stats}


def _train_theirs(reference: Any, loss: Callable, batches: Batches) -> np.ndarray:
    import torch

    optimizer = torch.optim.AdamW(
        reference.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=WEIGHT_DECAY,
    )
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        value = loss(reference, {name: torch.from_numpy(np.array(x)) for name, x in batch.items()})
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return np.asarray(losses)
