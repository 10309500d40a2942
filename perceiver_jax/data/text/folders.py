"""Where datasets and prepared rows lie by default, and writing files whole."""

import os
import uuid
from pathlib import Path

from perceiver_jax.user_cache import user_cache


def datasets_folder(data_dir: str | None) -> Path:
    """The folder that dataset files are kept in, each dataset in one of its own."""
    return Path(data_dir) if data_dir else user_cache() / "datasets"


def prepared_folder(cache_dir: str | None) -> Path:
    """The folder that rows of tokens are kept in."""
    return Path(cache_dir) if cache_dir else user_cache() / "prepared"


def write_whole(path: Path, contents: bytes) -> None:
    """Writes a file, under another name until all of it is there.

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
