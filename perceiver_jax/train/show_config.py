"""`python -m perceiver_jax.config FILE`: a config with types, values and meanings."""

import dataclasses
import typing
from typing import Any

from absl import flags
from ml_collections import config_flags

from perceiver_jax import models, params
from perceiver_jax.config import describe_type, from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train import command_line
from perceiver_jax.train.config import ExperimentConfig


def describe(config: Any, indent: str = "") -> list[str]:
    """A dataclass as lines `field = value  # type; meaning`, nested ones indented.

    The default stands beside values that differ from it.
    """
    hints = typing.get_type_hints(type(config))
    lines = []
    for field in dataclasses.fields(config):
        value, doc = getattr(config, field.name), field.metadata.get("doc", "")
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{field.name}: {type(value).__name__}  # {doc}")
            lines += describe(value, indent + "  ")
        else:
            usual = field.default is dataclasses.MISSING or value == field.default
            default = "" if usual else f" (default {field.default!r})"
            left = f"{indent}{field.name} = {value!r}{default}"
            lines.append(f"{left:<60} # {describe_type(hints[field.name])}; {doc}")
    return lines


def main() -> None:
    """Reads `FILE[:VARIANT]` and overrides from the command line, and prints."""
    config_flags.DEFINE_config_file("config", None, "config file or name of a shipped config")
    command_line.run(_print, positional="config")


def _print() -> None:
    if flags.FLAGS.config is None:
        raise UserError("give a config file, or the name of a shipped config")
    config = from_dict(ExperimentConfig, flags.FLAGS.config)
    num_parameters = params.count(models.skeleton(config.model).params)
    print("\n".join(describe(config)))
    print(f"\n{num_parameters:,} parameters")
