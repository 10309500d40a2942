import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio.folders import SoundFolder
from tests.data.audio.conftest import tone, write_wav


@pytest.fixture
def root(tmp_path):
    names = ("train/dog/b.wav", "train/dog/a.WAV", "train/cat/c.wav", "test/dog/d.wav")
    for name in names:
        write_wav(tmp_path / name, tone(440, 0.1))
    (tmp_path / "train" / "dog" / ".hidden.wav").write_bytes(b"x")
    (tmp_path / "train" / "dog" / "notes.txt").write_text("x")
    (tmp_path / "train" / "empty").mkdir()
    return tmp_path


def opened(root, split):
    return SoundFolder(root, split, train_split="train")


def test_a_folder_with_sounds_is_a_class(root):
    source = opened(root, "train")
    found = [(source[i]["sound"].path.name, source[i]["label"]) for i in range(len(source))]
    assert source.class_names == ("cat", "dog")
    assert found == [("c.wav", 0), ("a.WAV", 1), ("b.wav", 1)]


def test_labels_are_the_same_in_every_split(root):
    assert opened(root, "test").class_names == opened(root, "train").class_names
    assert opened(root, "test")[0]["label"] == 1


def test_sounds_are_those_of_the_files(root):
    sound = opened(root, "test")[0]["sound"]
    np.testing.assert_allclose(sound.read(0.0, 1600, 16_000, 1)[:, 0], tone(440, 0.1), atol=1e-4)


def test_a_split_that_is_not_there_is_answered_with_those_there_are(root):
    with pytest.raises(DatasetError, match="no folder 'val'; it has test, train; expected DIR/SPL"):
        opened(root, "val")
    with pytest.raises(DatasetError, match="there is no folder .*gone; "):
        opened(root / "gone", "train")


def test_files_of_no_class_are_named(root):
    write_wav(root / "train" / "loose.wav", tone(440, 0.1))
    with pytest.raises(DatasetError, match=r"loose\.wav is of no class"):
        opened(root, "train")


def test_a_split_without_sounds_is_refused(root):
    (root / "val" / "dog").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"val has no sounds: .*\.wav, \.flac.*; put them"):
        opened(root, "val")
