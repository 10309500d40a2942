"""Where the user's cache is: compiled programs, prepared datasets."""

import os
from pathlib import Path


def user_cache() -> Path:
    """`perceiver_jax` in the user's cache folder, which need not exist.

    Raises:
        RuntimeError: there is no home.

    Source: XDG Base Directory Specification, `$XDG_CACHE_HOME`; ignored if not absolute.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = named if named.is_absolute() else Path.home() / ".cache"
    return root / "perceiver_jax"
