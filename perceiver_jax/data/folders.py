"""Where datasets and prepared rows lie by default."""

from pathlib import Path

from perceiver_jax.user_cache import user_cache


def datasets_folder(data_dir: str | None) -> Path:
    """The folder that dataset files are kept in, each dataset in one of its own."""
    return Path(data_dir) if data_dir else user_cache() / "datasets"


def prepared_folder(cache_dir: str | None) -> Path:
    """The folder that rows of tokens are kept in."""
    return Path(cache_dir) if cache_dir else user_cache() / "prepared"
