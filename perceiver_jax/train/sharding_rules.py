"""Which mesh axes divide which array: of parameters by their paths, of batches by their shapes.

- `data` and `fsdp` divide the examples of a batch; `fsdp` divides large parameters as well.
- `tensor` divides one of three things: the heads of attentions and the hidden channels of MLPs,
  the inputs of an example, or the latents.
- The first rule found in a parameter's path decides, the config's own before those built in.
"""

import dataclasses
import math
import re
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from perceiver_jax.config import check_fields, check_regex, setting
from perceiver_jax.errors import UserError
from perceiver_jax.typing import Batch

AXES = ("data", "fsdp", "tensor")
OF_EXAMPLES = AXES[:2]
"""Mesh axes that divide the examples of a batch."""

Axes = tuple[str | None, ...]
"""A mesh axis, or None, for each axis of an array; those left out at the end are None."""
Rules = tuple[tuple[str, Axes], ...]
"""(regular expression, axes of the parameters in whose path it is found)."""

RULES: dict[str, Rules] = {
    "heads": (
        (r"attention/(query|key|value)/kernel$", (None, "tensor")),
        (r"attention/(query|key|value)/bias$", ("tensor",)),
        (r"attention/output/kernel$", ("tensor",)),
        (r"mlp/hidden/kernel$", (None, "tensor")),
        (r"mlp/hidden/bias$", ("tensor",)),
        (r"mlp/output/kernel$", ("tensor",)),
    ),
    "inputs": (),
    "latents": ((r"encoder/latents$", ("tensor",)),),
}
"""What `tensor` divides of the parameters, by `ParallelConfig.tensor_divides`.

Source of "heads": Megatron-LM §3, two sums over devices for each layer and pass. Where the heads
are not a multiple of `tensor`, as with one head, devices share a head and its scores are summed,
too.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How devices share the work."""

    fsdp: int = setting(1, "devices that parameters are divided over; the others copy them")
    tensor: int = setting(1, "devices that share the work on an example, see tensor_divides")
    tensor_divides: Literal["heads", "inputs", "latents"] = setting(
        "heads",
        "what tensor divides: 'heads' of attentions with the hidden channels of MLPs, and their "
        "parameters; 'inputs', of images the columns; or 'latents'",
    )
    rules: Rules = setting(
        (),
        "(regular expression, mesh axis or None per array axis): the first expression found in a "
        "parameter's path says how it is divided, instead of fsdp and tensor",
    )
    min_fsdp_mib: float = setting(1.0, "parameters smaller than this stay whole, in MiB")

    def __post_init__(self):
        check_fields(self)
        for name in ("fsdp", "tensor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.min_fsdp_mib < 0:
            raise ValueError(f"min_fsdp_mib={self.min_fsdp_mib} must be 0 or more")
        for pattern, axes in self.rules:
            check_regex(pattern, "rules")
            unknown = [axis for axis in axes if axis is not None and axis not in AXES]
            if unknown:
                raise ValueError(
                    f"the rule for '{pattern}' names the mesh axes {unknown}; there are {AXES}"
                )

    @property
    def tensor_rules(self) -> Rules:
        """Rules that are built in."""
        return RULES[self.tensor_divides] if self.tensor > 1 else ()


def parameter_spec(
    path: str, shape: tuple[int, ...], dtype: Any, mesh: Mesh, config: ParallelConfig
) -> PartitionSpec:
    """How a parameter is divided.

    Raises:
        UserError: a rule divides an axis that the parameter has not, or not evenly.
    """
    for pattern, axes in config.rules:
        if re.search(pattern, path):
            return PartitionSpec(*_checked(path, shape, axes, mesh))
    axes: Axes = ()
    for pattern, found in config.tensor_rules:
        if re.search(pattern, path):
            axes = _checked(path, shape, found, mesh)
            break
    mib = math.prod(shape) * np.dtype(dtype).itemsize / 2**20
    if config.fsdp > 1 and mib >= config.min_fsdp_mib:
        axes = _with_fsdp(shape, axes, config.fsdp)
    return PartitionSpec(*axes)


def without_examples(spec: PartitionSpec) -> PartitionSpec:
    """The same without the mesh axes that divide examples."""
    return PartitionSpec(*(None if axis in OF_EXAMPLES else axis for axis in spec))


def batch_specs(batch: Batch, config: ParallelConfig) -> Batch:
    """How the arrays of a batch are divided; shapes are enough.

    With `tensor_divides="inputs"` these are the columns of [B, ..., M, C] arrays and the places of
    [B, M] arrays. Arrays whose size `tensor` does not divide stay whole.

    Columns, as attention by structure goes over images row by row: each device then has a part of
    every row. So divided are attention by structure to images and videos, and dense attention to
    sequences; of other forms the compiler gathers the inputs, and each device computes the whole.

    Raises:
        UserError: `tensor` does not divide the inputs, the largest array.
    """
    if config.tensor == 1 or config.tensor_divides != "inputs":
        return jax.tree.map(lambda array: PartitionSpec(OF_EXAMPLES), batch)
    arrays = jax.tree.leaves_with_path(batch)
    keys, largest = max(arrays, key=lambda item: math.prod(item[1].shape))
    axis = _axis_of_inputs(largest)
    if axis is None or largest.shape[axis] % config.tensor:
        raise UserError(
            f"parallel.tensor={config.tensor} does not divide the inputs"
            f"{jax.tree_util.keystr(keys)} of shape {largest.shape} along axis {axis}; choose a "
            "divisor, or another parallel.tensor_divides"
        )

    def spec(array):
        axis = _axis_of_inputs(array)
        if axis is None or array.shape[axis] % config.tensor:
            return PartitionSpec(OF_EXAMPLES)
        return PartitionSpec(OF_EXAMPLES, *(None,) * (axis - 1), "tensor")

    return jax.tree.map(spec, batch)


def _axis_of_inputs(array: Any) -> int | None:
    rank = len(array.shape)
    return None if rank < 2 else max(1, rank - 2)


def _with_fsdp(shape: tuple[int, ...], axes: Axes, fsdp: int) -> Axes:
    """The same, with `fsdp` along the largest of the axes that are whole and that it divides."""
    axes = axes + (None,) * (len(shape) - len(axes))
    free = [i for i, size in enumerate(shape) if axes[i] is None and size % fsdp == 0]
    largest = max(free, key=lambda i: shape[i], default=None)
    divided = ["fsdp" if i == largest else axis for i, axis in enumerate(axes)]
    while divided and divided[-1] is None:
        divided.pop()
    return tuple(divided)


def _checked(path: str, shape: tuple[int, ...], axes: Axes, mesh: Mesh) -> Axes:
    for i, axis in enumerate(axes):
        if axis is not None and (i >= len(shape) or shape[i] % mesh.shape[axis]):
            module = path.rsplit("/", 2)[0]
            raise UserError(
                f"the sharding rule {axes} does not fit {path} of shape {shape} on a mesh of "
                f"{dict(mesh.shape)}; each named axis must divide the size it stands for. choose "
                f"another size of '{axis}', or begin parallel.rules with ('^{module}', ()), which "
                "keeps this part of the model whole"
            )
    return axes
