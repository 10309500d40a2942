"""Reading meshes and clouds of points; of meshes, points are drawn over the surface.

- Meshes: .off (also with the counts behind OFF on one line, as many files of ModelNet have them),
  .ply, .obj, .stl. Polygons become triangles. Nothing that a file names, such as its material, is
  opened.
- Points: .npy [n, 3 or more], .txt and .xyz with a point on each line, numbers divided by commas or
  blanks, and .ply without faces. Columns 4 to 6 are normals where all have unit length or are
  zero, and else left out, as they may be colours; so is what comes behind.
- Coordinates are kept in float64: those of maps have more digits than float32.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from perceiver_jax.data.point_clouds.surfaces import draw_points
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import how_to_install

MESHES = (".obj", ".off", ".ply", ".stl")
POINTS = (".npy", ".txt", ".xyz")
SUFFIXES = tuple(sorted(MESHES + POINTS))
_ROUNDING = 0.01
"""How far the length of a normal may be from 1: text of two decimals comes as near."""

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Vertices [v, 3], triangles [f, 3], which may be none, and normals [v, 3] of the vertices."""


def read_cloud(path: Path, num_points: int, rng: np.random.Generator) -> np.ndarray:
    """The points of a file.

    Args:
        path: of a mesh or of points.
        num_points: how many are drawn of a mesh; of a file of points, kept at most.
        rng: draws them.

    Returns:
        [n, 6] float64, points and their unit normals, or [n, 3] where normals are not known; in an
        order that is random, so that the first k are a draw of k.

    Raises:
        DatasetError: the file cannot be read, or has no such points; trimesh is not installed.
    """
    suffix = path.suffix.lower()
    with _named(path):
        contents = path.read_bytes()
        if suffix in MESHES:
            return _of_mesh(_parsed(contents, suffix[1:]), num_points, rng)
        return _some(_checked(_READERS[suffix](contents)), num_points, rng)


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [v, 3] and triangles [f, 3] of a mesh.

    Raises:
        DatasetError: the file cannot be read, or has no faces; trimesh is not installed.
    """
    with _named(path):
        vertices, faces, _ = _parsed(path.read_bytes(), path.suffix.lower()[1:])
        if not len(faces):
            raise ValueError("it has no faces")
        return vertices, faces


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what is raised into a DatasetError that names the file."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    except ImportError as error:
        raise DatasetError(
            f"{path} is read with trimesh, which is not installed; {how_to_install('points')}"
        ) from error
    # What readers raise for broken files is whatever they stumble over.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DatasetError(
            f"{path} is not used: {reason}; mend the file or take it away"
        ) from error


def _parsed(contents: bytes, kind: str) -> Mesh:
    if not contents.strip():
        raise ValueError("it is empty")
    try:
        mesh = _loaded(io.BytesIO(contents), kind)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"it is no whole .{kind} file of a mesh ({error})") from error
    vertices, faces, _ = mesh
    if not len(vertices):
        raise ValueError("it has no vertices")
    if not np.isfinite(vertices).all():
        raise ValueError("a coordinate is not a finite number")
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(f"a face names a vertex that is none of its {len(vertices)}")
    if not len(faces) and kind != "ply":
        raise ValueError("it has no faces, over which points could be drawn")
    return mesh


def _loaded(file: io.BytesIO, kind: str) -> Mesh:
    """Reads from memory, so that there is no folder in which materials could be looked for."""
    if kind == "ply":
        from trimesh.exchange.ply import load_ply
        from trimesh.geometry import triangulate_quads

        found = load_ply(file)
        faces = triangulate_quads(found.get("faces", ()))
        return np.asarray(found["vertices"]), faces, found.get("vertex_normals")
    from trimesh import load_mesh

    loaded = load_mesh(file, file_type=kind, process=False)
    return np.asarray(loaded.vertices), np.asarray(loaded.faces), None


def _of_mesh(mesh: Mesh, num_points: int, rng: np.random.Generator) -> np.ndarray:
    vertices, faces, normals = mesh
    if len(faces):
        return np.concatenate(draw_points(vertices, faces, num_points, rng), axis=1)
    columns = [vertices] if normals is None else [vertices, normals]
    return _some(_checked(np.concatenate(columns, axis=1)), num_points, rng)


def _read_array(contents: bytes) -> np.ndarray:
    return np.load(io.BytesIO(contents), allow_pickle=False)


def _read_text(contents: bytes) -> np.ndarray:
    text = contents.decode("ascii").replace(",", " ")
    if not text.strip():
        raise ValueError("it is empty")
    return np.loadtxt(io.StringIO(text), np.float64, ndmin=2)


_READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    ".npy": _read_array,
    ".txt": _read_text,
    ".xyz": _read_text,
}


def _checked(rows: np.ndarray) -> np.ndarray:
    """[n, 3 or more] numbers → [n, 3] float64, or [n, 6] where those behind are unit normals."""
    if rows.ndim != 2 or rows.shape[1] < 3 or rows.dtype.kind not in "fiu":
        raise ValueError(
            f"it holds {rows.dtype} of shape {rows.shape}, not [points, 3 or more] numbers"
        )
    if not len(rows):
        raise ValueError("it has no points")
    rows = rows[:, : 6 if rows.shape[1] >= 6 else 3].astype(np.float64)
    if not (np.abs(rows) <= np.finfo(np.float32).max).all():
        raise ValueError("a number in it is not finite in float32")
    if (rows[:, :3] == rows[0, :3]).all():
        raise ValueError("all of its points are one and the same")
    # Of a triangle without area, the normal is zero.
    lengths = np.linalg.norm(rows[:, 3:], axis=1)
    lengths = lengths[lengths > 0.0]
    are_normals = len(lengths) and (np.abs(lengths - 1.0) <= _ROUNDING).all()
    return rows if are_normals else rows[:, :3]


def _some(rows: np.ndarray, num_points: int, rng: np.random.Generator) -> np.ndarray:
    return rows[rng.permutation(len(rows))[:num_points]]
