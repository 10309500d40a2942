"""What a run compiles, from its config alone: the shapes of its state, where they lie, its step.

Nothing is computed or allocated here, so that a run can be looked at before it is started, also one
for other devices than these.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
from jax.sharding import Mesh

from perceiver_jax import models
from perceiver_jax.params import Skeleton
from perceiver_jax.train import parallel, state
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.optim import learning_rate_schedule, make_optimizer
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.step import make_evaluation_step, make_train_step
from perceiver_jax.train.tasks import Task
from perceiver_jax.typing import Batch, Model, Params, Sums


@dataclasses.dataclass(frozen=True)
class Program:
    """A run before it has numbers.

    Attributes:
        skeleton: of the model.
        trained: paths of the parameters that are trained.
        mesh: of the devices.
        shardings: where each part of the state lies, in the form of a `TrainState`.
        shapes: of the state; they say where their arrays lie.
        create: makes a fresh state where it lies; jitted.
        train_step: `(state, batch) → (state, metrics)`; jitted, and the state is donated.
        evaluation_step: `(params, stats, batch) → sums`; jitted.
    """

    skeleton: Skeleton
    trained: Sequence[str]
    mesh: Mesh
    shardings: Any
    shapes: TrainState
    create: Callable[[], TrainState]
    train_step: Any
    evaluation_step: Any


def make_program(config: ExperimentConfig, mesh: Mesh) -> Program:
    """The program of a run on a mesh of devices.

    Raises:
        UserError: nothing would be trained, or parameters cannot be divided as the config says.
    """
    task, skeleton = cast(Task, config.task), models.skeleton(config.model)
    fixed = models.fixed_parameters(config.model)
    trained = config.optimizer.trained(skeleton.params, fixed=fixed)
    optimizer = make_optimizer(config.optimizer, config.num_steps)

    def create() -> TrainState:
        key = jax.random.key(config.seed)
        return state.create(lambda: models.build(config.model, key), optimizer, trained)

    shapes = jax.eval_shape(create)
    shardings = parallel.state_shardings(shapes, mesh, config.parallel)

    def bind(params: Params, stats: Params) -> Model:
        return skeleton.bind(parallel.gathered(params, mesh, config.parallel), stats)

    step = make_train_step(
        task,
        bind,
        optimizer,
        seed=config.seed,
        accumulate=config.optimizer.accumulate,
        learning_rate=learning_rate_schedule(config.optimizer, config.num_steps),
        trained=trained,
    )

    def train_step(train_state: TrainState, batch: Batch):
        return step(train_state, parallel.divide_inputs(batch, mesh, config.parallel))

    evaluate = make_evaluation_step(task, bind)

    def evaluation_step(params: Params, stats: Params, batch: Batch) -> Sums:
        return evaluate(params, stats, parallel.divide_inputs(batch, mesh, config.parallel))

    return Program(
        skeleton=skeleton,
        trained=trained,
        mesh=mesh,
        shardings=shardings,
        shapes=jax.tree.map(parallel.place, shapes, shardings),
        create=jax.jit(create, out_shardings=shardings),
        train_step=jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, None)),
        evaluation_step=jax.jit(evaluation_step),
    )
