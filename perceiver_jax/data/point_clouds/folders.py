"""Datasets of meshes and points in folders, as they are unpacked: which files a split has.

- `modelnet40`: Princeton's archive, DIR/CLASS/{train,test}/CLASS_0001.off.
- `modelnet40_resampled`: points with normals, DIR/CLASS/CLASS_0001.txt, and lists of names beside
  them: modelnet40_shape_names.txt, modelnet40_train.txt, modelnet40_test.txt.
- `folders`: DIR/SPLIT/CLASS/*, any number of splits, meshes and points mixed.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from perceiver_jax.data.class_folders import find_class_files
from perceiver_jax.data.point_clouds.files import SUFFIXES
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split


class CloudFiles(NamedTuple):
    """The files of a split: where all lie, (file, label) pairs, and the names of the classes."""

    root: Path
    files: Sequence[tuple[Path, int]]
    class_names: tuple[str, ...]


def find_files(
    dataset: str, data_dir: str | None, split: str, *, train_split: str = "train"
) -> CloudFiles:
    """The files of a split, always in the same order.

    Args:
        dataset: 'folders', or a key of `LAYOUTS`.
        data_dir: its folder.
        split: "train" or "test"; of 'folders', a folder.
        train_split: of 'folders', the split whose classes count.

    Raises:
        DatasetError: there is no such folder or split, or no file in it; see `find_class_files`.
    """
    if data_dir is None:
        raise DatasetError(
            f"'{dataset}' is read from a folder of yours; name it with --config.data.data_dir"
        )
    root = Path(data_dir).expanduser()
    if dataset == "folders":
        names, files = find_class_files(
            root, split, train_split=train_split, suffixes=SUFFIXES, kind="meshes or points"
        )
        return CloudFiles(root, [(Path(file), label) for file, label in files], names)
    if not root.is_dir():
        raise DatasetError(f"'{root}' is no folder; name that of '{dataset}' in data_dir")
    found = LAYOUTS[dataset](root, split)
    if not found.files:
        raise DatasetError(
            f"split '{split}' of '{dataset}' in {root} has no files that end in "
            f"{', '.join(SUFFIXES)}; name another split or --config.data.data_dir"
        )
    return found


def _modelnet40(root: Path, split: str) -> CloudFiles:
    check_split(split, ("train", "test"))
    # Of both splits, so that labels are the same in each of them.
    names = tuple(
        name
        for name in _folders(root)
        if any((root / name / one).is_dir() for one in ("train", "test"))
    )
    if not any((root / name / split).is_dir() for name in names):
        raise DatasetError(
            f"{root} has no folders CLASS/{split}; expected the unpacked ModelNet40: "
            "DIR/airplane/train/airplane_0001.off and so on"
        )
    files = [
        (file, label) for label, name in enumerate(names) for file in _clouds(root / name / split)
    ]
    return CloudFiles(root, files, names)


def _modelnet40_resampled(root: Path, split: str) -> CloudFiles:
    check_split(split, ("train", "test"))
    names = tuple(sorted(_lines(root / "modelnet40_shape_names.txt")))
    labels = {name: label for label, name in enumerate(names)}
    files = []
    for line in _lines(root / f"modelnet40_{split}.txt"):
        name = line.rpartition("_")[0]
        if name not in labels:
            raise DatasetError(
                f"modelnet40_{split}.txt in {root} has '{line}', of a class that is not in "
                "modelnet40_shape_names.txt; get both again, of one release"
            )
        files.append((root / name / f"{line}.txt", labels[name]))
    missing = [file for file, _ in files if not file.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(files)} files of split '{split}' are not there, such as "
            f"{missing[0]}; unpack the archive again"
        )
    return CloudFiles(root, files, names)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}; expected the unpacked modelnet40_normal_resampled"
        ) from error


def _clouds(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [
        Path(x.path) for x in _entries(folder) if x.name.lower().endswith(SUFFIXES) and x.is_file()
    ]


def _folders(folder: Path) -> list[str]:
    return [x.name for x in _entries(folder) if x.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [x for x in entries if not x.name.startswith(".")]
    return sorted(seen, key=lambda x: x.name)


LAYOUTS: dict[str, Callable[[Path, str], CloudFiles]] = {
    "modelnet40": _modelnet40,
    "modelnet40_resampled": _modelnet40_resampled,
}
"""Layouts of ModelNet40 by name: (folder, split) → files."""
