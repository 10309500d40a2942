import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.point_clouds import prepared
from perceiver_jax.data.point_clouds.folders import find_files
from perceiver_jax.data.point_clouds.prepared import PreparedClouds
from tests.data.point_clouds.conftest import off_file


@pytest.fixture
def found(write):
    """Three meshes of two classes."""
    for path in ("meshes/train/a/1.off", "meshes/train/a/2.off", "meshes/train/b/3.off"):
        root = write(path, off_file()).parents[2]
    return find_files("folders", str(root), "train")


def count_readings(monkeypatch):
    read = []

    def counting(path, *arguments):
        read.append(path.name)
        return read_cloud(path, *arguments)

    read_cloud = prepared.read_cloud
    monkeypatch.setattr(prepared, "read_cloud", counting)
    return read


def written(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_meshes_are_read_once_and_points_stay_the_same(found, tmp_path, monkeypatch, capsys):
    read = count_readings(monkeypatch)
    into = tmp_path / "cache"
    first = PreparedClouds(found, 50, into)
    assert read == ["1.off", "2.off", "3.off"] and "preparing 3 files" in capsys.readouterr().err
    assert [first[i]["label"] for i in range(len(first))] == [0, 0, 1]
    assert first[0]["points"].shape == (50, 6) and first[0]["points"].dtype == np.float32
    assert not np.array_equal(first[0]["points"], first[1]["points"])
    second = PreparedClouds(found, 50, into)
    assert len(read) == 3 and not capsys.readouterr().err
    other = PreparedClouds(found, 50, tmp_path / "elsewhere")
    for i in range(3):
        for clouds in (second, other):
            np.testing.assert_array_equal(clouds[i]["points"], first[i]["points"])
    assert len(written(into)) == 3


def test_what_was_cut_short_goes_on_where_it_was(found, tmp_path, monkeypatch):
    into = tmp_path / "cache"
    read = count_readings(monkeypatch)
    write_whole = prepared.write_whole

    def killed(path, contents):
        if len(read) == 3:
            raise KeyboardInterrupt
        write_whole(path, contents)

    monkeypatch.setattr(prepared, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        PreparedClouds(found, 50, into)
    assert len(written(into)) == 2
    monkeypatch.setattr(prepared, "write_whole", write_whole)
    read.clear()
    assert len(PreparedClouds(found, 50, into)) == 3 and read == ["3.off"]


def test_a_changed_file_or_another_number_of_points_is_prepared_again(found, tmp_path, monkeypatch):
    into = tmp_path / "cache"
    PreparedClouds(found, 50, into)
    read = count_readings(monkeypatch)
    found.files[1][0].write_bytes(off_file(vertices=[(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 9)]))
    assert np.abs(PreparedClouds(found, 50, into)[1]["points"][:, 0]).max() < 0.3
    assert read == ["2.off"]
    assert PreparedClouds(found, 20, into)[0]["points"].shape == (20, 6)
    assert len(read) == 4


def test_a_broken_file_is_found_when_the_split_is_opened(found, tmp_path):
    found.files[2][0].write_bytes(b"no mesh")
    with pytest.raises(DatasetError, match="3.off is not used"):
        PreparedClouds(found, 50, tmp_path / "cache")


def test_normals_are_asked_of_every_cloud(found, tmp_path, write):
    PreparedClouds(found, 50, tmp_path / "cache", normals=True)
    write("meshes/train/b/4.xyz", b"1 2 3\n4 5 6\n")
    more = find_files("folders", str(found.root), "train")
    assert PreparedClouds(more, 50, tmp_path / "cache")[3]["points"].shape == (2, 3)
    with pytest.raises(DatasetError, match="4.xyz has no normals.*config.data.normals=false"):
        PreparedClouds(more, 50, tmp_path / "cache", normals=True)


def test_colours_are_no_normals(found, tmp_path, write):
    write("meshes/train/b/4.xyz", b"1 2 3 255 0 0\n4 5 6 0 0 255\n")
    more = find_files("folders", str(found.root), "train")
    assert PreparedClouds(more, 50, tmp_path / "cache")[3]["points"].shape == (2, 3)
    with pytest.raises(DatasetError, match="4.xyz has no normals, which are columns 4 to 6 if all"):
        PreparedClouds(more, 50, tmp_path / "cache", normals=True)


def test_coordinates_of_maps_are_normalised_before_they_are_rounded(tmp_path, write):
    root = write("there/train/a/1.xyz", b"512345.01 5403210 0\n512345 5403210.01 0\n").parents[2]
    points = PreparedClouds(find_files("folders", str(root), "train"), 9, tmp_path)[0]["points"]
    assert points.dtype == np.float32
    np.testing.assert_allclose(np.sort(points[:, 0]), [-1, 1], atol=1e-6)
    np.testing.assert_allclose(points[:, 1], -points[:, 0], atol=1e-6)


def test_damaged_points_are_an_error_with_a_remedy(found, tmp_path):
    into = tmp_path / "cache"
    clouds = PreparedClouds(found, 50, into)
    for path in written(into):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="delete that file, and it is made again"):
        clouds[0]


def test_a_folder_that_cannot_be_written_is_an_error(found, write):
    into = write("file", b"")
    with pytest.raises(DatasetError, match="choose another folder with --config.data.cache_dir"):
        PreparedClouds(found, 50, into)
