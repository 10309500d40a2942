"""Devices: one mesh, and where parameters, batches and states lie on it.

- Models carry no sharding words; what lies where is decided by path and shape, see
  `sharding_rules`.
- The mesh axes are of type Auto: the compiler chooses how intermediate results lie.
- Parameters are copied to every device unless a rule divides them, or the `fsdp` axis is larger
  than one, which divides every large parameter along its largest divisible axis.
- Batches lie on the devices by examples; a step divides inputs further, where they are.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perceiver_jax.errors import UserError
from perceiver_jax.params import matching
from perceiver_jax.train.averaging import Average
from perceiver_jax.train.sharding_rules import (
    AXES,
    OF_EXAMPLES,
    ParallelConfig,
    batch_specs,
    parameter_spec,
    without_examples,
)
from perceiver_jax.train.state import TrainState
from perceiver_jax.typing import Batch, Params


def make_mesh(config: ParallelConfig) -> Mesh:
    """All devices as a `data` × `fsdp` × `tensor` grid.

    Raises:
        UserError: `fsdp` and `tensor` do not divide the number of devices.
    """
    count, local = jax.device_count(), jax.local_device_count()
    if count % (config.fsdp * config.tensor):
        raise UserError(
            f"parallel.fsdp={config.fsdp} times parallel.tensor={config.tensor} does not divide "
            f"the {count} devices; choose divisors"
        )
    if local % config.tensor:
        raise UserError(
            f"parallel.tensor={config.tensor} does not divide the {local} devices of a process, "
            "and each process reads examples of its own; choose a divisor, or start fewer "
            "processes with more devices each"
        )
    shape = (count // config.fsdp // config.tensor, config.fsdp, config.tensor)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples divided over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(OF_EXAMPLES))


def divide_inputs(batch: Batch, mesh: Mesh, config: ParallelConfig) -> Batch:
    """A batch, its inputs divided over `tensor` where the config says so; under `jax.jit`.

    Raises:
        UserError: they cannot be divided.
    """
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), batch_specs(batch, config))
    return jax.lax.with_sharding_constraint(batch, shardings)


def gathered(params: Params, mesh: Mesh, config: ParallelConfig) -> Params:
    """Parameters as a model takes them: whole over the axes that divide examples; under `jax.jit`.

    Left to itself, the compiler would move activations instead, which are hundreds of times as
    large. Gradients come back divided like the parameters.
    """
    divided = parameter_shardings(params, mesh, config)

    def gather(path: str, x: Any) -> Any:
        whole = NamedSharding(mesh, without_examples(divided[path].spec))
        return x if divided[path] == whole else _moved(x, whole, divided[path])

    return {path: gather(path, x) for path, x in params.items()}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _moved(x: Any, there: NamedSharding, back: NamedSharding) -> Any:
    """An array that lies there; its gradient lies as the array did before."""
    return jax.lax.with_sharding_constraint(x, there)


_moved.defvjp(
    lambda x, there, back: (jax.lax.with_sharding_constraint(x, there), None),
    lambda there, back, _, gradient: (jax.lax.with_sharding_constraint(gradient, back),),
)


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(name: str, batch_size: int, parts: int = 1, *, tensor: int = 1) -> None:
    """Raises a UserError where a batch cannot be divided over the devices.

    Args:
        name: of the setting.
        batch_size: examples.
        parts: steps of an accumulation, each of which is divided.
        tensor: devices that share an example.
    """
    count = jax.device_count() // tensor
    unit = count * parts
    if batch_size % unit:
        groups = f"{count} devices" if tensor == 1 else f"{count} groups of {tensor} devices"
        over = groups + (f" times {parts} parts" if parts > 1 else "")
        raise UserError(
            f"{name}={batch_size} cannot be divided over {over}; choose a multiple of {unit}"
        )


def round_up(batch_size: int) -> int:
    """The next batch size that can be divided over the devices."""
    return -(-batch_size // jax.device_count()) * jax.device_count()


def parameter_shardings(
    params: Params, mesh: Mesh, config: ParallelConfig
) -> dict[str, NamedSharding]:
    """Where each parameter lies.

    Raises:
        UserError: a rule divides an axis that a parameter has not, or not evenly, or `tensor` would
            divide nothing.
    """
    patterns = [pattern for pattern, _ in config.tensor_rules]
    if patterns and not matching(params, patterns):
        raise UserError(
            f"parallel.tensor_divides={config.tensor_divides!r} divides parameters "
            f"'{patterns[0]}', of which this model has none; choose another"
        )
    return {
        path: NamedSharding(mesh, parameter_spec(path, array.shape, array.dtype, mesh, config))
        for path, array in params.items()
    }


def state_shardings(state: Any, mesh: Mesh, config: ParallelConfig) -> Any:
    """Where each part of an abstract `TrainState` lies: moments like their parameters."""
    by_path = parameter_shardings(state.params, mesh, config)
    shapes = {path: array.shape for path, array in state.params.items()}

    def place(keys, leaf):
        for key in reversed(keys):
            path = getattr(key, "key", None)
            if path in by_path and shapes[path] == leaf.shape:
                return by_path[path]
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, state)


def place(shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """A shape that says where its array is to lie."""
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def replaced(state: TrainState, arrays: Params) -> TrainState:
    """A state with other values of some parameters, averages and statistics, where the old lie."""

    def renew(old: Params) -> dict[str, jax.Array]:
        return {
            path: jax.make_array_from_callback(
                x.shape, x.sharding, np.asarray(arrays[path]).__getitem__
            )
            if path in arrays
            else x
            for path, x in old.items()
        }

    def renew_average(node: Any) -> Any:
        return node._replace(average=renew(node.average)) if isinstance(node, Average) else node

    return dataclasses.replace(
        state,
        params=renew(state.params),
        stats=renew(state.stats),
        opt_state=jax.tree.map(
            renew_average, state.opt_state, is_leaf=lambda node: isinstance(node, Average)
        ),
    )


def to_devices(batch: Mapping[str, Any], mesh: Mesh) -> Batch:
    """This process' part of a batch, as arrays over all devices."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, np.asarray(array)),
        dict(batch),
    )


def read_ahead(
    iterator: grain.DatasetIterator, mesh: Mesh, *, num_batches: int = 2
) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
    """Batches on the devices, that many ahead of use, each with where to resume after it."""
    waiting: list[tuple[Batch, Mapping[str, Any]]] = []
    for batch in iterator:
        waiting.append((to_devices(batch, mesh), iterator.get_state()))
        if len(waiting) > num_batches:
            yield waiting.pop(0)
    yield from waiting
