"""Command lines: `--config` files with overrides, and errors without stack traces."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from perceiver_jax.command import run_command
from perceiver_jax.errors import UserError

STOPPED = "stopped; the same command goes on from the last checkpoint, if there is one"


def run(main: Callable[[], None], *, positional: str | None = None) -> None:
    """Parses the flags, calls `main` as `run_command` does, and ends with its exit code.

    Args:
        main: reads `absl.flags.FLAGS`.
        positional: a flag whose value may stand alone, as the first argument.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        program, *rest = _joined(argv)
        if positional and rest and not rest[0].startswith("-"):
            rest[0] = f"--{positional}={rest[0]}"
        return _parse_flags([program, *rest])

    def guarded(_: Sequence[str]) -> int:
        if not flags.FLAGS["verbosity"].present:
            absl_logging.set_verbosity(absl_logging.WARNING)
        return run_command(main, stopped=STOPPED)

    app.run(guarded, flags_parser=parse)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    unset = [argument for argument in argv if re.fullmatch(r"--?config\..+=None", argument)]
    try:
        rest = flags.FLAGS([_resolved(argument) for argument in argv if argument not in unset])
        for argument in unset:
            _unset(flags.FLAGS.config, argument.partition(".")[2].removesuffix("=None"))
        return rest
    except (AttributeError, KeyError) as error:
        if not _raised_by_config_dict(error):
            raise
        # ConfigDict's answer to an override of an unknown field, in its own quotes.
        words = re.search(r"Did you mean \"(.+?)\" instead of \"(.+?)\"", str(error))
        name = words[2] if words else str(error).strip("\"'")
        hint = f"; did you mean '{words[1]}'?" if words else ""
        sys.exit(
            f"error: the config has no field '{name}'{hint}\n"
            "All fields: python -m perceiver_jax.config FILE"
        )
    except (flags.Error, ValueError) as error:
        sys.exit(f"error: {_no_number(str(error)) or _without_trace(str(error))}")
    except OSError as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")


def _unset(tree: Any, path: str) -> None:
    """Sets a field to None, which the flag of a number cannot do; the dataclass checks it."""
    *groups, field = path.split(".")
    for group in groups:
        tree = tree[group]
    with tree.ignore_type():
        tree[field] = None


def _joined(argv: Sequence[str]) -> list[str]:
    """`--config NAME` written as `--config=NAME`."""
    joined = []
    for argument in argv:
        if joined and joined[-1] in ("-config", "--config"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _without_trace(message: str) -> str:
    """What absl says of a config file that refused its own values, without the trace in it."""
    last = message.strip().splitlines()[-1]
    exception, _, sentence = last.partition(": ")
    refused = exception == "ValueError" or exception.startswith("perceiver_jax.")
    return sentence if "Traceback" in message and refused else message


def _no_number(message: str) -> str | None:
    """What absl says of an override that is no number, as `from_dict` says it; else None."""
    what = r"flag --?(config\..+?)=(.*): (?:invalid literal for (int)|could not .+ to (float))"
    match = re.match(what, message, re.DOTALL)
    return match and f"{match[1]}={match[2]!r} is not valid; it takes {match[3] or match[4]}"


def _raised_by_config_dict(error: Exception) -> bool:
    """Whether an override was refused, and not a config file wrong."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).name == "config_dict.py"


def _resolved(argument: str) -> str:
    """`--config=NAME[:VARIANT]` with the path of a shipped config in place of a bare name."""
    match = re.fullmatch(r"(--?config=)([^:]+)(:.*)?", argument)
    if not match:
        return argument
    return f"{match[1]}{config_file(match[2])}{match[3] or ''}"


def config_file(name: str) -> Path:
    """The config file that a path or the bare name of a shipped config means.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    stem = path.stem if path.parent in (Path(), Path("configs")) else None
    if stem in shipped:
        return shipped[stem]
    raise UserError(
        f"there is no config file {name}, and no shipped config of that name; shipped are "
        f"{', '.join(shipped)}"
    )


def shipped_configs() -> dict[str, Path]:
    """Configs that come with the library, by name."""
    spec = importlib.util.find_spec("configs")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(spec.submodule_search_locations[0])
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}
