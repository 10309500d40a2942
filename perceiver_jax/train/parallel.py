"""Devices: one mesh, batches divided over it, parameters by first matching rule.

- Models carry no sharding words; what lies where is decided here, by parameter path.
- The mesh axes are of type Auto: the compiler chooses how intermediate results lie.
- Parameters are copied to every device unless a rule divides them, or the `fsdp` axis is larger
  than one, which divides every large parameter along its largest divisible axis.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from perceiver_jax.config import check_regex, setting
from perceiver_jax.errors import UserError
from perceiver_jax.train.state import TrainState
from perceiver_jax.typing import Batch, Params

AXES = ("data", "fsdp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How devices share the work."""

    fsdp: int = setting(1, "devices that parameters are divided over; the others copy them")
    rules: tuple[tuple[str, tuple[str | None, ...]], ...] = setting(
        (),
        "(regular expression, mesh axis or None per array axis): the first expression found in a "
        "parameter's path says how it is divided",
    )
    min_fsdp_mib: float = setting(1.0, "parameters smaller than this stay whole, in MiB")

    def __post_init__(self):
        if self.fsdp < 1:
            raise ValueError(f"fsdp={self.fsdp} must be 1 or more")
        for pattern, axes in self.rules:
            check_regex(pattern, "rules")
            unknown = [axis for axis in axes if axis is not None and axis not in AXES]
            if unknown:
                raise ValueError(
                    f"the rule for '{pattern}' names the mesh axes {unknown}; there are {AXES}"
                )


def make_mesh(config: ParallelConfig) -> Mesh:
    """All devices as a `data` × `fsdp` grid.

    Raises:
        UserError: `fsdp` does not divide the number of devices.
    """
    count = jax.device_count()
    if count % config.fsdp:
        raise UserError(
            f"parallel.fsdp={config.fsdp} does not divide the {count} devices; choose a divisor"
        )
    shape = (count // config.fsdp, config.fsdp)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples divided over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(name: str, batch_size: int, parts: int = 1) -> None:
    """Raises a UserError where a batch cannot be divided over the devices."""
    unit = jax.device_count() * parts
    if batch_size % unit:
        over = f"{jax.device_count()} devices" + (f" times {parts} parts" if parts > 1 else "")
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
        UserError: a rule divides an axis that a parameter has not, or not evenly.
    """
    return {
        path: NamedSharding(mesh, _spec(path, array.shape, array.dtype, mesh, config))
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
    """A state with other values of some parameters and statistics, where the old ones lie."""

    def renew(old: Params) -> dict[str, jax.Array]:
        return {
            path: jax.make_array_from_callback(
                x.shape, x.sharding, np.asarray(arrays[path]).__getitem__
            )
            if path in arrays
            else x
            for path, x in old.items()
        }

    return dataclasses.replace(state, params=renew(state.params), stats=renew(state.stats))


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


def _spec(path: str, shape: tuple, dtype: Any, mesh: Mesh, config: ParallelConfig) -> PartitionSpec:
    for pattern, axes in config.rules:
        if re.search(pattern, path):
            return _checked(path, shape, axes, mesh)
    mib = math.prod(shape) * np.dtype(dtype).itemsize / 2**20
    divisible = [i for i, size in enumerate(shape) if size % config.fsdp == 0]
    if config.fsdp == 1 or mib < config.min_fsdp_mib or not divisible:
        return PartitionSpec()
    largest = max(divisible, key=lambda i: shape[i])
    return PartitionSpec(*("fsdp" if i == largest else None for i in range(len(shape))))


def _checked(path: str, shape: tuple, axes: tuple[str | None, ...], mesh: Mesh) -> PartitionSpec:
    for i, axis in enumerate(axes):
        if axis is not None and (i >= len(shape) or shape[i] % mesh.shape[axis]):
            raise UserError(
                f"the sharding rule {axes} does not fit {path} of shape {shape} on a mesh of "
                f"{dict(mesh.shape)}; each named axis must divide the size it stands for"
            )
    return PartitionSpec(*axes)
