"""`python -m perceiver_jax.config FILE`: a config with types, values and meanings."""

import dataclasses
import shutil
import sys
import textwrap
import typing
from typing import Any, Literal

from absl import flags

from perceiver_jax import models, params
from perceiver_jax.config import describe_type, from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train import command_line
from perceiver_jax.train.config import ExperimentConfig

COLUMN = 60
"""Where meanings begin."""


def describe(config: Any, indent: str = "", width: int | None = None) -> list[str]:
    """A dataclass as lines `field = value  # type; meaning`, nested ones indented.

    The default stands beside values that differ from it. The type is left out where the meaning
    names every choice.

    Args:
        config: the dataclass.
        indent: what lines begin with.
        width: characters of a line; a longer meaning goes on in the next. None: any number.
    """
    hints = typing.get_type_hints(type(config))
    lines = []
    for field in dataclasses.fields(config):
        value, doc = getattr(config, field.name), field.metadata.get("doc", "")
        if dataclasses.is_dataclass(value):
            meaning = f"  # {doc}" if doc else ""
            lines.append(f"{indent}{field.name}: {type(value).__name__}{meaning}")
            lines += describe(value, indent + "  ", width)
        else:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            usual = default is dataclasses.MISSING or value == default
            default = "" if usual else f" (default {default!r})"
            left = f"{indent}{field.name} = {value!r}{default}"
            meaning = doc
            if not _names_every_choice(doc, hints[field.name]):
                meaning = "; ".join(filter(None, [describe_type(hints[field.name]), doc]))
            lines += _wrapped(left, meaning, indent, width)
    return lines


def _names_every_choice(doc: str, hint: Any) -> bool:
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    return bool(choices) and all(repr(choice) in doc for choice in choices)


def _wrapped(left: str, meaning: str, indent: str, width: int | None) -> list[str]:
    """A value and its meaning, beside it or, in a terminal too narrow for that, below."""
    beside = f"{left:<{COLUMN}} # "
    if width is None or len(beside + meaning) <= width:
        return [beside + meaning]
    below = width < 2 * COLUMN or len(beside) > COLUMN + 3
    margin = f"{indent}    # " if below else f"{'':<{COLUMN}} # "
    first = margin if below else beside
    lines = textwrap.wrap(
        meaning,
        width,
        initial_indent=first,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [left, *lines] if below else lines


def main() -> None:
    """Reads `FILE[:VARIANT]` and overrides from the command line, and prints."""
    command_line.define_config()
    command_line.run(_print, expected=("config",), positional=True)


def _print() -> None:
    if flags.FLAGS.config is None:
        raise UserError("give a config file, or the name of a shipped config")
    config = from_dict(ExperimentConfig, flags.FLAGS.config)
    num_parameters = params.count(models.skeleton(config.model).params)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(describe(config, width=width)))
    print(f"\n{num_parameters:,} parameters")
