"""Checks and the atomic writing that all formats share."""

import os

import numpy as np
import pytest

from interop.files import FileError, checks, haiku, npz, safetensors_files, torch_files

WRITERS = [haiku.write, npz.write, safetensors_files.write, torch_files.write]
ARRAYS = {"params/linear/w": np.ones(3, np.float32)}


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, write, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match="cannot write .*No space left on device"):
        write(path, ARRAYS)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_replaced_and_has_usual_permissions(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("old")
    write(path, ARRAYS)
    assert len(path.read_bytes()) > 12
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_is_missing_or_in_the_way_is_told(tmp_path, write):
    with pytest.raises(FileError, match="cannot write"):
        write(tmp_path / "none" / "a", ARRAYS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="cannot write .*folder"):
        write(tmp_path / "folder", ARRAYS)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_many_ruined_arrays_are_counted(tmp_path):
    arrays = {f"w{i}": np.array([np.nan]) for i in range(8)} | {"text": np.array("nan")}
    with pytest.raises(FileError, match="w0, w1, w2, w3, w4 and 3 more hold NaN"):
        checks.check_arrays(tmp_path, arrays)


def test_a_name_that_is_too_long_is_no_file(tmp_path):
    with pytest.raises(FileError, match="no file"):
        checks.opened_size(tmp_path / ("x" * 5_000), "a file")


def test_what_is_no_ordinary_file_is_not_opened(tmp_path):
    # Opening it would wait for somebody to write into it.
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(FileError, match="not an ordinary file|is empty"):
        npz.read(tmp_path / "a.npz")
