"""Events of pieces on disk."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.music import Note, encode
from perceiver_jax.data.music.prepared import PreparedPieces, prepare


@dataclasses.dataclass
class Listed:
    """Pieces in a list, which count how often they are read."""

    pieces: list
    fingerprint: str = "listed"
    num_reads: int = 0

    def __iter__(self):
        self.num_reads += 1
        return iter(self.pieces)


def write(pieces, into, every_velocity=False):
    return prepare(pieces, every_velocity=every_velocity, into=into, what="pieces")


@pytest.fixture
def listed(tune):
    return Listed([tune, [], [Note(60, 64, 0.0, 30.0)], tune[:2]])


def test_pieces_come_back_without_empty_ones(tmp_path, listed):
    held = PreparedPieces(write(listed, tmp_path / "new"))
    wanted = [encode(notes) for notes in listed.pieces if notes]
    assert len(held) == 3 and held.lengths.tolist() == [len(ids) for ids in wanted]
    for got, want in zip((held[i] for i in range(3)), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_is_there_is_not_made_again_and_what_differs_is(tmp_path, listed):
    first = write(listed, tmp_path)
    assert write(listed, tmp_path) == first and listed.num_reads == 1
    every = write(listed, tmp_path, every_velocity=True)
    other = write(dataclasses.replace(listed, fingerprint="other"), tmp_path)
    assert len({first, every, other}) == 3
    assert PreparedPieces(every).lengths.sum() > PreparedPieces(first).lengths.sum()
    assert {path for path in tmp_path.iterdir()} == {first, every, other}


def test_an_error_leaves_nothing(tmp_path, tune):
    def broken():
        yield tune
        raise DatasetError("damaged")

    with pytest.raises(DatasetError, match="damaged"):
        write(Listed(broken()), tmp_path / "new")
    with pytest.raises(DatasetError, match="pieces has no music"):
        write(Listed([]), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, listed):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot be written to .*--config.data.cache_dir"):
        write(listed, tmp_path / "file")


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-1], lambda x: x[:-2], lambda x: b"", lambda x: b"\xff\x7f" + x]
)
def test_a_damaged_file_is_named(tmp_path, listed, damage):
    path = write(listed, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match="is damaged .*delete that file"):
        PreparedPieces(path)
