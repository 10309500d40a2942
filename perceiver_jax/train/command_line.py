"""Command lines: `--config` files with overrides, and errors without stack traces."""

import dataclasses
import difflib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags
from ml_collections.config_dict import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from perceiver_jax.command import run_command
from perceiver_jax.config import to_config_dict
from perceiver_jax.errors import UserError

STOPPED = "stopped before the first step; the same command begins where this one did"


class _ConfigFileParser(ConfigFileFlagParser):
    """Also takes files that return the dataclass itself, and remembers what it has read."""

    loaded: Any = None

    def parse(self, path: str) -> Any:
        """What the file returns, as a ConfigDict."""
        config = super().parse(path)
        if dataclasses.is_dataclass(config):
            config = to_config_dict(config).lock()
        self.loaded = config
        return config


def define_config() -> None:
    """Defines the flag `--config`."""
    config_flags.DEFINE_config_file("config", None, "config file or name of a shipped config")
    flags.FLAGS["config"].parser = _ConfigFileParser("config")


def run(
    main: Callable[[], None], *, expected: Sequence[str] = (), positional: bool = False
) -> None:
    """Parses the flags, calls `main` as `run_command` does, and ends with its exit code.

    Args:
        main: reads `absl.flags.FLAGS`.
        expected: flags that a value which stands alone was probably meant for.
        positional: whether the value of the first of them may stand alone, as the first argument.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        program, *rest = _joined(argv)
        if {"--help", "-help", "-h"} & set(rest):
            print(_usage(sys.modules["__main__"].__doc__))
            sys.exit(0)
        if positional and rest and not rest[0].startswith("-"):
            rest[0] = f"--{expected[0]}={rest[0]}"
        flags.FLAGS.set_gnu_getopt()  # options behind a value that stands alone are read, too
        program, *alone = _parse_flags([program, *rest])
        if alone:
            unset = [f"; write --{x}={alone[0]}" for x in expected if flags.FLAGS[x].value is None]
            sys.exit(f"error: {alone[0]} is no option{unset[0] if unset else ''}")
        return [program]

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
    except (AttributeError, KeyError):
        unknown = _unknown_field(argv)
        if unknown is None:  # the config file is wrong, not the command line
            raise
        sys.exit(f"error: {unknown}")
    except flags.UnrecognizedFlagError as error:
        sys.exit(f"error: {_field_of(error.flagname) or error}")
    except (flags.Error, ValueError) as error:
        said = _no_number(str(error)) or _group(str(error)) or _without_trace(str(error))
        sys.exit(f"error: {said}")
    except OSError as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")


def _unknown_field(argv: Sequence[str]) -> str | None:
    """What to say of the first override of a field that the config has not; None: it has all."""
    parser: Any = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    if parser is None or parser.loaded is None:
        return None
    files = [found[1] for x in argv if (found := re.fullmatch(r"--?config=(.*)", x))]
    fields = list(_paths(parser.loaded, "config"))
    for argument in argv:
        match = re.match(r"--?(?:no)?(config\.[^=]+)", argument)
        if match and match[1] not in fields:
            return (
                f"the config has no field '{match[1]}'{_near_path(match[1], fields)}\n"
                f"All fields: python -m perceiver_jax.config {files[-1]}"
            )
    return None


def _paths(tree: ConfigDict, where: str) -> Iterator[str]:
    """Every group and field, as overrides name them."""
    for name, value in tree.items():
        path = f"{where}.{name}"
        yield path
        if isinstance(value, ConfigDict):
            yield from _paths(value, path)


def _near_path(wrong: str, fields: Sequence[str]) -> str:
    """'; did you mean ...?' with that name in other groups, or one like it in its own."""
    group, _, name = wrong.rpartition(".")
    elsewhere = [path for path in fields if path.endswith(f".{name}")]
    siblings = [path for path in fields if path.rpartition(".")[0] == group]
    names = [path.rpartition(".")[2] for path in siblings]
    alike = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    near = elsewhere or [f"{group}.{one}" for one in alike]
    return f"; did you mean {' or '.join(repr(path) for path in near)}?" if near else ""


def _loaded_fields() -> list[str]:
    """Every field of the config that was read, if one was."""
    parser: Any = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    loaded = parser and parser.loaded
    return [] if loaded is None else list(_paths(loaded, "config"))


def _field_of(flag: str) -> str | None:
    """What to say of an unknown option that is called like a field."""
    found = [path for path in _loaded_fields() if path.endswith(f".{flag}")]
    return f"--{flag} is no option; fields are written --{' or --'.join(found)}" if found else None


def _group(message: str) -> str | None:
    """What to say of a value for a group of fields; None where absl complains of something else."""
    match = re.match(r"flag --?(config\.[^=]+)=(.*?): Failed to parse .* as a ConfigDict", message)
    if not match:
        return None
    fields = [path for path in _loaded_fields() if path.rpartition(".")[0] == match[1]]
    return f"{match[1]}={match[2]} is not valid: these are fields, --{' --'.join(fields)}"


def _usage(about: str | None) -> str:
    """What a command is for, and its options."""
    own = [
        flag
        for module, found in flags.FLAGS.flags_by_module_dict().items()
        for flag in found
        if module.partition(".")[0] == "perceiver_jax" or module == sys.argv[0]
    ]
    width = max((len(flag.name) for flag in own), default=0)
    lines = [f"  --{flag.name:<{width}}  {flag.help}" for flag in own]
    if "config" in flags.FLAGS:
        lines.append(
            "  --config.FIELD=VALUE  a field of it; all: python -m perceiver_jax.config FILE"
        )
    return "\n".join([(about or "").strip(), "", *lines])


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
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    meant = f"; did you mean '{near[0]}'? All that are shipped: " if near else "; shipped are "
    raise UserError(
        f"there is no config file {name}, and no shipped config of that name{meant}"
        f"{', '.join(shipped)}"
    )


def shipped_configs() -> dict[str, Path]:
    """Configs that come with the library, by name."""
    spec = importlib.util.find_spec("configs")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(spec.submodule_search_locations[0])
    return {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}
