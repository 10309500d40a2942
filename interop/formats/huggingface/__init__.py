"""Hugging Face transformers (PyTorch): images, texts, optical flow, clips and resamplers.

- Much stands in their code and not in `config.json`: `requirements` lists it.
- `hidden_act` is exact GELU unless said; attention is uniform where everything is masked.
- Rates of dropout and recipes of initial values travel, but do not speak against an export.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.families import family_of
from interop.formats.huggingface.config_json import architecture
from interop.formats.huggingface.files import ENDINGS, read, write
from interop.formats.huggingface.kinds import FAMILIES, WHOSE
from interop.rows import Row
from perceiver_jax.models import AnyModelConfig, PerceiverConfig, ResamplerConfig

__all__ = [
    "ENDINGS",
    "WHOSE",
    "config",
    "notes",
    "read",
    "requirements",
    "rows",
    "settings",
    "write",
]


def config(settings: Mapping[str, Any]) -> PerceiverConfig | ResamplerConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: it is that of another kind of model, has a setting that is unknown, or one
            that cannot be expressed.
    """
    families = {name: family for family in FAMILIES for name in family.CLASSES}
    return families[architecture(settings, families)].config(settings)


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """A `config.json` that describes the model, without names of its classes.

    Raises:
        UserError: Hugging Face has no such model.
    """
    return family_of(config, FAMILIES, WHOSE).settings(config)


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their classes do not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: they have no such kind of model.
    """
    return family_of(config, FAMILIES, WHOSE).requirements(config)


def notes(config: AnyModelConfig) -> tuple[str, ...]:
    """What their classes do otherwise and no setting tells."""
    family = family_of(config, FAMILIES, WHOSE)
    return family.notes(config) if hasattr(family, "notes") else getattr(family, "NOTES", ())


def rows(config: AnyModelConfig) -> list[Row]:
    """The state dict of the class that makes such a model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    return family_of(config, FAMILIES, WHOSE).rows(config)
