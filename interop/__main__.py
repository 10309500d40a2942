"""`python -m interop {table,check,import,export,convert}`: weights from the command line."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from perceiver_jax.command import add_step_argument, run_command
from perceiver_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the command; an expected error ends in a sentence.

    Returns:
        The exit code: 0, or 1 where a check found a difference or something is wrong.
    """
    options = _parser().parse_args(arguments)
    return run_command(lambda: options.run(options))


def _table(options: argparse.Namespace) -> int:
    from interop.configs import find_config, is_source
    from interop.expressible import nearest
    from interop.importing import find_format, read
    from interop.printing import describe

    module, name = find_format(options.format), _config_name(options)
    found = read(module, name, None)[1] if is_source(name) else find_config(name, module)
    config, changes = nearest(module, found)
    for change in changes:
        print(f"# {module.WHOSE} cannot express {change}")
    print(describe(module.rows(config), config))
    return 0


def _config_name(options: argparse.Namespace) -> str:
    name = options.config or options.name
    if name is None:
        raise UserError(
            "give the config: --config=FILE, the NAME of a published model, or a file, folder or "
            "hub id with weights"
        )
    return name


def _check(options: argparse.Namespace) -> int:
    from interop.check import compare, first_difference, open_pair, report

    pair = open_pair(options.format, options.source, _config(options, options.format))
    print(
        f"compiling and running {options.format} and ours, operation by operation …",
        file=sys.stderr,
        flush=True,
    )
    begin = time.monotonic()
    stages = compare(pair, batch=options.batch, perturb=options.perturb)
    print(f"compiled and run in {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    print(report(stages, options.tolerance))
    return 0 if first_difference(stages, options.tolerance) is None else 1


def _convert(options: argparse.Namespace) -> int:
    from interop.importing import import_weights

    if options.source_format == "ours" and options.config is None:
        return _export(options)
    if options.step is not None:
        raise UserError(
            "--step is of a run of ours, and goes without --config; leave one of the two out"
        )
    config = _config(options, options.source_format)
    return _write(options, import_weights(options.source_format, options.source, config=config))


def _export(options: argparse.Namespace) -> int:
    from perceiver_jax.pretrained import open_source

    is_run = (Path(options.source) / "checkpoints").is_dir()
    source = options.source if is_run else f"ours:{options.source}"
    return _write(options, open_source(source, options.step))


def _write(options: argparse.Namespace, found: Any) -> int:
    from interop.exporting import export_weights
    from perceiver_jax import models, params

    if options.licence is not None:
        found = dataclasses.replace(
            found, card=dataclasses.replace(found.card, licence=options.licence)
        )
    structure = models.skeleton(found.config)
    print(
        f"read     {options.source}: {params.count(structure.params):,} parameters in "
        f"{len(structure.params):,} arrays"
    )
    if found.card.origin:
        print(f"from     {found.card.origin}")
    exported = export_weights(
        found, options.destination_format, options.destination, approximate=options.approximate
    )
    for change in exported.changes:
        print(f"changed  {change}")
    if exported.effect is not None:
        effect = exported.effect
        print(
            f"effect   outputs move by up to {effect.difference:.2e} at a scale of "
            f"{effect.scale:.2e} (noise, seed 0, {effect.batch_size} examples)"
        )
    for remark in exported.remarks:
        print(f"note     {remark}")
    if options.destination_format == "ours" and found.card.licence is None:
        print("note     the model card names no licence; give it with --licence='CC BY 4.0'")
    print(f"written  {exported.destination}")
    return 0


def _config(options: argparse.Namespace, format: str):  # noqa: A002
    from interop.configs import find_config
    from interop.importing import find_format

    module: ModuleType = find_format(format)
    return None if options.config is None else find_config(options.config, module)


def _parser() -> argparse.ArgumentParser:
    from interop.formats import FORMATS

    parser = argparse.ArgumentParser(prog="python -m interop", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    formats = ", ".join(FORMATS)
    config_help = (
        "what the model is, where the files do not tell: the name of a published model, a JSON "
        "file of settings, or a config file"
    )

    def command(name: str, run: Any, help: str) -> argparse.ArgumentParser:  # noqa: A002
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        if run is not _export:
            added.add_argument("--config", help=config_help)
        return added

    table = command("table", _table, "print which parameter is called what elsewhere")
    table.add_argument("format", help=formats)
    table.add_argument(
        "name",
        nargs="?",
        help="a published model, or a file, folder or hub id with weights, in place of --config",
    )

    check = command("check", _check, "run a reference implementation and ours side by side")
    check.add_argument("format", help=formats)
    check.add_argument("source", help="file, folder or hub id")
    check.add_argument("--batch", type=Path, help=".npz with `inputs` as our model takes them")
    check.add_argument("--perturb", metavar="PATH", help="disturb a parameter: the check must fail")
    check.add_argument(
        "--tolerance", type=float, default=1e-9, help="relative, in float64 (default: 1e-9)"
    )

    def conversion(name: str, run: Any, help: str) -> argparse.ArgumentParser:  # noqa: A002
        added = command(name, run, help)
        added.add_argument(
            "--approximate",
            action="store_true",
            help="write the nearest model where the format cannot express this one, and measure",
        )
        added.add_argument(
            "--licence", help="of the weights, for the model card (default: as the source says)"
        )
        add_step_argument(added)
        return added

    convert = conversion("convert", _convert, "from one format to another")
    convert.add_argument("--from", dest="source_format", required=True, metavar="FORMAT")
    convert.add_argument("source", help="file, folder or hub id")
    convert.add_argument("--to", dest="destination_format", required=True, metavar="FORMAT")
    convert.add_argument("destination", help="file or folder")

    into = conversion("import", _convert, "from another format to a release of ours")
    into.add_argument("source_format", metavar="format", help=formats)
    into.add_argument("source", help="file, folder or hub id")
    into.add_argument("destination", help="folder")
    into.set_defaults(destination_format="ours")

    out = conversion("export", _export, "from a release of ours, or a workdir, to another format")
    out.add_argument("destination_format", metavar="format", help=formats)
    out.add_argument("source", help="folder of a release, or workdir of a run")
    out.add_argument("destination", help="file or folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
