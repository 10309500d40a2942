"""lucidrains/perceiver-pytorch 0.11 (PyTorch): `Perceiver`, `PerceiverIO` and `PerceiverLM`.

- One module for each class, chosen in `kinds`; settings are the constructor's arguments.
- Names are those of state dicts since 0.11; `files` renames older ones.
- One fused matrix makes keys (first half) and values; the first half of a GEGLU is the value.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.lucidrains.arguments import as_settings, parse
from interop.formats.lucidrains.files import read, write
from interop.formats.lucidrains.halves import WHOSE
from interop.formats.lucidrains.kinds import of_arguments, of_config
from interop.formats.settings import check_settings
from interop.rows import Row, table
from perceiver_jax.models import AnyModelConfig, PerceiverConfig

__all__ = ["WHOSE", "config", "read", "requirements", "rows", "settings", "write"]


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from constructor arguments.

    Args:
        settings: the arguments; under "class" "Perceiver", "PerceiverIO" or "PerceiverLM", which
            can be left out where the arguments tell.

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
    check_settings(WHOSE, requirements(config))
    return as_settings(of_config(config).arguments(config))


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the reference has no class with such halves.
    """
    return of_config(config).requirements(config)


def rows(config: AnyModelConfig) -> list[Row]:
    """The state dict of the class that makes such a model.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return table(of_config(config).rows(config))
