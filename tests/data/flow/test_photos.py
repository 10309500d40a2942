"""Photos out of a wheel: what is taken, what is refused, and who sees which."""

import hashlib
import zipfile

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.flow import photos
from perceiver_jax.data.flow.files import decode_image


def test_the_command_takes_the_members_out_of_a_wheel_and_nothing_else(toy_wheel, tmp_path, capsys):
    source, data_dir = tmp_path / "a.whl", tmp_path / "a" / "data"
    source.write_bytes(toy_wheel)
    assert photos.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != source]
    assert written == [photos.path_of(str(data_dir))]
    assert capsys.readouterr().out.strip() == str(written[0])
    with zipfile.ZipFile(written[0]) as packed:
        assert sorted(packed.namelist()) == sorted(photos.MEMBERS)
    first = written[0].read_bytes()
    photos.prepare(toy_wheel, str(data_dir))
    assert written[0].read_bytes() == first


def test_no_photo_is_of_both_splits(toy_wheel, tmp_path):
    photos.prepare(toy_wheel, str(tmp_path))
    train, val = (photos.load_photos(split, str(tmp_path)) for split in ("train", "val"))
    assert len(train) == len(photos.TRAIN) and len(val) == len(photos.VAL) == 4
    assert len({photo.tobytes() for photo in train + val}) == len(train) + len(val)
    assert not {"motorcycle_left.png", "motorcycle_right.png"} & {*photos.TRAIN, *photos.VAL}
    assert all(photo.shape == (20, 30, 3) and photo.dtype == np.uint8 for photo in train)
    with pytest.raises(DatasetError, match="no split is called 'test'; there are train, val"):
        photos.load_photos("test", str(tmp_path))


def test_large_photos_are_made_smaller():
    assert photos._not_larger(np.zeros((1536, 768, 3), np.uint8), 768).shape == (768, 384, 3)


def test_photos_that_are_not_there_are_answered_with_the_command(toy_wheel, tmp_path):
    with pytest.raises(DatasetError, match="fetch them") as error:
        photos.load_photos("train", str(tmp_path))
    command = f"python -m perceiver_jax.data.flow.photos --data_dir={tmp_path}"
    assert command in str(error.value)


def test_photos_lie_in_the_users_cache_by_default(toy_wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    photos.prepare(toy_wheel, None)
    assert photos.path_of(None).is_relative_to(tmp_path / "perceiver_jax" / "datasets")
    assert len(photos.load_photos("val")) == 4


def test_an_installed_package_is_read_without_importing_it(monkeypatch, tmp_path):
    package = tmp_path / "skimage"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "data" / "chelsea.png").write_bytes(b"cat")
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(b"cat").hexdigest()
    monkeypatch.setattr(photos, "MEMBERS", {"chelsea.png": digest, "coins.png": digest})
    nowhere = str(tmp_path / "data")
    assert photos.read_member("chelsea.png", nowhere) == b"cat"
    (package / "data" / "chelsea.png").write_bytes(b"dog")
    for name in ("chelsea.png", "coins.png"):
        with pytest.raises(DatasetError, match="fetch them"):
            photos.read_member(name, nowhere)


def test_the_photos_of_scikit_learn_join_the_training_split_alone(toy_wheel, monkeypatch, tmp_path):
    photos.prepare(toy_wheel, str(tmp_path))
    extra = photos.read_member("motorcycle_left.png", str(tmp_path))
    monkeypatch.setattr(photos, "installed", lambda package, file, digest: extra)
    train, val = (photos.load_photos(split, str(tmp_path)) for split in ("train", "val"))
    assert len(train) == len(photos.TRAIN) + 2 and len(val) == len(photos.VAL)
    np.testing.assert_array_equal(train[-1], decode_image(extra))


def test_a_wheel_that_was_changed_is_refused(toy_wheel, tmp_path, monkeypatch, capsys):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_wheel)
    name = "coins.png"
    monkeypatch.setitem(photos.MEMBERS, name, "0" * 64)
    assert photos.main([f"--archive={source}", f"--data_dir={tmp_path}"]) == 1
    assert f"{name} in the archive has not the SHA-256" in capsys.readouterr().err
    monkeypatch.setitem(photos.MEMBERS, "more.png", "0" * 64)
    for wrong in (b"no zip", toy_wheel[:1000]):
        with pytest.raises(DatasetError, match="is no wheel of scikit-image"):
            photos.prepare(wrong, str(tmp_path))
    assert [*tmp_path.iterdir()] == [source]


def test_a_wheel_without_a_member_is_refused(toy_wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "MEMBERS", {"more.png": "0" * 64})
    with pytest.raises(DatasetError, match="more.png.*nothing was written"):
        photos.prepare(toy_wheel, str(tmp_path))


def test_a_damaged_file_is_an_error(toy_wheel, tmp_path, monkeypatch):
    path = photos.prepare(toy_wheel, str(tmp_path))
    monkeypatch.setitem(photos.MEMBERS, "coins.png", "0" * 64)
    with pytest.raises(DatasetError, match="coins.png in .* was changed"):
        photos.read_member("coins.png", str(tmp_path))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetError, match="is damaged"):
        photos.read_member("chelsea.png", str(tmp_path))


def test_an_archive_that_is_not_there_is_an_error(tmp_path, capsys):
    assert photos.main([f"--archive={tmp_path / 'gone'}"]) == 1
    assert "gone cannot be read" in capsys.readouterr().err


@pytest.mark.network
def test_the_real_photos_are_there(tmp_path):
    assert photos.main([f"--data_dir={tmp_path}"]) == 0
    assert [p.shape[2] for p in photos.load_photos("val", str(tmp_path))] == [3] * 4
    assert max(max(p.shape) for p in photos.load_photos("train", str(tmp_path))) <= 768
