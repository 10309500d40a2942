"""Names of splits, and which of them an item without one belongs to."""

import hashlib

from perceiver_jax.data.sources import DatasetError


def check_split(split: str, known: tuple[str, ...]) -> None:
    """Raises a DatasetError for a split that is not among the known ones."""
    if split not in known:
        raise DatasetError(f"no split is called '{split}'; there are {', '.join(known)}")


def held_out(name: str) -> bool:
    """Whether an item is of the test split, a tenth: by its name alone.

    More items leave those that are there where they are.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10 == 0
