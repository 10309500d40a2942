"""What the tests of music share: tunes, MIDI files, and configs that write below tmp_path."""

import pytest

from perceiver_jax.data.music import MusicDataConfig, Note, write_midi

TUNE = [
    Note(60, 80, 0.0, 0.5),
    Note(64, 80, 0.5, 1.0),
    Note(67, 100, 1.0, 3.25),
    Note(48, 40, 0.0, 3.25),
]


@pytest.fixture
def tune():
    """Four notes."""
    return list(TUNE)


@pytest.fixture
def make_midi(tmp_path):
    """A function that writes a MIDI file of one note below tmp_path: `make_midi(name, pitch)`."""

    def make(name, pitch=60):
        write_midi([Note(pitch, 64, 0.0, 1.0)], tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def make_config(tmp_path):
    """A function that makes a config whose files lie below tmp_path."""

    def make(dataset="synthetic", **fields):
        folders = {"cache_dir": str(tmp_path / "prepared"), "data_dir": str(tmp_path / "datasets")}
        small = {"batch_size": 4, "eval_batch_size": 4, "max_seq_len": 16}
        return MusicDataConfig(dataset=dataset, **(folders | small | fields))

    return make
