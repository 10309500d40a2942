"""The file enwik8, which is known by its bytes: 90 % of them to train on, 5 % and 5 % held out.

- Of enwik8 these are 90, 5 and 5 million; enwik9 is divided in the same way.
- A split is one document, in memory as a whole: with `separator="none"`, rows are the file's bytes.
- A boundary within a character is moved to its end.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.text import readers
from perceiver_jax.data.text.documents import Document

_SPLITS = {"train": (0, 90), "validation": (90, 95), "test": (95, 100)}
"""Where they start and stop, in percent of the bytes."""


class Enwik8:
    """A split of the file.

    Args:
        path: the file as it is unpacked.
        split: "train", "validation" or "test".
        errors: see `readers`.

    Raises:
        DatasetError: there is no such file or split, or it is still packed.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: str, split: str, errors: readers.Errors):
        check_split(split, tuple(_SPLITS))
        self._path, self._split = Path(os.path.expanduser(path)), split
        self._errors: readers.Errors = errors
        try:
            with self._path.open("rb") as file:
                packed = file.read(4) == b"PK\x03\x04"
        except OSError as error:
            raise DatasetError(
                f"dataset 'enwik8:{path}' cannot be read: {error}; name the unpacked file"
            ) from error
        if packed:
            raise DatasetError(f"{path} is an archive; unpack it, and name the file inside of it")

    @property
    def fingerprint(self) -> str:
        """See `Documents`; the file is read for this."""
        return fingerprint("enwik8", 1, self._split, self._errors, readers.digest(self._path))

    def __iter__(self) -> Iterator[Document]:
        start, stop = (self._boundary(percent) for percent in _SPLITS[self._split])
        with self._path.open("rb") as file:
            file.seek(start)
            text = file.read(stop - start)
        yield Document(readers.decoded(text, self._errors, f"{self._path}, at byte", start))

    def _boundary(self, percent: int) -> int:
        place = percent * self._path.stat().st_size // 100
        with self._path.open("rb") as file:
            file.seek(place)
            following = file.read(3)
        # Bytes 0b10…… go on with a character that has begun.
        goes_on = [byte & 0xC0 == 0x80 for byte in following]
        return place + (goes_on.index(False) if False in goes_on else len(goes_on))
