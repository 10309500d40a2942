"""Three real meshes, an airplane, an ant and a nut, out of PyVista.

- `python -m perceiver_jax.data.point_clouds.meshes` fetches its wheel once and keeps three files of
  it; nothing of the package is installed or run.
- Every file is known by its SHA-256: another one is not taken.
- PyVista is under the MIT licence.
"""

import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import digest, keep
from perceiver_jax.data.sources import DatasetError

PROJECT, ARCHIVE = "pyvista", "pyvista-0.49.1-py3-none-any.whl"
MEMBERS = {
    "airplane": "370846416b2d0d9c574e356a5b43c7aac2db748761daab270fdd1331f97305a8",
    "ant": "1e825c23c85588c9ea8d31b53e09791a6cd20fa9f835e98d4c61389e4209a73b",
    "nut": "51df5ca42ddbac9123e59678d532557278b11dee915274c98ea8897acc604c0a",
}
"""SHA-256 of each mesh, a .ply file."""
_FOLDER = "pyvista/examples/"
_COMMAND = "python -m perceiver_jax.data.point_clouds.meshes"


def path_of(name: str, data_dir: str | None) -> Path:
    """Where one of `MEMBERS` is, or will be."""
    return datasets_folder(data_dir) / "meshes" / f"{name}.ply"


def find_mesh(name: str, data_dir: str | None = None) -> Path:
    """The file of one of `MEMBERS`.

    Raises:
        DatasetError: it is not there, or another file.
    """
    path = path_of(name, data_dir)
    where = "" if data_dir is None else f" --data_dir={data_dir}"
    if not path.is_file():
        raise DatasetError(
            f"the mesh of class '{name}' is not at {path}; fetch it: {_COMMAND}{where}"
        )
    if digest(path.read_bytes()) != MEMBERS[name]:
        raise DatasetError(f"{path} was changed; fetch it again: {_COMMAND}{where}")
    return path


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the meshes out of a wheel of PyVista.

    Args:
        archive: contents of the wheel.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The folder that they were written to.

    Raises:
        DatasetError: it is no such wheel, or a file cannot be written.
    """
    contents = {}
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
            for name, sha256 in MEMBERS.items():
                contents[name] = wheel.read(f"{_FOLDER}{name}.ply")
                if digest(contents[name]) != sha256:
                    raise DatasetError(
                        f"{name}.ply in the archive has not the SHA-256 {sha256}: it is not "
                        f"{ARCHIVE}, or it was changed; nothing was written"
                    )
    except (KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"the archive is not {ARCHIVE} ({error}); nothing was written"
        ) from error
    for name, mesh in contents.items():
        path = path_of(name, data_dir)
        keep(path, mesh)
    return path_of("ant", data_dir).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the meshes, or takes them out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches three meshes of PyVista from the package index, for the dataset "
        "'shapes'.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
