"""Runs a reference implementation and ours on one batch and says where they first part.

- In float64 on both sides: what differs then differs in the function, not in rounding.
"""

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from interop import rows
from interop.example import example_inputs
from interop.files import npz
from interop.importing import find_format, read
from interop.references import ReferenceMissing
from perceiver_jax.errors import UserError, how_to_install
from perceiver_jax.models import AnyModelConfig
from perceiver_jax.models.release import Release

TOLERANCE = 1e-9
"""Of the largest difference over the largest value of a stage, in float64."""
MAX_REASON = 500
"""Characters of what a reference implementation says."""
FURTHER_ARGUMENTS = ("input_mask", "positions", "queries", "query_indices", "num_latents")
"""What a batch may hold besides the inputs."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One intermediate result in both implementations.

    Attributes:
        name: as in `model.stages`.
        shape: of ours.
        difference: largest absolute difference; infinite where shapes differ.
        scale: largest absolute value of the reference.
    """

    name: str
    shape: tuple[int, ...]
    difference: float
    scale: float

    @property
    def relative(self) -> float:
        """The difference in units of the scale."""
        return self.difference / self.scale if self.scale else self.difference

    @classmethod
    def compare(cls, name: str, ours: Any, theirs: np.ndarray) -> "Stage":
        """Measures; axes of size 1 may stand for repetition."""
        ours = np.asarray(ours)
        difference = np.inf
        if ours.ndim == theirs.ndim:
            with contextlib.suppress(ValueError):
                difference = float(np.abs(ours - theirs).max())
        return cls(name, ours.shape, difference, float(np.abs(theirs).max()))


class Pair(NamedTuple):
    """A foreign model, and all that is needed to run it in both implementations."""

    reference: ModuleType
    """runs it there"""
    settings: Mapping[str, Any]
    """of it there"""
    arrays: Mapping[str, np.ndarray]
    """of it there"""
    config: AnyModelConfig
    """of it here"""
    table: list[rows.Row]
    """of parameters there and here"""


def open_pair(
    format: str,  # noqa: A002
    source: str,
    config: AnyModelConfig | None = None,
) -> Pair:
    """Reads what is to be compared.

    Args:
        format: one of `FORMATS` with a reference implementation.
        source: file, folder or hub id.
        config: of the model, where the files do not tell or another is wanted.

    Raises:
        UserError: the weights cannot be read, or there is no reference to run.
    """
    module = find_format(format)
    if importlib.util.find_spec("torch") is None:
        raise ReferenceMissing(f"a check needs torch; {how_to_install('torch')}")
    try:
        reference = importlib.import_module(f"interop.references.{format}")
    except ModuleNotFoundError as error:
        raise ReferenceMissing(
            f"format '{format}' has no reference implementation to compare with"
        ) from error
    foreign, found = read(module, source, config)
    # A file may tell a part of its settings.
    told = None if config else foreign.settings
    settings = module.settings(found) if told is None else told
    return Pair(reference, settings, foreign.arrays, found, module.rows(found))


def check(
    format: str,  # noqa: A002
    source: str,
    *,
    config: AnyModelConfig | None = None,
    batch: Path | None = None,
    perturb: str | None = None,
) -> list[Stage]:
    """Opens and compares; arguments and errors as of `open_pair` and `compare`."""
    return compare(open_pair(format, source, config), batch=batch, perturb=perturb)


