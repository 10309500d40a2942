"""A SoundFont of the General MIDI instruments, 'TimGM6mb', out of the package pretty_midi.

- It is read from the package where it is installed, without importing it. Else
  `python -m perceiver_jax.data.audio.general_midi` fetches the file once; nothing else does.
- The package is under the MIT licence; the SoundFont, by Tim Brechbill, is under the GNU GPL 2: it
  is neither part of this library nor of what is trained on it.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.data.audio.soundfont import SoundFont
from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import check_archive, digest, installed, keep, wheel_members
from perceiver_jax.data.sources import DatasetError

FILE = "TimGM6mb.sf2"
FILE_SHA256 = "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"
PACKAGE = "pretty_midi"
PROJECT, ARCHIVE = "pretty-midi", "pretty_midi-0.2.11.post0-py3-none-any.whl"
ARCHIVE_SHA256 = "a3e2321736245a9c92259716d85a4762f16b7bde2f591fb0dba95bdb6e793d8a"
_MEMBER = f"{PACKAGE}/{FILE}"
_COMMAND = "python -m perceiver_jax.data.audio.general_midi"


def path_of(data_dir: str | None) -> Path:
    """Where the fetched file is, or will be."""
    return datasets_folder(data_dir) / "general_midi" / FILE


@functools.lru_cache(maxsize=2)
def load_soundfont(data_dir: str | None = None) -> SoundFont:
    """The SoundFont: the fetched file, else that of the installed package.

    Raises:
        DatasetError: neither is there, or the fetched file was changed.
    """
    path = path_of(data_dir)
    if path.is_file():
        contents = path.read_bytes()
        if digest(contents) != FILE_SHA256:
            raise DatasetError(
                f"{path} is damaged or was changed; delete it and fetch it again: {_COMMAND}"
            )
        return SoundFont(contents)
    contents = installed(PACKAGE, FILE, FILE_SHA256)
    if contents is None:
        where = "" if data_dir is None else f" --data_dir={data_dir}"
        raise DatasetError(
            f"'instruments' are not at {path}, and {PACKAGE} is not installed; fetch them: "
            f"{_COMMAND}{where}"
        )
    return SoundFont(contents)


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the SoundFont out of a wheel, of which nothing else is unpacked, and nothing run.

    Args:
        archive: contents of the wheel of pretty_midi.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The file written.

    Raises:
        DatasetError: it is another archive, or the file cannot be written.
    """
    check_archive(archive, name=ARCHIVE, sha256=ARCHIVE_SHA256)
    contents = wheel_members(archive, [_MEMBER], name=ARCHIVE)
    path = path_of(data_dir)
    keep(path, contents[_MEMBER])
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the SoundFont, or takes it out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches the recordings of the dataset 'instruments' from the package index.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
