"""Transposing and stretching."""

import numpy as np
import pytest

from perceiver_jax.data.music import decode, encode
from perceiver_jax.data.music.augmentation import stretched, transposable, transposed


def test_transposing_moves_notes_and_nothing_else(tune):
    ids = encode(tune)
    want = encode([note._replace(pitch=note.pitch + 5) for note in tune])
    np.testing.assert_array_equal(transposed(ids, 5), want)
    np.testing.assert_array_equal(transposed(transposed(ids, -7), 7), ids)
    assert transposed(ids, 5).dtype == np.int16


def test_transposing_stops_at_the_ends_of_the_keyboard(tune):
    ids = encode(tune)
    assert transposable(ids) == (-48, 60)
    lowest = decode(transposed(ids, -48))
    assert min(note.pitch for note in lowest) == 0
    assert transposable(np.array([300, 388])) == (0, 0)
    with pytest.raises(ValueError, match=r"semitones=61 is not in \[-48, 60\]"):
        transposed(ids, 61)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 3.0])
def test_stretching_multiplies_times(tune, factor):
    slow = [note._replace(start=note.start * factor, end=note.end * factor) for note in tune]
    np.testing.assert_array_equal(stretched(encode(tune), factor), encode(slow))


def test_stretching_a_cut_keeps_what_is_not_whole():
    ids = np.array([128 + 60, 355, 355, 265, 128 + 62, 62, 300], np.int16)
    np.testing.assert_array_equal(stretched(ids, 1.0), ids)
    # 210 ticks become 105, and the 45 behind the last event 22: 255 / 2 is rounded to 128 - 1 more.
    want = [128 + 60, 355, 260, 128 + 62, 62, 256 + 22]
    assert stretched(ids, 0.5).tolist() == want
    assert stretched(ids[:0], 0.5).tolist() == []
