import io

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.point_clouds import read_cloud
from perceiver_jax.data.point_clouds.files import read_mesh
from tests.data.point_clouds.conftest import TETRAHEDRON, off_file, ply_file

CORNERS = np.array(TETRAHEDRON[0], np.float32)
OBJ = b"mtllib other.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nusemtl m\n"
OBJ += b"f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def read(path, num_points=500):
    return read_cloud(path, num_points, np.random.default_rng(0))


def npy_file(array):
    contents = io.BytesIO()
    np.save(contents, array)
    return contents.getvalue()


def stl_file():
    lines = ["solid a"]
    for face in TETRAHEDRON[1]:
        lines += ["facet normal 0 0 0", "outer loop"]
        lines += ["vertex " + " ".join(map(str, TETRAHEDRON[0][i])) for i in face]
        lines += ["endloop", "endfacet"]
    return "\n".join([*lines, "endsolid a", ""]).encode()


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("a.off", off_file()),
        ("a.OFF", off_file()),
        ("a.off", off_file(header="OFF{} {} 0\n")),
        ("a.off", off_file(header="# made by hand\nOFF\n{} {} 6\n")),
        ("a.ply", ply_file(*TETRAHEDRON)),
        ("a.obj", OBJ),
        ("a.stl", stl_file()),
    ],
)
def test_points_of_a_mesh_lie_on_its_surface_and_have_its_normals(write, name, contents):
    rows = read(write(name, contents))
    assert rows.shape == (500, 6) and rows.dtype == np.float64
    # Each point lies on one of three planes through the origin, or on x + y + z = 1.
    distances = np.concatenate([rows[:, :3], 1 - rows[:, :3].sum(1, keepdims=True)], axis=1)
    np.testing.assert_allclose(distances.min(axis=1), 0, atol=1e-6)
    outside = np.concatenate([-np.eye(3), np.full((1, 3), 3**-0.5)])
    np.testing.assert_allclose(rows[:, 3:], outside[distances.argmin(axis=1)], atol=1e-6)
    assert set(distances.argmin(axis=1)) == {0, 1, 2, 3}


def test_a_square_becomes_two_triangles(write):
    square = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    for path, contents in (
        ("a.off", off_file(square, [(0, 1, 2, 3)])),
        ("a.ply", ply_file(square, [(0, 1, 2, 3)])),
    ):
        vertices, faces = read_mesh(write(path, contents))
        assert len(vertices) == 4 and faces.shape == (2, 3)
        points = read(write(path, contents), 4000)
        np.testing.assert_allclose(points[:, :2].mean(axis=0), 0.5, atol=0.02)


def test_what_a_mesh_names_is_not_opened(write, monkeypatch):
    write("other.mtl", b"newmtl m\nmap_Kd picture.png\n")
    path = write("a.obj", OBJ)
    opened = []
    monkeypatch.chdir(path.parent)
    from trimesh import resolvers

    monkeypatch.setattr(resolvers.FilePathResolver, "get", lambda self, name: opened.append(name))
    assert len(read(path)) == 500 and not opened


ROWS = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
ROWS[:, 3:6] /= np.linalg.norm(ROWS[:, 3:6], axis=1, keepdims=True)


def as_text(rows, between):
    return "\n".join(between.join(f"{x:.6f}" for x in row) for row in rows).encode()


@pytest.mark.parametrize(
    ("name", "contents", "columns"),
    [
        ("a.npy", npy_file(ROWS), 6),
        ("a.npy", npy_file(ROWS[:, :5].astype(np.float64)), 3),
        ("a.txt", as_text(ROWS[:, :6], ","), 6),
        ("a.xyz", as_text(ROWS[:, :3], "  "), 3),
        ("a.xyz", b"# x y z\n" + as_text(ROWS[:, :3], "\t"), 3),
        ("a.ply", ply_file(ROWS[:, :3]), 3),
        ("a.ply", ply_file(ROWS[:, :3], normals=ROWS[:, 3:6]), 6),
    ],
)
def test_points_are_read_in_a_random_order_with_normals_if_there_are(
    write, name, contents, columns
):
    rows = read(write(name, contents))
    assert rows.shape == (20, columns) and rows.dtype == np.float64
    found = rows[np.argsort(rows[:, 0])]
    np.testing.assert_allclose(found, ROWS[np.argsort(ROWS[:, 0]), :columns], atol=1e-5)
    assert not np.array_equal(np.argsort(rows[:, 0]), np.argsort(ROWS[:, 0]))


