"""Zip archives, as `.npz` files and PyTorch's are: all sizes are checked before anything else."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from interop.files import FileError, checks
from interop.files.reader import BoundedReader

CHUNK = 1 << 20
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,  # encrypted members
    ValueError,
    OverflowError,
)
"""What `zipfile` raises for broken bytes."""


class Archive:
    """The members of a zip file.

    Attributes:
        sizes: bytes of each member, by name.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, sizes: dict[str, int]):
        self.sizes = sizes
        self._path = path
        self._archive = archive

    def read(self, name: str) -> bytearray:
        """A whole member.

        Raises:
            FileError: its checksum or its size is wrong.
        """
        content = bytearray()
        try:
            with self._archive.open(name) as member:
                # In pieces: all at once, a small member may unpack to far more than it declares.
                while piece := member.read(CHUNK):
                    content += piece
        except DAMAGE as error:
            raise FileError(
                f"{self._path}: {name!r} is damaged ({error}); {checks.REMEDY}"
            ) from None
        if len(content) != self.sizes[name]:
            raise FileError(
                f"{self._path}: {name!r} holds {len(content)} bytes, expected {self.sizes[name]}; "
                f"{checks.REMEDY}"
            )
        return content


@contextlib.contextmanager
def opened(path: Path, expected: str, *, ratio: int) -> Iterator[Archive]:
    """Opens a zip file and checks what it says of its members.

    Args:
        path: of the file.
        expected: what it should be, for messages.
        ratio: how many times the file's size all members may measure; 1: nothing is compressed.

    Raises:
        FileError: no zip file, or a damaged one, or one that would unpack to too much.
    """
    size = checks.opened_size(path, expected)
    with BoundedReader(path) as file:
        try:
            archive = zipfile.ZipFile(file)  # pyright: ignore[reportArgumentType]
        except DAMAGE as error:
            raise FileError(
                f"{path} is not {expected}, or is damaged ({error}); {checks.REMEDY}"
            ) from None
        with archive:
            members = archive.infolist()
            sizes = {member.filename: member.file_size for member in members}
            if len(sizes) != len(members):
                raise FileError(f"{path}: two members have one name, expected {expected}")
            if sum(sizes.values()) > ratio * size:
                raise FileError(
                    f"{path}: its members measure {sum(sizes.values())} bytes unpacked, expected "
                    f"at most {ratio} times the file's {size}; {checks.REMEDY}"
                )
            yield Archive(path, archive, sizes)
