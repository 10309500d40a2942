"""Clouds of files on disk: read or drawn once, then in a fraction of a millisecond.

- A file per cloud, under a key of the file that it was made of: path in its dataset, size, time of
  change. A preparation that was cut short goes on where it was.
- Points are normalised before they become float32, which has too few digits for those of maps.
- All files of a split are prepared when it is opened, so that a broken one is found before work
  starts.
"""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.command import make_console
from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.point_clouds.augmentation import normalized_rows
from perceiver_jax.data.point_clouds.files import POINTS, read_cloud
from perceiver_jax.data.point_clouds.folders import CloudFiles
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.whole_files import write_whole

FORMAT_VERSION = 2


class PreparedClouds:
    """Normalised clouds by index: `{"points": [n, 3 or 6] float32, "label": int}`.

    Args:
        found: the files of a split.
        num_points: points kept of a cloud, at most.
        into: folder that prepared clouds lie in.
        normals: whether every cloud has to have normals.

    Raises:
        DatasetError: a file is broken or has no normals, or nothing can be written to the folder.
    """

    def __init__(self, found: CloudFiles, num_points: int, into: Path, *, normals: bool = False):
        self.class_names = found.class_names
        self._clouds = [
            (into / _name(found.root, file, num_points), label) for file, label in found.files
        ]
        missing = [
            (file, prepared)
            for (file, _), (prepared, _) in zip(found.files, self._clouds, strict=True)
            if not prepared.is_file()
        ]
        if missing:
            _prepare(missing, found.root, num_points, into)
        if normals:
            self._check_normals(found)

    def __len__(self) -> int:
        return len(self._clouds)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        path, label = self._clouds[index]
        return {"points": _load(path), "label": label}

    def _check_normals(self, found: CloudFiles) -> None:
        for (file, _), (prepared, _) in zip(found.files, self._clouds, strict=True):
            # Of a mesh, normals are always known; a .ply may be either.
            if file.suffix.lower() in (*POINTS, ".ply") and _load(prepared).shape[1] < 6:
                raise DatasetError(
                    f"{file} has no normals, which are columns 4 to 6 if all are of unit length; "
                    "mend the file, take it away, or set --config.data.normals=false"
                )


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"the prepared points in {path} are damaged ({error}); delete that file, and it is "
            "made again"
        ) from error


def _name(root: Path, file: Path, num_points: int) -> str:
    state = file.stat()
    key = fingerprint(
        "point cloud",
        FORMAT_VERSION,
        file.relative_to(root).as_posix(),
        state.st_size,
        state.st_mtime_ns,
        num_points,
    )
    return f"{key[:2]}/{key[2:34]}.npy"


def _prepare(missing: list[tuple[Path, Path]], root: Path, num_points: int, into: Path) -> None:
    print(f"preparing {len(missing):,} files of {root} in {into}", file=sys.stderr)
    with make_console(stderr=True).status("") as status:
        for number, (file, prepared) in enumerate(missing, 1):
            # By the name alone: a copy of the dataset has the same points.
            seed = int(fingerprint(file.relative_to(root).as_posix())[:16], 16)
            points = read_cloud(file, num_points, np.random.default_rng(seed))
            contents = io.BytesIO()
            np.save(contents, normalized_rows(points))
            try:
                write_whole(prepared, contents.getvalue())
            except OSError as error:
                raise DatasetError(
                    f"points of {file} cannot be written to {into}: {error}; choose another folder "
                    "with --config.data.cache_dir"
                ) from error
            status.update(f"{number:,} of {len(missing):,} files of {root}")
