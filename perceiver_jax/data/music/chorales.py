"""Chorales and other pieces of Johann Sebastian Bach, as scores: 408 files.

- 54 of them, chosen by the files' names, are the test split. No piece of it differs from one of the
  training split in key and tempo alone; but the same hymns, set otherwise, are in both.
- `python -m perceiver_jax.data.music.chorales` fetches the files once; nothing else does.
- They are of the corpus of music21, of Margaret Greentree's collection for the most part.
"""

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.music.musicxml import read_musicxml
from perceiver_jax.data.music.performance import Note
from perceiver_jax.data.package_files import check_archive, keep
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split, held_out

FILE = "bach.zip"
NUM_FILES = 408
PROJECT, ARCHIVE = "music21", "music21-10.5.1-py3-none-any.whl"
ARCHIVE_SHA256 = "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1"
_FOLDER = "music21/corpus/bach/"
_COMMAND = "python -m perceiver_jax.data.music.chorales"
_READER_VERSION = 1


class Chorales:
    """Pieces in the order of their names.

    Args:
        split: "train" or "test".
        data_dir: the folder of datasets; None: the default place.

    Raises:
        DatasetError: the split is unknown, or the file is not there.
    """

    def __init__(self, split: str, data_dir: str | None = None):
        check_split(split, ("train", "test"))
        self._path, self._split = path_of(data_dir), split
        if not self._path.is_file():
            where = "" if data_dir is None else f" --data_dir={data_dir}"
            raise DatasetError(f"'chorales' is not at {self._path}; fetch it: {_COMMAND}{where}")
        self._contents = self._path.read_bytes()
        digest = hashlib.sha256(self._contents).hexdigest()
        self.fingerprint = fingerprint("chorales", _READER_VERSION, digest, split)

    def __iter__(self) -> Iterator[list[Note]]:
        try:
            with zipfile.ZipFile(io.BytesIO(self._contents)) as packed:
                for name in sorted(packed.namelist()):
                    if held_out(name) == (self._split == "test"):
                        yield read_musicxml(packed.read(name), f"{self._path}, {name},")
        except zipfile.BadZipFile as error:
            raise DatasetError(
                f"{self._path} is damaged ({error}); delete it and fetch it again: {_COMMAND}"
            ) from error


def path_of(data_dir: str | None) -> Path:
    """Where the file is, or will be."""
    return datasets_folder(data_dir) / "chorales" / FILE


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the scores out of a package, of which nothing else is unpacked, and nothing run.

    Args:
        archive: contents of the wheel of music21.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The file written, a zip file of .mxl files.

    Raises:
        DatasetError: it is another archive, or the file cannot be written.
    """
    check_archive(archive, name=ARCHIVE, sha256=ARCHIVE_SHA256)
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as wheel,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as scores,
    ):
        for name in sorted(wheel.namelist()):
            if _is_score(name):
                # Without the time of day: the file is the same whenever it is made.
                scores.writestr(zipfile.ZipInfo(name.removeprefix(_FOLDER)), wheel.read(name))
        num_files = len(scores.namelist())
    if num_files != NUM_FILES:
        raise DatasetError(
            f"{ARCHIVE} has {num_files} scores, not {NUM_FILES}; nothing was written"
        )
    path = path_of(data_dir)
    keep(path, packed.getvalue())
    return path


def _is_score(name: str) -> bool:
    rest = name.removeprefix(_FOLDER)
    return rest != name and rest.endswith(".mxl") and "/" not in rest


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the scores, or takes them out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches the dataset 'chorales' from the package index.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