@pytest.mark.parametrize(
    ("columns", "are_normals"),
    [
        (np.round(ROWS[:, 3:6], 2), True),
        (np.where(np.arange(20)[:, None] == 7, 0.0, 1.0) * ROWS[:, 3:6], True),
        (np.abs(ROWS[:, :3]), False),
        (np.where(np.arange(20)[:, None] == 7, 1.02, 1.0) * ROWS[:, 3:6], False),
        (np.zeros((20, 3)), False),
    ],
)
def test_columns_behind_the_coordinates_are_normals_if_all_have_unit_length(
    write, columns, are_normals
):
    coordinates = ROWS[:, :3].astype(np.float64)
    rows = np.concatenate([coordinates, columns], axis=1)
    for name, contents in (
        ("a.npy", npy_file(rows)),
        ("a.ply", ply_file(coordinates, normals=columns)),
    ):
        assert read(write(name, contents)).shape == (20, 6 if are_normals else 3)


FAR = CORNERS.astype(np.float64) / 64 + [512_345.25, 5_403_210.5, 417.0]


def test_coordinates_of_maps_keep_their_digits(write):
    text = "\n".join(" ".join(map(str, row)) for row in FAR).encode()
    for name, contents in (("a.npy", npy_file(FAR)), ("a.xyz", text)):
        rows = read(write(name, contents))
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], FAR[np.lexsort(FAR.T)])


@pytest.mark.parametrize("name", ["a.off", "a.obj"])
def test_points_drawn_of_meshes_in_map_coordinates_keep_their_digits(write, name):
    rows = [" ".join(map(str, row)) for row in FAR]
    obj = "\n".join([*(f"v {row}" for row in rows), "f 1 3 2", "f 1 2 4"]).encode()
    drawn = read(write(name, obj if name == "a.obj" else off_file(FAR.tolist())))
    offsets = (drawn[:, :3] - FAR[0]).round(6)
    assert len(np.unique(offsets)) > 500 and 0 <= offsets.min() < offsets.max() <= 1 / 64


def test_of_many_points_some_are_kept(write):
    rows = read(write("a.npy", npy_file(ROWS)), 7)
    assert len({*map(tuple, rows)} & {*map(tuple, ROWS[:, :6])}) == 7


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.off", b"", "it is empty"),
        ("a.off", b"no mesh", "it is no whole .off file of a mesh"),
        ("a.off", off_file(faces=[]), "it has no faces"),
        ("a.off", off_file(vertices=[(0, 0, "nan"), *TETRAHEDRON[0][1:]]), "not a finite number"),
        ("a.off", off_file(faces=[(0, 1, 9)]), "a.off is not used"),
        ("a.off", off_file(faces=[(0, 0, 0)]), "an area of 0"),
        ("a.off", off_file()[:20], "it is no whole .off file of a mesh"),
        ("a.obj", b"v 0 0 0\n", "it has no"),
        ("a.stl", b"\x00" * 50, "a.stl is not used"),
        ("a.ply", ply_file(*TETRAHEDRON)[:60], "it is no whole .ply file of a mesh"),
        ("a.ply", ply_file(np.zeros((0, 3))), "a.ply is not used"),
        ("a.npy", b"\x93NUMPY", "a.npy is not used"),
        ("a.npy", npy_file(np.zeros((0, 3))), "it has no points"),
        ("a.npy", npy_file(np.zeros(3)), r"float64 of shape \(3,\)"),
        ("a.npy", npy_file(np.zeros((4, 2))), r"of shape \(4, 2\), not \[points, 3 or more\]"),
        ("a.npy", npy_file(np.full((4, 3), np.inf)), "is not finite"),
        ("a.npy", npy_file(np.full((4, 3), np.nan)), "is not finite"),
        ("a.npy", npy_file(1e39 * np.eye(3)), "is not finite in float32"),
        ("a.npy", npy_file(np.ones((4, 3))), "one and the same"),
        ("a.txt", b" \n", "it is empty"),
        ("a.txt", b"1,2,three\n", "three"),
        ("a.xyz", b"1 2 3\n4 5\n", "a.xyz is not used"),
        ("a.xyz", b"\xff\xfe", "a.xyz is not used"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(write, name, contents, message):
    with pytest.raises(DatasetError, match=message) as error:
        read(write(name, contents))
    assert "mend the file or take it away" in str(error.value)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_arrays_of_python_objects_are_refused(write):
    with pytest.raises(DatasetError, match="pickle"):
        read(write("a.npy", npy_file(np.array([[{}, 1, 2]], object))))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="gone.off cannot be read"):
        read(tmp_path / "gone.off")


def test_without_trimesh_its_extra_is_named(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(DatasetError, match=r"pip install -c constraints.txt '\.\[points\]'"):
        read(write("a.off", off_file()))


def test_a_mesh_needs_faces(write):
    with pytest.raises(DatasetError, match="it has no faces"):
        read_mesh(write("a.ply", ply_file(CORNERS)))
