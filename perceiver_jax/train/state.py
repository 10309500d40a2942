"""What a run carries from step to step."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from perceiver_jax import params
from perceiver_jax.train.averaging import averaged
from perceiver_jax.typing import Model, Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
        step: [] int32, steps done.
        params: trained parameters by path.
        stats: statistics (of batch norms) by path.
        opt_state: state of the optimizer for the parameters that are trained; its paths end with
            theirs.
    """

    step: jax.Array
    params: Params
    stats: Params
    opt_state: Any

    @property
    def model_params(self) -> Params:
        """Parameters of the model that is evaluated and saved: averages where there are any."""
        return averaged(self.params, self.opt_state)


def create(
    build: Callable[[], Model],
    optimizer: optax.GradientTransformation,
    trained: Collection[str] | None = None,
) -> TrainState:
    """A fresh state; call it under `jax.jit` so that it is made where it will live.

    Args:
        build: makes the model.
        optimizer: of the trained parameters.
        trained: their paths; None: all.
    """
    values, stats = params.flatten(build())
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=values,
        stats=stats,
        opt_state=optimizer.init(
            {path: x for path, x in values.items() if trained is None or path in trained}
        ),
    )