def compare(pair: Pair, *, batch: Path | None = None, perturb: str | None = None) -> list[Stage]:
    """Compares stage by stage, in order of computation.

    Args:
        pair: what is compared.
        batch: `.npz` with `inputs`, as our model's call takes them, and any of
            `FURTHER_ARGUMENTS`; of clips by modality, as in `inputs/image`; None: seeded noise.
        perturb: path of a parameter of ours to disturb by a thousandth of its largest value, which
            shows that the comparison can fail.

    Raises:
        UserError: one of them does not take the batch, or there is no such parameter.
    """
    import torch

    config, table = pair.config, pair.table
    with jax.enable_x64(True):
        arrays = {name: _double(array) for name, array in pair.arrays.items()}
        ours = rows.load(table, arrays, _doubled(config))
        # The same again, but for buffers, which files hold in float32: these are made in float64.
        arrays = rows.save(table, ours)
        inputs = example_inputs(config, seed=0)
        inputs = _inputs(batch) if batch else inputs
        inputs = jax.tree.map(_double, inputs)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            theirs = pair.reference.run(pair.settings, arrays, inputs)
        except UserError:
            raise
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            reason = textwrap.shorten(str(error), MAX_REASON, placeholder=" …")
            raise UserError(f"the reference implementation does not take this: {reason}") from error
        finally:
            torch.set_default_dtype(before)
        if perturb is not None:
            ours[perturb] = _perturbed(ours, perturb)
        model: Any = Release(config=config, arrays=ours).model()
        try:
            stages = model.stages(**inputs)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"our model does not take this batch: {error}") from error
        return [Stage.compare(name, stages[name], array) for name, array in theirs]


def first_difference(stages: list[Stage], tolerance: float = TOLERANCE) -> Stage | None:
    """The first stage that parts, or None where all agree."""
    return next((stage for stage in stages if not stage.relative <= tolerance), None)


def report(stages: list[Stage], tolerance: float = TOLERANCE) -> str:
    """The stages as a table, with the verdict as the last line."""
    width = max(len(stage.name) for stage in stages)
    lines = [f"{'stage':<{width}}  {'shape':<20} {'difference':>10} {'relative':>10}"]
    for stage in stages:
        mark = "" if stage.relative <= tolerance else "  <-"
        lines.append(
            f"{stage.name:<{width}}  {str(list(stage.shape)):<20} {stage.difference:>10.1e} "
            f"{stage.relative:>10.1e}{mark}"
        )
    first = first_difference(stages, tolerance)
    verdict = (
        f"all {len(stages)} stages agree within {tolerance:.0e} of their scale"
        if first is None
        else f"the first stage that parts is {first.name}, by {first.relative:.1e} of its scale"
    )
    return "\n".join([*lines, verdict])


def _double(value: Any) -> Any:
    """Arrays of floats in float64, all else as it is."""
    is_float = isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)
    return value.astype(np.float64) if is_float else value


def _doubled(config: AnyModelConfig) -> dict[str, Any]:
    """Shapes of all arrays of a model, floats in float64."""
    from perceiver_jax.models import skeleton

    structure = skeleton(config)
    return {
        path: jax.ShapeDtypeStruct(x.shape, np.float64 if x.dtype == np.float32 else x.dtype)
        for path, x in (structure.params | structure.stats).items()
    }


def _inputs(batch: Path) -> dict[str, Any]:
    """A batch's arrays, those of no axes as numbers."""
    arrays: Mapping[str, np.ndarray] = npz.read(batch)
    known = ("inputs", *FURTHER_ARGUMENTS)
    values = {path: array if array.ndim else array.item() for path, array in arrays.items()}
    found: dict[str, Any] = {}
    for path, value in values.items():
        name, _, modality = path.partition("/")
        if name in known and modality:
            found.setdefault(name, {})[modality] = value
    found |= {name: values[name] for name in known if name in values}
    if "inputs" not in found:
        raise UserError(
            f"{batch} has no array 'inputs'; it takes {', '.join(known)}, and has "
            f"{', '.join(arrays)}"
        )
    return found


def _perturbed(arrays: Mapping[str, np.ndarray], path: str) -> np.ndarray:
    if path not in arrays:
        near = difflib.get_close_matches(path, arrays, n=3)
        raise UserError(
            f"there is no parameter '{path}'; near are {', '.join(near) or 'none'}"
            "; all of them: python -m interop table ours --config=..."
        )
    array = arrays[path]
    noise = np.random.default_rng(0).standard_normal(array.shape)
    return array + 1e-3 * max(np.abs(array).max(), 1e-3) * noise
