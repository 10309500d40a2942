"""What a format can express: the nearest model that it has, what changes, and how much.

- A format lists in `requirements` every setting that it does not let choose.
"""

import dataclasses
from types import ModuleType
from typing import Any

import jax
import numpy as np

from interop.example import example_inputs
from perceiver_jax.config import ConfigError, from_dict, to_dict
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, skeleton
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
    def measure(cls, released: Release, changed: PerceiverConfig) -> "Effect":
        """Runs the model as it is and as it would be, on one seeded batch."""
        inputs = example_inputs(released.config, seed=0)
        before, after = (
            np.asarray(_outputs(dataclasses.replace(released, config=config).model(), inputs))
            for config in (released.config, changed)
        )
        difference, scale = np.abs(after - before).max(), np.abs(before).max()
        return cls(float(difference), float(scale), len(before))


@jax.jit
def _outputs(model: Any, inputs: dict[str, Any]) -> Any:
    return model(**inputs)


def nearest(module: ModuleType, config: PerceiverConfig) -> tuple[PerceiverConfig, tuple[str, ...]]:
    """The model nearest to a config among those that a format can express.

    Returns:
        Its config, and each setting that had to be changed, as `path: value → value`.

    Raises:
        UserError: no setting makes the format express a model with these parameters.
    """
    wrong = {p: pair for p, pair in module.requirements(config).items() if pair[0] != pair[1]}
    if not wrong:
        return config, ()
    tree = to_dict(config)
    for path, (_, needed) in wrong.items():
        *parents, field = path.split(".")
        part = tree
        for parent in parents:
            part = part[parent]
        part[field] = needed
    changes = tuple(f"{path}: {got!r} → {needed!r}" for path, (got, needed) in wrong.items())
    try:
        changed = from_dict(PerceiverConfig, tree)
        fits = _shapes(changed) == _shapes(config)
    except ConfigError:
        fits = False
    if not fits:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{module.WHOSE} has no model with these parameters; it would need other settings\n"
            f"  {listed}"
        )
    return changed, changes


def remarks(module: ModuleType, config: PerceiverConfig) -> tuple[str, ...]:
    """What a format does otherwise without touching the outputs for whole inputs."""
    there = module.config(module.settings(config))
    found = []
    for half in ("encoder", "decoder"):
        for field, meaning in REMARKS.items():
            ours, theirs = (getattr(getattr(c, half), field, None) for c in (config, there))
            if ours != theirs:
                found.append(f"{half}.{field}: {ours!r} → {theirs!r} ({meaning})")
    return tuple(found)


def _shapes(config: PerceiverConfig) -> dict[str, Any]:
    structure = skeleton(config)
    return {path: x.shape for path, x in (structure.params | structure.stats).items()}
