"""A file that never makes room for more bytes than it holds, whatever length is asked of it."""

import io
import os
from pathlib import Path
from types import TracebackType


class BoundedReader:
    """An open binary file for `pickletools`, `zipfile` and us.

    Python's own files allocate as many bytes as `read` is asked for, and only then look how many
    there are: a length field with 2**40 in it would be enough to run out of memory.

    Attributes:
        size: of the file in bytes.
    """

    def __init__(self, source: Path | bytes | bytearray):
        self._file = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
        self.size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)

    def __enter__(self) -> "BoundedReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def left(self) -> int:
        """Bytes from here to the end."""
        return max(0, self.size - self._file.tell())

    def read(self, length: int | None = -1) -> bytes:
        """Up to that many bytes; all that are left for a negative length or None."""
        left = self.left()
        return self._file.read(left if length is None or length < 0 else min(length, left))

    def readline(self) -> bytes:
        """Bytes up to and with the next line feed."""
        return self._file.readline(self.left())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a position, and tells it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
