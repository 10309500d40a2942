"""DeepMind's models (Haiku): ImageNet, masked language model, optical flow, clips, Perceiver AR."""

from collections.abc import Mapping
from typing import Any

from interop.formats.deepmind import imagenet
from interop.formats.deepmind.files import ENDINGS, published, read, write
from interop.formats.deepmind.kinds import FAMILIES, WHOSE
from interop.formats.deepmind.released import PUBLISHED
from interop.formats.families import family_of
from interop.rows import Row
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, CausalSequenceConfig, PerceiverConfig

__all__ = [
    "ENDINGS",
    "PUBLISHED",
    "WHOSE",
    "config",
    "published",
    "read",
    "requirements",
    "rows",
    "settings",
    "write",
]


def config(meta: Mapping[str, Any]) -> PerceiverConfig | CausalSequenceConfig:
    """Our config from the arguments of DeepMind's modules.

    Args:
        meta: as the family takes them that `task` names; without one, an ImageNet model's.

    Raises:
        UserError: the task, or an argument, is unknown or cannot be expressed.
    """
    families = {family.TASK: family for family in FAMILIES}
    task = meta.get("task", imagenet.TASK)
    if task not in families:
        raise UserError(f"task={task!r} is not among those known here: {', '.join(families)}")
    return families[task].config(meta)


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's modules compute what a config of ours computes.

    Raises:
        ConfigError: DeepMind's code has no such kind of model.
    """
    return family_of(config, FAMILIES, WHOSE).settings(config)


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: it has no such kind of model.
    """
    return family_of(config, FAMILIES, WHOSE).requirements(config)


def rows(config: AnyModelConfig) -> list[Row]:
    """Parameters and state of a model.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    return family_of(config, FAMILIES, WHOSE).rows(config)
