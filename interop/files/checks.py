"""What all readers check and all writers do: existence, sizes, finite values, one atomic step."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from interop.files import FileError

REMEDY = "download or export the file again"
ALIASING = 8
"""How many times a file's size its arrays may measure: some files name one array several times."""
SHOWN = 5


def opened_size(path: Path, expected: str) -> int:
    """Size of a file in bytes, if it is a file with something in it.

    Args:
        path: of the file.
        expected: what it should be, for the message.

    Raises:
        FileError: there is no such file, it is empty, or it is a folder.
    """
    if os.path.isdir(path):
        raise FileError(f"{path} is a folder; expected {expected}: name the file in it")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FileError(f"no file {path} ({error.strerror}); expected {expected}") from None
    if not path.is_file():
        raise FileError(f"{path} is not an ordinary file; expected {expected}")
    if not size:
        raise FileError(f"{path} is empty; expected {expected}: {REMEDY}")
    return size


def check_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that every number is finite.

    Raises:
        FileError: NaN or infinite values, with the names of their arrays.
    """
    ruined = [name for name, array in arrays.items() if not _finite(array)]
    if ruined:
        raise FileError(
            f"{path}: {_listed(ruined)} hold NaN or infinite values, expected finite weights: "
            f"the file is damaged or its training diverged; {REMEDY}"
        )


def check_total(path: Path, arrays: Mapping[str, np.ndarray], size: int) -> None:
    """Checks that arrays that share memory do not become far more than the file when copied.

    Raises:
        FileError: together they measure more than `ALIASING` times the file.
    """
    total = sum(array.nbytes for array in arrays.values())
    if total > ALIASING * size:
        raise FileError(
            f"{path}: its arrays measure {total} bytes in a file of {size}, expected at most "
            f"{ALIASING} times the file: {REMEDY}"
        )


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives a name to write to; afterwards the file takes its final name in one step.

    Raises:
        FileError: the folder is missing or cannot be written to.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; name a writable folder") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp's files are for their owner alone; a file made by `open` follows the umask.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}; is it a folder?") from None
    finally:
        temporary.unlink(missing_ok=True)


def _finite(array: np.ndarray) -> bool:
    # Arrays of bfloat16 and float8 are of kind 'V', and isfinite knows them.
    if array.dtype.kind not in "fcV":
        return True
    return bool(np.isfinite(array).all())


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
