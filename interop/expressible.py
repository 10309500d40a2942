"""What a format can express: the nearest model that it has, what changes, and how much.

- A format lists in `requirements` every setting that it does not let choose.
"""

import dataclasses
from types import ModuleType
from typing import Any

import jax
import numpy as np

from interop.example import example_inputs
from interop.fields import by_path
from perceiver_jax.config import ConfigError, from_dict, to_dict
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, skeleton
from perceiver_jax.models.release import Release

REMARKS = {
    "masked_rows": "what an example gets of which every element is masked out",
    "mask_queries": "what is predicted for padding; all other predictions are the same",
    "dropout": "dropout of attention weights, in training only",
    "residual_dropout": "dropout of residual branches, in training only",
    "compute_dtype": "precision of products; parameters are float32 in either case",
    "mlp_residual_dropout": "dropout of MLPs, in training only",
    "input_dropout": "dropout of input tokens, in training only",
    "latent_dropout": "dropout of latents, in training only",
}
"""Settings that do not touch the outputs for whole inputs."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """How far a change of settings moves a model's outputs.

    Attributes:
        difference: largest absolute difference of outputs.
        scale: largest absolute output before.
        batch_size: examples that were compared, standard normal noise of seed 0.
    """

    difference: float
    scale: float
    batch_size: int

    @classmethod
    def measure(cls, released: Release, changed: AnyModelConfig) -> "Effect":
        """Runs the model as it is and as it would be, on one seeded batch."""
        inputs = example_inputs(released.config, seed=0)
        before, after = (
            _outputs(dataclasses.replace(released, config=config).model(), inputs)
            for config in (released.config, changed)
        )
        pairs = list(zip(before, after, strict=True))
        difference = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
        scale = max(np.abs(ours).max() for ours, _ in pairs)
        return cls(float(difference), float(scale), len(before[0]))


def _outputs(model: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
    """All that the model gives: one array, or one for each modality."""

    def the_outputs(model: Any) -> Any:
        return model(**inputs)

    outputs = jax.jit(the_outputs)(model)
    return [np.asarray(array) for array in jax.tree.leaves(outputs)]


def nearest(module: ModuleType, config: AnyModelConfig) -> tuple[AnyModelConfig, tuple[str, ...]]:
    """The model nearest to a config among those that a format can express.

    Returns:
        Its config, and each setting that had to be changed, as `path: value → value`.

    Raises:
        UserError: no setting makes the format express a model with these parameters.
    """
    wrong = _unmet(module, config)
    changed, found = config, {}
    try:
        # One setting may follow from another that had to change.
        while wrong.keys() - found.keys():
            found |= {path: pair for path, pair in wrong.items() if path not in found}
            changed = _with(changed, {path: needed for path, (_, needed) in wrong.items()})
            wrong = _unmet(module, changed)
        fits = not wrong and (not found or _shapes(changed) == _shapes(config))
    except ConfigError:
        fits = False
    changes = tuple(f"{path}: {got!r} → {needed!r}" for path, (got, needed) in found.items())
    if not fits:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{module.WHOSE} has no model with these parameters; it would need other settings\n"
            f"  {listed}\n"
            "No settings that it has give parameters of these shapes, so --approximate "
            "(approximate=True) does not help"
        )
    return changed, changes


def _unmet(module: ModuleType, config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """By path, settings that a format does not have, and what it has instead."""
    pairs = module.requirements(config)
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _with(config: AnyModelConfig, settings: dict[str, Any]) -> AnyModelConfig:
    """A config with other values at some paths."""
    tree = to_dict(config)
    for path, value in settings.items():
        *parents, field = path.split(".")
        part = tree
        for parent in parents:
            part = part[parent]
        part[field] = value
    return from_dict(type(config), tree)


def remarks(module: ModuleType, config: AnyModelConfig) -> tuple[str, ...]:
    """What a format does otherwise without touching the outputs for whole inputs.

    Those are settings of `REMARKS`, and what the format itself says of a model in `notes`, if it
    has such a function.
    """
    ours, theirs = by_path(config), by_path(module.config(module.settings(config)))
    found = []
    for path, value in ours.items():
        meaning = REMARKS.get(path.rpartition(".")[2])
        if meaning is not None and theirs.get(path) != value:
            found.append(f"{path}: {value!r} → {theirs.get(path)!r} ({meaning})")
    notes = getattr(module, "notes", None)
    return (*found, *(notes(config) if notes else ()))


def _shapes(config: AnyModelConfig) -> dict[str, Any]:
    structure = skeleton(config)
    return {path: x.shape for path, x in (structure.params | structure.stats).items()}
