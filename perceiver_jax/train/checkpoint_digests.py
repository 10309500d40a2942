"""Digests of a checkpoint's files: whether what is read is what was written.

They are written before a checkpoint gets its name, so that each whole one has them. What has none,
from before there were digests, is taken for whole.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

FILE = "digests.json"


def write(folder: Path) -> None:
    """Writes the digests of all files in the subfolders of a checkpoint, one for each item.

    Files beside them are Orbax's notes on the save, which no reader needs.
    """
    digests = {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file()
    }
    (folder / FILE).write_text(json.dumps({"sha256": digests}, indent=1))


def damage(folder: Path, items: Collection[str]) -> str | None:
    """What is wrong with the files of a checkpoint, in words; None if nothing is, or none knows.

    Args:
        folder: of the checkpoint.
        items: whose files are looked at, named after their subfolders.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        digests = dict(json.loads((folder / FILE).read_text())["sha256"])
    except (ValueError, TypeError, KeyError):
        return f"{FILE} cannot be read"
    for name, digest in digests.items():
        if Path(name).parts[0] not in items:
            continue
        if not (folder / name).is_file():
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} is not what was written"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
