"""Which files there are, and which of them, and which part of their documents, are a split."""

import dataclasses
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.readers import SUFFIXES, suffix, wikitext_split

_SPLIT = re.compile(r"(?P<name>[\w.-]+)(\[((?P<start>\d+)%)?:((?P<stop>\d+)%)?\])?")
_NAME_ENDS = re.compile(r"[-._]")


@dataclasses.dataclass(frozen=True)
class Split:
    """The files of a name, and of their documents those from start to stop percent."""

    name: str
    start: int = 0
    stop: int = 100

    @classmethod
    def parse(cls, text: str) -> "Split":
        """A split as users write it.

        Raises:
            DatasetError: it is none.
        """
        match = _SPLIT.fullmatch(text)
        split = match and cls(match["name"], int(match["start"] or 0), int(match["stop"] or 100))
        if split is None or not split.start < split.stop <= 100:
            raise DatasetError(
                f"'{text}' is no split of files; expected a name with or without percents from "
                "low to high, as in train, all[:90%] or all[90%:]"
            )
        return split

    @property
    def whole(self) -> bool:
        """Whether it is no slice."""
        return (self.start, self.stop) == (0, 100)

    def part(self, count: int) -> tuple[int, int]:
        """Where the slice starts and stops among that many things."""
        return self.start * count // 100, self.stop * count // 100


def find_files(path: str) -> tuple[Path, list[Path]]:
    """Text files, in the order of their paths; hidden ones in a folder are left out.

    Args:
        path: a file, a folder, which is searched with its subfolders, or a pattern with `*`.

    Returns:
        The folder that they have in common, and the files.

    Raises:
        DatasetError: there are none.
    """
    whole = os.path.expanduser(path)
    if os.path.isdir(whole):
        root, found = Path(whole), list(Path(whole).rglob("*"))
    elif os.path.isfile(whole):
        root, found = Path(whole).parent, [Path(whole)]
    else:
        fixed = glob.escape(whole) == whole
        parts = Path(whole).parts
        magic = [i for i, part in enumerate(parts) if glob.has_magic(part)]
        root = Path(*parts[: magic[0]]) if magic else Path()
        found = [] if fixed else [Path(name) for name in glob.glob(whole, recursive=True)]
    files = [file for file in found if suffix(file) and file.is_file() and _seen(file, root)]
    if not files:
        raise DatasetError(
            f"'files:{path}' names no text file; expected a file, a folder or a pattern of files "
            f"that end in {', '.join(SUFFIXES)}, or are those of WikiText (wiki.train.tokens)"
        )
    return root, sorted(files, key=lambda file: file.relative_to(root).as_posix())


def _seen(file: Path, root: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(root).parts)


def of_split(files: Sequence[Path], root: Path, name: str) -> list[Path]:
    """Those of the files that are in a split: by a folder, or by how their names start.

    Raises:
        DatasetError: none is.
    """
    if name == "all":
        return list(files)
    chosen = [file for file in files if name in _split_names(file.relative_to(root))]
    if not chosen:
        known = sorted({_short_name(file.relative_to(root)) for file in files})
        shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
        raise DatasetError(
            f"no split of the files in {root} is called '{name}'; there are {shown}, and all, of "
            "which all[:90%] and all[90%:] are parts"
        )
    return chosen


def _split_names(relative: Path) -> set[str]:
    """`a/train-0.txt` is in 'a', 'train' and 'train-0'; `wiki.train.tokens` is in 'train'."""
    stem = relative.name.removesuffix(suffix(relative) or "")
    starts = {stem[: match.start()] for match in _NAME_ENDS.finditer(stem)}
    names = {*relative.parts[:-1], stem, *starts}
    return names | {split} if (split := wikitext_split(relative)) else names


def _short_name(relative: Path) -> str:
    """The first folder, or what a file's name starts with."""
    if len(relative.parts) > 1:
        return relative.parts[0]
    if split := wikitext_split(relative):
        return split
    return _NAME_ENDS.split(relative.name)[0]
