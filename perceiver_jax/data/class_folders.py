"""Files in folders, one for each class: DIR/SPLIT/CLASS/*, of any kind of file.

- Labels are by the sorted names of the classes of the training split, whichever split is read: a
  model learns no others. A split may lack some of them; one that has others is refused.
- Hidden files and folders, whose names begin with a dot, are left out.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from perceiver_jax.data.sources import DatasetError


class ClassFiles(NamedTuple):
    """The files of a split.

    Attributes:
        class_names: of the training split.
        files: (path, label), in the order of their paths. Strings, as there may be millions.
    """

    class_names: tuple[str, ...]
    files: Sequence[tuple[str, int]]


def find_class_files(
    path: str | os.PathLike[str],
    split: str,
    *,
    train_split: str,
    suffixes: tuple[str, ...],
    kind: str,
) -> ClassFiles:
    """The files of a split.

    Args:
        path: the folder, see above.
        split: a folder in it.
        train_split: likewise; where it is not there, classes are those of `split`.
        suffixes: of the files, in lower case; those in upper case are found, too.
        kind: what they are, for messages.

    Raises:
        DatasetError: there is no such folder or split, no such file in it, or a class of it is
            none of the training split.
    """
    root, expected = Path(path).expanduser(), f"expected DIR/SPLIT/CLASS/*{suffixes[0]}"
    folder = root / split
    if not root.is_dir():
        raise DatasetError(
            f"there is no folder {root}; {expected}: name DIR in --config.data.data_dir"
        )
    if not folder.is_dir():
        found = ", ".join(_folders(root)) or "none"
        raise DatasetError(f"{root} has no folder '{split}'; it has {found}; {expected}")
    loose = next(_files(folder, suffixes), None)
    if loose is not None:
        raise DatasetError(
            f"{loose} is of no class; move it into a folder named after its class: {expected}"
        )
    found = _classes(folder, suffixes)
    if not found:
        raise DatasetError(
            f"{folder} has no {kind}: no files DIR/SPLIT/CLASS/* that end in "
            f"{', '.join(suffixes)}; put them there, or name another split or "
            "--config.data.data_dir"
        )
    trained = root / train_split
    class_names = _classes(trained, suffixes) if trained.is_dir() else found
    unknown = [name for name in found if name not in class_names]
    if unknown:
        raise DatasetError(
            f"split '{split}' of {root} has {', '.join(map(repr, unknown[:3]))}, which "
            f"'{train_split}' does not, so that a model could not learn it; give both splits "
            "folders of the same names"
        )
    files = [
        (file, label)
        for label, name in enumerate(class_names)
        if name in found
        for file in sorted(_files(folder / name, suffixes))
    ]
    return ClassFiles(tuple(class_names), files)


def _classes(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Sorted names of the folders in a split that hold files."""
    return [name for name in _folders(folder) if next(_files(folder / name, suffixes), None)]


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Paths of the files right in a folder, in no order."""
    for entry in _entries(folder):
        if entry.name.lower().endswith(suffixes) and entry.is_file():
            yield entry.path


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))
