"""Seeded tunes."""

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.music import decode, encode
from perceiver_jax.data.music.synthetic import SyntheticPieces


def test_tunes_are_always_the_same_and_splits_differ():
    train, test = (list(SyntheticPieces(split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (256, 64)
    assert list(SyntheticPieces("train")) == train
    assert train[: len(test)] != test
    assert SyntheticPieces("train").fingerprint != SyntheticPieces("test").fingerprint
    with pytest.raises(DatasetError, match="no split is called 'dev'"):
        SyntheticPieces("dev")


def test_all_notes_of_a_tune_are_heard():
    for notes in SyntheticPieces("test"):
        assert len(decode(encode(notes))) == len(notes) == 40
