import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.point_clouds import meshes
from perceiver_jax.data.point_clouds.files import read_mesh


def test_the_command_takes_the_meshes_out_of_a_wheel_and_nothing_else(toy_wheel, tmp_path, capsys):
    source, data_dir = tmp_path / "a.whl", tmp_path / "a" / "data"
    source.write_bytes(toy_wheel)
    assert meshes.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    written = {file for file in tmp_path.rglob("*") if file.is_file() and file != source}
    assert written == {meshes.find_mesh(name, str(data_dir)) for name in meshes.MEMBERS}
    assert capsys.readouterr().out.strip() == str(data_dir / "meshes")


def test_meshes_lie_in_the_users_cache_by_default(toy_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    meshes.prepare(toy_wheel, None)
    assert meshes.find_mesh("ant").is_relative_to(tmp_path / "perceiver_jax" / "datasets")


def test_a_mesh_that_is_not_there_or_was_changed_is_answered_with_the_command(toy_wheel, tmp_path):
    command = f"python -m perceiver_jax.data.point_clouds.meshes --data_dir={tmp_path}"
    with pytest.raises(DatasetError, match="'ant' is not at .*fetch it") as error:
        meshes.find_mesh("ant", str(tmp_path))
    assert command in str(error.value)
    meshes.prepare(toy_wheel, str(tmp_path))
    meshes.path_of("ant", str(tmp_path)).write_bytes(b"bee")
    with pytest.raises(DatasetError, match="was changed; fetch it again") as error:
        meshes.find_mesh("ant", str(tmp_path))
    assert command in str(error.value)


def test_another_archive_is_refused_and_nothing_written(toy_wheel, tmp_path, monkeypatch):
    for wrong in (b"no zip", toy_wheel[:300]):
        with pytest.raises(DatasetError, match="the archive is not pyvista.*nothing was written"):
            meshes.prepare(wrong, str(tmp_path))
    monkeypatch.setitem(meshes.MEMBERS, "nut", "0" * 64)
    with pytest.raises(DatasetError, match="nut.ply in the archive has not the SHA-256 0000"):
        meshes.prepare(toy_wheel, str(tmp_path))
    monkeypatch.setitem(meshes.MEMBERS, "bolt", "0" * 64)
    monkeypatch.delitem(meshes.MEMBERS, "nut")
    with pytest.raises(DatasetError, match="bolt.ply.*nothing was written"):
        meshes.prepare(toy_wheel, str(tmp_path))
    assert not [*tmp_path.iterdir()]


@pytest.mark.network
def test_the_real_meshes_are_there(tmp_path):
    assert meshes.main([f"--data_dir={tmp_path}"]) == 0
    counts = {n: len(read_mesh(meshes.find_mesh(n, str(tmp_path)))[1]) for n in meshes.MEMBERS}
    assert counts == {"airplane": 2452, "ant": 912, "nut": 1046}
