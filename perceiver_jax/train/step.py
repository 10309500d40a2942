"""The training step and the evaluation step, as pure functions.

- The key of step n is folded from the run's seed and n, so a resumed run repeats nothing.
- The loss is a mean over whatever the task weighs it by (examples, tokens), also where the batch is
  dealt out in parts of different weight.
- Gradient accumulation deals a batch out into equal parts in a scan; with sharded batches each
  part keeps its share on every device. Batch norms see one part at a time, and update their
  statistics with each.
- A step that breaks down, of which any metric is not finite, changes nothing but the number of the
  step: what comes after it starts from the last good values.
"""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from perceiver_jax.params import flatten
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.tasks import Task
from perceiver_jax.typing import Batch, Key, Model, Params, Sums

Bind = Callable[[Params, Params], Model]
"""`Skeleton.bind`, or what moves parameters to where they are needed before."""
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
EvaluationStep = Callable[[Params, Params, Batch], Sums]


def make_train_step(
    task: Task,
    bind: Bind,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    accumulate: int = 1,
    learning_rate: optax.Schedule,
    trained: Collection[str] | None = None,
) -> TrainStep:
    """A function `(state, batch) → (state, metrics)`; jit it with the state donated.

    Args:
        task: whose loss is minimised.
        bind: makes the model of parameters and statistics.
        optimizer: of the trained parameters.
        seed: of the run.
        accumulate: parts that a batch is divided into.
        learning_rate: what to report.
        trained: paths of the parameters that are trained; None: all.

    Metrics are scalars: `loss`, the task's own, and `optim/...` norms of gradients, updates and
    parameters. Of a step that broke down they are those that it would have had.
    """

    def loss_and_gradients(params, stats, batch, key):
        """Gradients of the sum of losses, statistics, metrics."""
        learning = {path: params[path] for path in trained or params}

        def loss(learning):
            model = bind({**params, **learning}, stats)
            sums = task.loss(model, batch, key)
            return sums["loss"][0], (sums, flatten(model)[1])

        gradients, (sums, stats) = jax.grad(loss, has_aux=True)(learning)
        return gradients, stats, sums

    def train_step(state: TrainState, batch: Batch):
        # Initial values are drawn from the seed's own key, steps from another.
        steps_key = jax.random.split(jax.random.key(seed))[1]
        key = jax.random.fold_in(steps_key, state.step)
        if accumulate == 1:
            gradients, stats, sums = loss_and_gradients(state.params, state.stats, batch, key)
        else:
            gradients, stats, sums = _accumulate(loss_and_gradients, state, batch, key, accumulate)
        weight = sums["loss"][1]
        gradients = jax.tree.map(lambda g: g / weight.astype(g.dtype), gradients)
        learning = {path: state.params[path] for path in gradients}
        updates, opt_state = optimizer.update(gradients, state.opt_state, learning)
        changed: Any = optax.apply_updates(learning, updates)
        params = {**state.params, **changed}
        metrics = {name: total / weight for name, (total, weight) in sums.items()}
        metrics |= {
            "optim/learning_rate": jnp.asarray(learning_rate(state.step), jnp.float32),
            "optim/gradient_norm": optax.tree.norm(gradients),
            "optim/update_norm": optax.tree.norm(updates),
            "optim/parameter_norm": optax.tree.norm(params),
        }
        finite = jnp.stack([jnp.isfinite(value) for value in metrics.values()]).all()
        kept = _chosen(
            finite, (params, stats, opt_state), (state.params, state.stats, state.opt_state)
        )
        return TrainState(state.step + 1, *kept), metrics

    return train_step


def _chosen(finite: jax.Array, new: Any, old: Any) -> Any:
    """The new tree after a good step, else the old one, but for the place in the schedule."""

    def place(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    def choose(new: Any, old: Any) -> Any:
        return new if place(new) or new is old else jnp.where(finite, new, old)

    return jax.tree.map(choose, new, old, is_leaf=place)


def _accumulate(loss_and_gradients, state: TrainState, batch: Batch, key: Key, num_parts: int):
    """Summed gradients and metrics over equal parts of a batch."""

    def deal(x):
        # Every num_parts-th example goes to the same part: a sharded first axis stays sharded.
        return x.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1)

    def body(carry, part):
        gradients, stats = carry
        part_batch, part_key = part
        new, stats, sums = loss_and_gradients(state.params, stats, part_batch, part_key)
        return (jax.tree.map(jnp.add, gradients, new), stats), sums

    parts = (jax.tree.map(deal, batch), jax.random.split(key, num_parts))
    first = jax.tree.map(lambda x: x[0], parts)
    shapes, _, _ = jax.eval_shape(loss_and_gradients, state.params, state.stats, *first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (gradients, stats), sums = jax.lax.scan(body, (zeros, state.stats), parts)
    return gradients, stats, jax.tree.map(lambda s: s.sum(0), sums)


def make_evaluation_step(task: Task, bind: Bind) -> EvaluationStep:
    """A function `(params, stats, batch) → sums` without dropout; jit it."""

    def evaluation_step(params: Params, stats: Params, batch: Any) -> Sums:
        return task.evaluate(bind(params, stats), batch)

    return evaluation_step
