"""Sound files in folders, one for each class: DIR/SPLIT/CLASS/*.wav and what else is read.

Files are read when crops of them are; the errors of those that cannot be read name them.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perceiver_jax.data.audio.files import SUFFIXES, SoundFile
from perceiver_jax.data.class_folders import find_class_files


class SoundFolder:
    """The sounds of a split, `{"sound": SoundFile, "label": int}`, in the order of their paths.

    Args:
        path: the folder, see `class_folders`.
        split: a folder in it.
        train_split: likewise; classes are those of it.

    Raises:
        DatasetError: see `find_class_files`.
    """

    def __init__(self, path: str | os.PathLike[str], split: str, *, train_split: str):
        self.class_names, self._files = find_class_files(
            path, split, train_split=train_split, suffixes=SUFFIXES, kind="sounds"
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        file, label = self._files[index]
        return {"sound": SoundFile(Path(file)), "label": label}
