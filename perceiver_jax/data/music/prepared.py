"""Events of pieces on disk: made once of notes, then read through a memory map.

- One file per combination of pieces and vocabulary: 16-bit ids, and -1 after each piece.
- The file is written under another name and renamed when it is whole.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from perceiver_jax.command import make_console
from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.music.performance import PAD_ID, encode
from perceiver_jax.data.music.pieces import Pieces
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.whole_files import write_whole

FORMAT_VERSION = 1
_DTYPE = np.dtype("<i2")
_END = -1


class PreparedPieces:
    """Pieces by index, out of a file.

    Args:
        path: what `prepare` made.

    Attributes:
        lengths: [pieces] events of each.

    Raises:
        DatasetError: the file is damaged.
    """

    def __init__(self, path: Path):
        try:
            if path.stat().st_size % _DTYPE.itemsize:
                raise ValueError("it ends in half a number")
            # A plain array on top of the map: slices of np.memmap are slow.
            self._ids = np.asarray(np.memmap(path, _DTYPE, mode="r"))
            if self._ids[-1] != _END or self._ids.min() < _END or self._ids.max() >= PAD_ID:
                raise ValueError("it holds other numbers than events")
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"the prepared music in {path} is damaged ({error}); delete that file, and it is "
                "made again"
            ) from error
        self._ends = np.flatnonzero(self._ids == _END)
        self.lengths = np.diff(self._ends, prepend=-1) - 1

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """[n] int16 ids of a piece."""
        end = self._ends[index]
        return self._ids[end - self.lengths[index] : end]


def prepare(pieces: Pieces, *, every_velocity: bool, into: Path, what: str) -> Path:
    """Writes the events of pieces, unless they are there already.

    Args:
        pieces: where notes come from.
        every_velocity: see `performance.encode`.
        into: folder that prepared files lie in.
        what: name of the pieces, for messages.

    Returns:
        The file to open with `PreparedPieces`.

    Raises:
        DatasetError: there is no music, or the file cannot be written.
        MusicError: a piece of a dataset that comes as a whole is damaged.
    """
    key = fingerprint("music", FORMAT_VERSION, pieces.fingerprint, every_velocity)
    path = into / f"{key[:32]}.events"
    if path.is_file():
        return path
    print(f"preparing {what} in {path}", file=sys.stderr)
    contents = b"".join(_encoded(pieces, every_velocity, what))
    if not contents:
        raise DatasetError(f"{what} has no music; choose another split or other files")
    try:
        write_whole(path, contents)
    except OSError as error:
        raise DatasetError(
            f"events of {what} cannot be written to {into}: {error}; choose another folder with "
            "--config.data.cache_dir"
        ) from error
    return path


def _encoded(pieces: Pieces, every_velocity: bool, what: str) -> Iterator[bytes]:
    with make_console(stderr=True).status("") as status:
        for number, notes in enumerate(pieces, 1):
            ids = encode(notes, every_velocity=every_velocity)
            if len(ids):
                yield np.append(ids, _END).astype(_DTYPE).tobytes()
            status.update(f"{what}: {number:,} pieces")
