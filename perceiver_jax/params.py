"""Parameters as flat dicts `{path: array}`, and the one place where they become a model.

- Paths such as `encoder/block/0/layer/0/attention/query/kernel` are public: checkpoints, sharding
  rules, decay masks and weight maps all speak them. Changing one bumps `FORMAT_VERSION`.
- `bind` places arrays by name and checks every name and shape: flax's own merge goes by position
  and would accept renamed or swapped layers.
- Parameters are trained; statistics (of batch norms) are only updated.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
from flax import nnx

from perceiver_jax.typing import Model, Params

FORMAT_VERSION = 2


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A model's structure with the shapes of its parameters, but no values.

    Attributes:
        params: `{path: jax.ShapeDtypeStruct}` of the trained parameters.
        stats: the same of the statistics.
    """

    params: Params
    stats: Params
    _graph: Any
    _variables: Any

    def bind(self, params: Params, stats: Params | None = None) -> Model:
        """A model with these parameters; free under `jax.jit`.

        Args:
            params: `{path: array}`, exactly the paths and shapes of `self.params`.
            stats: likewise of `self.stats`; None where there are none.

        Raises:
            ValueError: a path is missing, unknown, or has another shape.
        """
        stats = stats or {}
        check_same_paths(params, self.params, "parameters")
        check_same_paths(stats, self.stats, "statistics")
        values = {**params, **stats}
        filled = [(path, var.replace(values[_join(path)])) for path, var in self._variables]
        return nnx.merge(self._graph, nnx.from_flat_state(filled))


def skeleton(build: Callable[[], Model]) -> Skeleton:
    """The structure of the model that `build` would make, without making it."""
    graph, state = nnx.split(nnx.eval_shape(build))
    variables = list(nnx.to_flat_state(state))
    shapes = {_join(path): _shape(var) for path, var in variables}
    is_stat = {_join(path): isinstance(var, nnx.BatchStat) for path, var in variables}
    return Skeleton(
        params={path: shape for path, shape in shapes.items() if not is_stat[path]},
        stats={path: shape for path, shape in shapes.items() if is_stat[path]},
        _graph=graph,
        _variables=variables,
    )


def flatten(model: Model) -> tuple[Params, Params]:
    """A model's (parameters, statistics) as flat dicts."""
    params, stats = {}, {}
    for path, var in nnx.to_flat_state(nnx.state(model)):
        (stats if isinstance(var, nnx.BatchStat) else params)[_join(path)] = var[...]
    return params, stats


def split(model: Model) -> tuple[Skeleton, Params, Params]:
    """A built or loaded model as (structure, parameters, statistics).

    `structure.bind(parameters, statistics)` is the model again, card included.

    Raises:
        TypeError: this is no model.
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"split takes a model, and this is of {type(model).__name__}; of a config make one "
            "with models.build(config, jax.random.key(0))"
        )
    return skeleton(lambda: model), *flatten(model)


def check_same_paths(got: Params, want: Params, what: str) -> None:
    """Raises a ValueError that lists every path missing, unknown or of another shape."""
    if not isinstance(got, Mapping):
        raise ValueError(f"{what} are {{path: array}}, not of {type(got).__name__}")
    problems = [f"missing {path} {want[path].shape}" for path in want if path not in got]
    problems += [f"unknown {path}" for path in got if path not in want]
    problems += [
        f"{path} has shape {got[path].shape} instead of {want[path].shape}"
        for path in want
        if path in got and tuple(got[path].shape) != tuple(want[path].shape)
    ]
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(f"these {what} do not fit the model:\n  {shown}{more}")


def count(params: Params) -> int:
    """Number of parameters of a flat dict, such as `flatten(model)[0]`.

    Raises:
        TypeError: this is none.
    """
    if not isinstance(params, Mapping):
        raise TypeError(
            f"count takes {{path: array}}, and this is of {type(params).__name__}; of a model give "
            "flatten(model)[0]"
        )
    return sum(math.prod(array.shape) for array in params.values())


def matching(params: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The paths in which any of the regular expressions is found."""
    compiled = [re.compile(pattern) for pattern in patterns]
    return {path for path in params if any(p.search(path) for p in compiled)}


def table(params: Params) -> str:
    """One line per parameter: path, shape, size; and the total."""
    width = max(len(path) for path in params)
    lines = [
        f"{path:<{width}}  {str(list(array.shape)):<16} {math.prod(array.shape):>12,}"
        for path, array in params.items()
    ]
    return "\n".join([*lines, f"{'total':<{width}}  {'':<16} {count(params):>12,}"])


def summary(params: Params) -> str:
    """The number of parameters, and that of each part: what layers and arrays there are."""
    parts: dict[str, list[Any]] = {}
    for path, array in params.items():
        names = path.split("/")
        numbered = next((i for i, name in enumerate(names) if name.isdigit()), 1)
        parts.setdefault("/".join(names[: numbered + 1]), []).append(array)
    width = max(map(len, parts), default=0)
    lines = [f"{count(params):,} parameters"]
    for part, arrays in parts.items():
        shape = f"  {list(arrays[0].shape)}" if len(arrays) == 1 else ""
        size = sum(math.prod(array.shape) for array in arrays)
        lines.append(f"  {part:<{width}}  {size:>13,}{shape}")
    return "\n".join(lines)


def _join(path: tuple) -> str:
    return "/".join(str(part) for part in path)


def _shape(variable: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(variable.shape, variable.dtype)
