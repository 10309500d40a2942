"""AudioSet as people have it: Google's lists of segments, and the clips that could be fetched.

- In the folder lie `class_labels_indices.csv` and `balanced_train_segments.csv`,
  `unbalanced_train_segments.csv` and `eval_segments.csv`, as published. Clips, of ten seconds as a
  rule, lie anywhere below it, as sound files or videos.
- A clip is found by its name: the eleven characters of the video's id, perhaps with a `Y` before
  them, and perhaps with an underscore and more behind them, such as the time.
- Segments without a clip are left out; how many is said once.
"""

import csv
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.audio.files import SUFFIXES, SoundFile
from perceiver_jax.data.sources import DatasetError

LABELS = "class_labels_indices.csv"
SPLITS = {
    "balanced_train": ("balanced_train_segments.csv",),
    "unbalanced_train": ("unbalanced_train_segments.csv",),
    "train": ("balanced_train_segments.csv", "unbalanced_train_segments.csv"),
    "eval": ("eval_segments.csv",),
}
"""The lists that make a split."""
_ID = re.compile(r"Y?([\w-]{11})(?:_.*)?", re.ASCII)


class AudioSet:
    """The clips of a split, `{"sound": SoundFile, "label": [classes] bool}`.

    Args:
        path: the folder, see above.
        split: a key of `SPLITS`.

    Raises:
        DatasetError: there is no such split, a list is missing or not what it should be, or no clip
            of it is there.
    """

    def __init__(self, path: str | os.PathLike[str], split: str):
        root = Path(path).expanduser()
        if split not in SPLITS:
            raise DatasetError(
                f"'audioset' has no split '{split}'; it has {', '.join(SPLITS)}: set "
                "--config.data.train_split and eval_split"
            )
        classes = _classes(root / LABELS)
        self.class_names = tuple(name for _, name in classes)
        numbers = {code: i for i, (code, _) in enumerate(classes)}
        clips = _clips(root)
        segments = [row for file in SPLITS[split] for row in _segments(root / file, numbers)]
        self._clips = [(clips[video], labels) for video, labels in segments if video in clips]
        missing = len(segments) - len(self._clips)
        if not self._clips:
            raise DatasetError(
                f"none of the {len(segments):,} clips of split '{split}' is below {root}; expected "
                "files such as Y--4gqARaEJE.wav, whose names are ids of videos, that end in "
                f"{', '.join(SUFFIXES)}"
            )
        if missing:
            print(
                f"{missing:,} of the {len(segments):,} clips of split '{split}' are not below "
                f"{root} and are left out",
                file=sys.stderr,
            )

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        path, labels = self._clips[index]
        label = np.zeros(len(self.class_names), bool)
        label[list(labels)] = True
        return {"sound": SoundFile(path), "label": label}


def _classes(path: Path) -> list[tuple[str, str]]:
    """(code, name) of each class, in the order of their numbers."""
    rows = _rows(path)
    header = rows[0] if rows else []
    if header[:3] != ["index", "mid", "display_name"]:
        raise DatasetError(f"{path} does not begin with 'index,mid,display_name'; fetch it again")
    try:
        classes = sorted((int(number), code, name) for number, code, name, *_ in rows[1:])
    except ValueError as error:
        raise DatasetError(
            f"{path} has a line that is not read ({error}); fetch it again"
        ) from error
    if [number for number, *_ in classes] != list(range(len(classes))):
        raise DatasetError(f"{path} does not number its classes from 0 on; fetch it again")
    return [(code, name) for _, code, name in classes]


def _segments(path: Path, numbers: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
    """(id of the video, numbers of its classes) of each line."""
    found = []
    for row in _rows(path):
        if row and row[0].startswith("#"):
            continue
        if len(row) != 4 or not set(row[3].split(",")) <= set(numbers):
            raise DatasetError(
                f'{path} has the line {row}; expected id, start, end and "code,code" with codes '
                f"of {LABELS}"
            )
        found.append((row[0], tuple(numbers[code] for code in row[3].split(","))))
    return found


def _rows(path: Path) -> list[list[str]]:
    """Lines of a table, without those that are empty."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file, skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); 'audioset' needs {LABELS} and "
            f"{', '.join(SPLITS['train'] + SPLITS['eval'])} in its folder, as published"
        ) from error


def _clips(root: Path) -> dict[str, Path]:
    """Files below a folder by the id of their video; of several, the first by path."""
    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            named = _ID.fullmatch(stem) if suffix.lower() in SUFFIXES else None
            if named:
                found.setdefault(named[1], Path(folder) / file)
    return found
