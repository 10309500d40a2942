"""Sound files in folders, one for each class: DIR/SPLIT/CLASS/*.wav and what else is read.

- Labels are by the sorted names of the classes in all folders of DIR that hold sounds, so that they
  are the same in each of them.
- Files are read when crops of them are; the errors of those that cannot be read name them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perceiver_jax.data.audio.files import SUFFIXES, SoundFile
from perceiver_jax.data.sources import DatasetError


class SoundFolder:
    """The sounds of a split, `{"sound": SoundFile, "label": int}`, in the order of their paths.

    Args:
        path: the folder, see above.
        split: a folder in it.

    Raises:
        DatasetError: there is no such folder or split, or no sound in it.
    """

    def __init__(self, path: str | os.PathLike[str], split: str):
        root = Path(path).expanduser()
        if not (root / split).is_dir():
            found = ", ".join(x.name for x in _folders(root)) if root.is_dir() else "nothing"
            raise DatasetError(
                f"{root} has no folder '{split}', but {found or 'none'}; expected "
                "DIR/SPLIT/CLASS/*.wav"
            )
        loose = sound_files(root / split)
        if loose:
            raise DatasetError(
                f"{loose[0]} is of no class; move it into a folder named after its class: "
                "DIR/SPLIT/CLASS/*.wav"
            )
        classes = {x.name for one in _folders(root) for x in _folders(one) if sound_files(x)}
        self.class_names = tuple(sorted(classes))
        labels = {name: label for label, name in enumerate(self.class_names)}
        self._files = [
            (file, labels[one.name]) for one in _folders(root / split) for file in sound_files(one)
        ]
        if not self._files:
            raise DatasetError(
                f"{root / split} has no sounds: no files DIR/SPLIT/CLASS/* that end in "
                f"{', '.join(SUFFIXES)}; put them there, or name another split or "
                "--config.data.data_dir"
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        file, label = self._files[index]
        return {"sound": SoundFile(file), "label": label}


def sound_files(folder: Path) -> list[Path]:
    """Sound files right in a folder, by name; hidden ones are left out."""
    return [
        Path(x.path) for x in _entries(folder) if x.name.lower().endswith(SUFFIXES) and x.is_file()
    ]


def _folders(folder: Path) -> list[Path]:
    return [Path(x.path) for x in _entries(folder) if x.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [x for x in entries if not x.name.startswith(".")]
    return sorted(seen, key=lambda x: x.name)
