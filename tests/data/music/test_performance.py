"""Notes to events and back."""

import numpy as np
import pytest

from perceiver_jax.data.music import PAD_ID, VOCAB_SIZE, MusicError, Note, decode, encode
from perceiver_jax.data.music.performance import UNKNOWN_VELOCITY, quantised, sustained


def random_notes(rng, count=200):
    """Also notes that overlap, double each other and last less than a tick."""
    starts = rng.uniform(0, 20, count)
    lengths = rng.choice([0.0, 0.004, 0.3, 5.0], count)
    pitches, velocities = rng.integers(0, 128, count) // 8, rng.integers(1, 128, count)
    rows = zip(pitches.tolist(), velocities.tolist(), starts, starts + lengths, strict=True)
    return [Note(*row) for row in rows]


def test_each_kind_of_event_has_its_ids():
    notes = [Note(60, 80, 0.0, 0.5), Note(62, 83, 1.62, 1.63)]
    expected = [376, 60, 256 + 49, 128 + 60, 355, 256 + 11, 62, 256, 128 + 62]
    assert encode(notes).tolist() == expected
    assert encode(notes).dtype == np.int16
    assert VOCAB_SIZE == 389 and PAD_ID == 388


def test_every_note_may_have_its_velocity():
    notes = [Note(60, 80, 0.0, 0.5), Note(62, 83, 0.5, 1.0)]
    assert encode(notes, every_velocity=True).tolist() == [376, 60, 305, 188, 376, 62, 305, 190]


@pytest.mark.parametrize("every_velocity", [False, True])
def test_decoding_gives_the_notes_as_they_were_quantised(every_velocity):
    for seed in range(5):
        notes = random_notes(np.random.default_rng(seed))
        ids = encode(notes, every_velocity=every_velocity)
        assert decode(ids) == quantised(notes)
        assert 0 <= ids.min() and ids.max() < PAD_ID
        np.testing.assert_array_equal(encode(decode(ids), every_velocity=every_velocity), ids)


def test_quantising_keeps_times_to_half_a_tick_and_velocities_to_a_step(tune):
    moved = [Note(p, v + 3, start + 0.0049, end - 0.0049) for p, v, start, end in tune]
    expected = sorted(tune, key=lambda note: (note.start, note.pitch))
    assert quantised(moved) == expected


def test_at_one_time_notes_end_before_others_begin_each_by_pitch():
    notes = [Note(64, 80, 0.0, 1.0), Note(60, 80, 0.5, 1.0), Note(62, 80, 1.0, 2.0)]
    notes.append(Note(61, 80, 1.0, 2.0))
    expected = [376, 64, 305, 60, 305, 128 + 60, 128 + 64, 61, 62, 355, 128 + 61, 128 + 62]
    assert encode(notes).tolist() == expected


def test_roundings_do_not_add_up():
    notes = [Note(60 + i % 2, 64, i * 0.0149, i * 0.0149 + 0.01) for i in range(1000)]
    assert abs(decode(encode(notes))[-1].start - notes[-1].start) <= 0.005


def test_a_pitch_sounds_once_at_a_time():
    notes = [Note(60, 40, 0.0, 2.0), Note(60, 80, 0.0, 1.0), Note(60, 40, 1.5, 1.7)]
    assert quantised(notes) == [Note(60, 80, 0.0, 1.5), Note(60, 40, 1.5, 1.7)]


def test_notes_have_a_length_and_a_force():
    assert quantised([Note(60, 3, 1.0, 1.0)]) == [Note(60, 1, 1.0, 1.01)]


@pytest.mark.parametrize(
    "note",
    [
        Note(128, 64, 0.0, 1.0),
        Note(-1, 64, 0.0, 1.0),
        Note(60, 0, 0.0, 1.0),
        Note(60, 128, 0.0, 1.0),
        Note(60, 64, 2.0, 1.0),
        Note(60, 64, -0.1, 1.0),
        Note(60, 64, 0.0, float("inf")),
        Note(60, 64, float("nan"), 1.0),
    ],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(MusicError, match="is no note; expected a pitch"):
        encode([note])


def test_no_notes_are_no_events():
    assert encode([]).tolist() == [] and decode([]) == []


def test_any_sequence_of_ids_tells_something():
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, 5000)
    notes = decode(ids)
    assert len(notes) > 100
    assert quantised(notes) == notes


def test_a_note_begun_again_ends_and_one_left_over_ends_with_the_sequence():
    ids = [60, 265, 60, 275, PAD_ID, 128 + 61, 62]
    u = UNKNOWN_VELOCITY
    assert decode(ids) == [Note(60, u, 0.0, 0.1), Note(60, u, 0.1, 0.3)]


@pytest.mark.parametrize("wrong", [-1, VOCAB_SIZE])
def test_numbers_outside_of_the_vocabulary_are_refused(wrong):
    with pytest.raises(MusicError, match=f"{wrong} is no event of music"):
        decode([60, wrong])


def test_keys_let_go_while_the_pedal_is_down_sound_until_it_is_up():
    notes = [Note(60, 64, 0.0, 1.0), Note(62, 64, 0.0, 0.4), Note(64, 64, 1.2, 3.0)]
    ends = {note.pitch: note.end for note in sustained(notes, [(0.5, 64), (2.0, 63)])}
    assert ends == {60: 2.0, 62: 0.4, 64: 3.0}


def test_a_key_struck_again_ends_what_the_pedal_holds():
    notes = [Note(60, 64, 0.0, 1.0), Note(60, 64, 1.5, 1.6)]
    assert [n.end for n in sustained(notes, [(0.5, 127), (4.0, 0)])] == [1.5, 4.0]


def test_a_pedal_that_stays_down_goes_up_with_the_last_key():
    notes = [Note(60, 64, 0.0, 1.0), Note(62, 64, 2.0, 3.0)]
    assert [n.end for n in sustained(notes, [(0.5, 100), (0.6, 100)])] == [3.0, 3.0]
    assert sustained(notes, [(0.5, 10)]) == notes
