"""lucidrains' packages (PyTorch): perceiver-pytorch 0.11 and perceiver-ar-pytorch 0.0.10.

- Classes are `Perceiver`, `PerceiverIO` and `PerceiverLM` of the one, `PerceiverAR` of the other:
  a module for each, chosen in `kinds`; settings are the constructor's arguments.
- Names are those of state dicts of perceiver-pytorch since 0.11; `files` renames older ones.
- One fused matrix makes keys (first half) and values; the first half of a GEGLU is the value.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.lucidrains.arguments import as_settings, parse
from interop.formats.lucidrains.files import ENDINGS, read, write
from interop.formats.lucidrains.kinds import WHOSE, of_arguments, of_config
from interop.formats.settings import check_settings
from interop.rows import Row, table
from perceiver_jax.models import AnyModelConfig

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


def config(settings: Mapping[str, Any]) -> AnyModelConfig:
    """Our config from constructor arguments.

    Args:
        settings: the arguments; under "class" "Perceiver", "PerceiverIO", "PerceiverLM" or
            "PerceiverAR", which can be left out where the arguments tell.

    Raises:
        ConfigError: an argument that is unknown, missing or not supported.
    """
    arguments = parse(settings)
    return of_arguments(arguments).config(arguments)


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """Constructor arguments, the class under "class".

    Raises:
        UserError: the reference has no such model.
    """
    family = of_config(config)
    check_settings(family.WHOSE, family.requirements(config))
    return as_settings(family.arguments(config))


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the reference has no class with such halves.
    """
    return of_config(config).requirements(config)


def notes(config: AnyModelConfig) -> tuple[str, ...]:
    """What the reference does otherwise and no setting tells."""
    family = of_config(config)
    return family.notes(config) if hasattr(family, "notes") else ()


def rows(config: AnyModelConfig) -> list[Row]:
    """The state dict of the class that makes such a model.

    Raises:
        UserError: the reference has no such model.
    """
    family = of_config(config)
    check_settings(family.WHOSE, family.requirements(config))
    return table(family.rows(config))
