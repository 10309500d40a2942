"""MIDI files in folders: MAESTRO, GiantMIDI-Piano, and files of one's own.

- MAESTRO v3 has splits of its own in `maestro-v3.0.0.csv` or `.json`: train, validation, test.
- GiantMIDI-Piano has some in `…_split.csv`; where that file is not there, the names decide, and all
  recordings of a work are of one split. Folders with its splits in them are 'files:PATH'.
- Of other files, a split is a subfolder of that name; else the names decide: a tenth is 'test', and
  what is left is 'train'. 'all' is every file.
- Files that cannot be read are left out, and named on the terminal.
"""

import csv
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.music.midi import read_midi, require_pretty_midi
from perceiver_jax.data.music.performance import MusicError, Note
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split, held_out

_SUFFIXES = (".mid", ".midi")
_READER_VERSION = 1


class MidiFiles:
    """Pieces, a file each.

    Args:
        files: in the order of the pieces.

    Raises:
        MusicError: the package pretty_midi is not installed.
    """

    def __init__(self, files: Iterable[Path]):
        self.files = tuple(files)
        require_pretty_midi()

    @property
    def fingerprint(self) -> str:
        """See `Pieces`; files are read for this: equal names, sizes and times prove nothing.

        Raises:
            DatasetError: a file cannot be read.
        """
        return fingerprint("midi", _READER_VERSION, [_digest(file) for file in self.files])

    def __iter__(self) -> Iterator[list[Note]]:
        for file in self.files:
            try:
                yield read_midi(file)
            except MusicError as error:
                print(f"left out: {error}", file=sys.stderr)


def midi_files(path: str, split: str) -> MidiFiles:
    """Files in a folder and those below it.

    Raises:
        DatasetError: there is no such folder, no MIDI file in it, or none of the split.
    """
    root = _folder(path)
    if split == "all":
        return MidiFiles(_found(root))
    if (root / split).is_dir():
        return MidiFiles(_found(root / split))
    return MidiFiles(_by_name(root, split, lambda file: file.relative_to(root).as_posix()))


def maestro(path: str, split: str) -> MidiFiles:
    """MAESTRO v3, by its own splits.

    Raises:
        DatasetError: there is no such folder, its list or a file of it is missing, or there is no
            such split.
    """
    root = _folder(path)
    lists = sorted((*root.glob("maestro-v*.csv"), *root.glob("maestro-v*.json")))
    if not lists:
        raise DatasetError(
            f"{root} has no maestro-v3.0.0.csv or .json; name the folder of MAESTRO that has one"
        )
    of_split: dict[str, list[str]] = {}
    for name, its_split in _maestro_rows(lists[0]):
        of_split.setdefault(its_split, []).append(name)
    check_split(split, tuple(sorted(of_split)))
    files = [root / name for name in sorted(of_split[split])]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{lists[0]} lists {len(missing)} files that are missing, such as {missing[0]}; unpack "
            "MAESTRO again"
        )
    return MidiFiles(files)


def giantmidi(path: str, split: str) -> MidiFiles:
    """GiantMIDI-Piano, or its part with checked surnames: the files that are there.

    Raises:
        DatasetError: there is no such folder, no MIDI file in it, or none of the split.
    """
    root = _folder(path)
    lists = sorted(root.rglob("*_split.csv"))
    if not lists:
        return MidiFiles(_by_name(root, split, lambda file: _work(file.stem)))
    # The part with checked surnames has copies: a name counts once.
    by_stem = {file.stem: file for file in _found(root)}
    splits = {row["audio_name"]: row["split"] for row in _giantmidi_rows(lists[0])}
    check_split(split, tuple(sorted(set(filter(None, splits.values())))))
    chosen = [by_stem[stem] for stem in sorted(by_stem) if splits.get(stem) == split]
    return MidiFiles(_some(chosen, root, split))


def _work(stem: str) -> str:
    """`Surname, First name, Title, video` without the video."""
    return stem.rpartition(", ")[0] or stem


def _by_name(root: Path, split: str, name: Callable[[Path], str]) -> list[Path]:
    check_split(split, ("train", "test"))
    test = split == "test"
    return _some([file for file in _found(root) if held_out(name(file)) == test], root, split)


def _some(files: list[Path], root: Path, split: str) -> list[Path]:
    if not files:
        raise DatasetError(
            f"none of the MIDI files in {root} is of split '{split}'; add more, or put those of it "
            "into a folder of that name"
        )
    return files


def _folder(path: str) -> Path:
    root = Path(os.path.expanduser(path))
    if not root.is_dir():
        raise DatasetError(f"'{path}' is no folder; name one that has MIDI files in it")
    return root


def _found(root: Path) -> list[Path]:
    """MIDI files by path; hidden ones are left out."""
    files = [
        file
        for file in root.rglob("*")
        if file.suffix.lower() in _SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    ]
    if not files:
        raise DatasetError(
            f"{root} has no files that end in {' or '.join(_SUFFIXES)}; name the folder that has "
            "them, as in --config.data.dataset=files:PATH"
        )
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def _maestro_rows(path: Path) -> list[tuple[str, str]]:
    """(name of the file, split)."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            rows = csv.DictReader(text.splitlines())
            return [(row["midi_filename"], row["split"]) for row in rows]
        columns = json.loads(text)
        return [(name, columns["split"][i]) for i, name in columns["midi_filename"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DatasetError(
            f"{path} is not the list of MAESTRO ({type(error).__name__}: {error}); unpack it again"
        ) from error


def _giantmidi_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table with tabs between."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        if not rows or not {"audio_name", "split"} <= rows[0].keys():
            raise ValueError("it has no columns audio_name and split")
        return rows
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"{path} is not the list of GiantMIDI-Piano ({error}); fetch it again, or delete it"
        ) from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
