"""Writing files whole: a kill at any moment leaves the old file or the new one."""

import os
import uuid
from pathlib import Path


def write_whole(path: Path, contents: bytes) -> None:
    """Writes a file, under another name until all of it is there; makes its folder.

    Raises:
        OSError: it cannot be written; a file that was there before still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(contents)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
