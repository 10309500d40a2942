"""A running average of the parameters: what is evaluated and saved as the model, where it is on.

It is kept in the state of the optimizer, so that it is divided over devices, saved, restored and,
after a step that breaks down, withheld like everything else there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from perceiver_jax.typing import Params


class Average(NamedTuple):
    """State of `average_params`: updates counted, and the average by path."""

    count: jax.Array
    average: Params


def average_params(decay: float) -> optax.GradientTransformation:
    """Leaves updates as they are, and averages the parameters that they lead to.

    Args:
        decay: part of the average that a step keeps, in (0, 1); after n updates, when the average
            is young, no more than (1 + n) / (10 + n).

    Source: TensorFlow `ExponentialMovingAverage` with `num_updates`.
    """

    def init(params: Any) -> Average:
        return Average(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Average]:
        count = state.count + 1
        kept = jnp.minimum(decay, (1 + count) / (10 + count))
        new: Any = optax.apply_updates(params, updates)
        average = jax.tree.map(
            lambda old, x: (kept * old + (1 - kept) * x).astype(x.dtype), state.average, new
        )
        return updates, Average(count, average)

    return optax.GradientTransformation(init, update)


def averaged(params: Params, opt_state: Any) -> Params:
    """Parameters, those that are averaged replaced by their averages."""

    def is_average(node: Any) -> bool:
        return isinstance(node, Average)

    found = [x for x in jax.tree.leaves(opt_state, is_leaf=is_average) if is_average(x)]
    return {**params, **found[0].average} if found else params
