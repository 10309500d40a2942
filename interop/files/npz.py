"""NumPy's `.npz` files."""

import io
import math
import os
import tokenize
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from interop.files import FileError, archives, checks

EXPECTED = "a NumPy archive (.npz)"
RATIO = 50
"""How much smaller than its arrays a file may be: weights compress hardly at all, deflate of zeros
reaches 1000."""
KINDS = "biufcSU"
"""Kinds of dtypes that are read: numbers and texts."""
SUFFIX = ".npy"
DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,  # of Python's parser, for headers with many parentheses
)
"""What NumPy raises for a broken header, which is a piece of Python."""


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays, texts too.

    Args:
        path: of the file.

    Returns:
        Arrays by name.

    Raises:
        FileError: missing, damaged, Python objects inside, sizes that disagree, more than `RATIO`
            times the file's size, or NaN and infinite values.
    """
    path = Path(path)
    with archives.opened(path, EXPECTED, ratio=RATIO) as archive:
        arrays = {}
        for member in archive.sizes:
            name = member.removesuffix(SUFFIX)
            if name == member or name in arrays:
                raise FileError(
                    f"{path}: member {member!r}, expected {EXPECTED} of '{SUFFIX}' members"
                )
            arrays[name] = _array(path, member, archive.read(member))
    checks.check_arrays(path, arrays)
    return arrays


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays without compression, in one step.

    Args:
        path: of the file; it keeps this very name.
        arrays: by name.

    Raises:
        FileError: it cannot be written, or a dtype is none of NumPy's own.
    """
    path = Path(path)
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in KINDS:
            raise FileError(
                f"cannot write {path}: '{name}' is of {array.dtype}, which .npz files cannot hold; "
                "convert it to float32, or write a safetensors file"
            )
    with (
        checks.replaced(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        # Not np.savez: its arrays are keyword arguments, so that none could be called 'file'.
        for name, array in arrays.items():
            with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _array(path: Path, member: str, content: bytearray) -> np.ndarray:
    file = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            # Python warns of odd literals in a header before it finds that they are none.
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(file)
            header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, columns_first, dtype = header(file)
        if dtype.kind not in KINDS or dtype.hasobject:
            raise ValueError(f"dtype {dtype}, expected numbers or texts")
        if (
            min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != len(content) - file.tell()
        ):
            raise ValueError(
                f"shape {shape} of {dtype} in {len(content) - file.tell()} bytes, expected as many "
                "bytes as the shape says"
            )
        flat = np.frombuffer(content, dtype, offset=file.tell(), count=math.prod(shape))
        array = flat.reshape(shape, order="F" if columns_first else "C")
    except DAMAGE as error:
        # What numpy raises quotes the header.
        reason = str(error)[:200]
        raise FileError(f"{path}: {member!r} is no array ({reason}); {checks.REMEDY}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)
