"""Video files in folders, with classes or without.

- As Kinetics: DIR/SPLIT/CLASS/*.mp4. Labels are by the sorted names of the classes in all folders
  of DIR, so that they are the same in each of them.
- Without classes: DIR/SPLIT/*.mp4; or DIR/*.mp4, of which names decide: a tenth is 'test', what is
  left is 'train', and 'all' is every file. All labels are 0.
- Files are read when their clips are; the errors of those that cannot be read name them.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import held_out
from perceiver_jax.data.video.videos import VideoFile

SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")


class VideoFolder:
    """The videos of a split, in the order of their paths.

    Args:
        path: the folder, see above.
        split: a folder in it; or 'train', 'test' or 'all' of a folder of files.

    Raises:
        DatasetError: there is no such folder or split, or no video in it.
    """

    def __init__(self, path: str | os.PathLike[str], split: str):
        root = Path(path).expanduser()
        if not root.is_dir():
            raise DatasetError(f"'{root}' is no folder; name one that has videos in it")
        self.class_names: tuple[str, ...] = ()
        if (root / split).is_dir():
            self._files = self._of_folder(root, root / split)
        else:
            self._files = [(file, 0) for file in _by_name(root, split)]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        file, label = self._files[index]
        return {"video": VideoFile(file), "label": label}

    def _of_folder(self, root: Path, folder: Path) -> list[tuple[Path, int]]:
        """(file, label) of a folder of classes, or of files alone."""
        loose = _videos(folder)
        classes = _folders(folder)
        if loose and classes:
            raise DatasetError(
                f"{folder} has classes, such as '{classes[0].name}', and files of none, such as "
                f"'{loose[0].name}'; move those into classes or away"
            )
        if classes:
            others = {x.name for one in _folders(root) for x in _folders(one) if _videos(x)}
            self.class_names = tuple(sorted(others | {x.name for x in classes}))
        labels = {name: label for label, name in enumerate(self.class_names)}
        files = [(file, labels[x.name]) for x in classes for file in _videos(x)]
        files += [(file, 0) for file in loose]
        if not files:
            raise DatasetError(
                f"{folder} has no videos: no files that end in {_listed(SUFFIXES)}; put them "
                "there, or name another split or --config.data.data_dir"
            )
        return files


def _by_name(root: Path, split: str) -> list[Path]:
    """Files of a folder that has no folders for splits."""
    files = _videos(root)
    if not files:
        known = _listed(x.name for x in _folders(root)) or "nothing"
        raise DatasetError(
            f"{root} has no folder '{split}' and no videos; it has {known}; expected "
            "DIR/SPLIT/CLASS/*.mp4, DIR/SPLIT/*.mp4 or DIR/*.mp4"
        )
    if split not in ("train", "test", "all"):
        raise DatasetError(
            f"{root} has no folder '{split}', and of a folder of files there are the splits train, "
            "test and all; choose one of these, or make the folder"
        )
    chosen = [x for x in files if split == "all" or held_out(x.name) == (split == "test")]
    if not chosen:
        raise DatasetError(
            f"none of the {len(files)} videos in {root} is of split '{split}'; add more, put those "
            "of it into a folder of that name, or choose 'all'"
        )
    return chosen


def _videos(folder: Path) -> list[Path]:
    """Video files right in a folder, by name; hidden ones are left out."""
    return [Path(x.path) for x in _entries(folder) if _is_video(x) and x.is_file()]


def _is_video(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES)


def _folders(folder: Path) -> list[Path]:
    return [Path(x.path) for x in _entries(folder) if x.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [x for x in entries if not x.name.startswith(".")]
    return sorted(seen, key=lambda x: x.name)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
