"""What the tests of point clouds share: small meshes, and a wheel that is none of PyVista."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from perceiver_jax.data.point_clouds import meshes

TETRAHEDRON = (
    [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)],
    [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)],
)


def off_file(vertices=TETRAHEDRON[0], faces=TETRAHEDRON[1], header="OFF\n{} {} 0\n"):
    """Contents of a mesh file."""
    lines = [" ".join(map(str, vertex)) for vertex in vertices]
    lines += [f"{len(face)} " + " ".join(map(str, face)) for face in faces]
    return (header.format(len(vertices), len(faces)) + "\n".join(lines) + "\n").encode()


def ply_file(vertices, faces=(), normals=None):
    """Contents of a text .ply file."""
    names = ["x", "y", "z"] + (["nx", "ny", "nz"] if normals is not None else [])
    rows = vertices if normals is None else np.concatenate([vertices, normals], axis=1)
    lines = ["ply", "format ascii 1.0", f"element vertex {len(rows)}"]
    lines += [f"property float {name}" for name in names]
    if len(faces):
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    lines += ["end_header", *(" ".join(map(str, row)) for row in rows)]
    lines += [f"{len(face)} " + " ".join(map(str, face)) for face in faces]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def write(tmp_path):
    """A function that writes a file below tmp_path: `write("a/b.off", contents)`."""

    def make(path, contents):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
        return path

    return make


@pytest.fixture
def toy_wheel(monkeypatch):
    """Contents of a wheel with small meshes of the right names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("pyvista/__init__.py", "raise SystemExit")
        for size, name in enumerate(meshes.MEMBERS, 1):
            contents = ply_file(size * np.array(TETRAHEDRON[0], float), TETRAHEDRON[1])
            wheel.writestr(f"pyvista/examples/{name}.ply", contents)
            monkeypatch.setitem(meshes.MEMBERS, name, hashlib.sha256(contents).hexdigest())
    return packed.getvalue()
