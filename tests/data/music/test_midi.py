"""MIDI files."""

import builtins
import io

import pretty_midi
import pytest

from perceiver_jax.data.music import MusicError, Note, read_midi, write_midi
from perceiver_jax.data.music.performance import quantised


def contents(*instruments):
    music = pretty_midi.PrettyMIDI(resolution=500)
    music.instruments += instruments
    file = io.BytesIO()
    music.write(file)
    return file.getvalue()


def instrument(*notes, drums=False, pedal=()):
    made = pretty_midi.Instrument(program=0, is_drum=drums)
    made.notes = [pretty_midi.Note(64, pitch, start, end) for pitch, start, end in notes]
    made.control_changes = [pretty_midi.ControlChange(64, value, at) for at, value in pedal]
    return made


def rounded(notes):
    return [(note.pitch, round(note.start, 3), round(note.end, 3)) for note in notes]


def test_what_is_written_is_read(tmp_path, tune):
    write_midi(tune, tmp_path / "new" / "tune.mid")
    notes = read_midi(tmp_path / "new" / "tune.mid")
    assert quantised(notes) == quantised(tune)
    assert read_midi((tmp_path / "new" / "tune.mid").read_bytes()) == notes
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tune.mid"]


def test_repeated_notes_and_overlaps_are_written_as_events_tell_them(tmp_path):
    notes = [Note(60, 64, 0.0, 2.0), Note(60, 64, 1.0, 3.0), Note(60, 64, 3.0, 4.0)]
    write_midi(notes, tmp_path / "tune.mid")
    want = [(60, 0.0, 1.0), (60, 1.0, 3.0), (60, 3.0, 4.0)]
    assert rounded(read_midi(tmp_path / "tune.mid")) == want


def test_instruments_are_joined_without_drums_each_with_its_own_pedal():
    first = instrument((60, 0.0, 1.0), pedal=[(0.5, 127), (2.0, 0)])
    second = instrument((50, 0.0, 1.0))
    drums = instrument((40, 0.0, 1.0), drums=True)
    assert rounded(read_midi(contents(first, second, drums))) == [(50, 0.0, 1.0), (60, 0.0, 2.0)]


def test_files_of_drums_alone_have_no_notes():
    drums = contents(instrument((40, 0.0, 1.0), drums=True))
    with pytest.raises(MusicError, match=r"song.mid has no notes, other than of drums; choose"):
        read_midi(drums, what="song.mid")


def test_another_file_is_refused(tmp_path):
    (tmp_path / "song.mid").write_bytes(b"RIFF....")
    with pytest.raises(MusicError, match=r"song.mid is no MIDI file: .*; choose a .mid file"):
        read_midi(tmp_path / "song.mid")
    with pytest.raises(MusicError, match=r"absent.mid cannot be read: .*; name a .mid file"):
        read_midi(tmp_path / "absent.mid")


@pytest.mark.parametrize("length", [4, 13, 20, 40])
def test_a_file_that_is_cut_off_is_damaged(length):
    whole = contents(instrument((60, 0.0, 1.0)))
    with pytest.raises(MusicError, match="the MIDI file is damaged: .*leave it out"):
        read_midi(whole[:length])


def test_garbage_is_an_error_for_users_or_music():
    whole = bytearray(contents(instrument((60, 0.0, 1.0), (62, 1.0, 2.0))))
    refused = 0
    for position in range(4, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        try:
            assert read_midi(bytes(broken))
        except MusicError:
            refused += 1
    assert refused > 20


def test_music_of_more_than_a_day_is_damaged():
    with pytest.raises(MusicError, match="lasts longer than a day"):
        music = pretty_midi.PrettyMIDI(resolution=1, initial_tempo=4.0)
        music.instruments.append(instrument((60, 0.0, 90_000.0)))
        file = io.BytesIO()
        music.write(file)
        read_midi(file.getvalue())


def test_what_cannot_be_written_is_named(tmp_path, tune):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MusicError, match=r"tune.mid cannot be written: .*; choose another file"):
        write_midi(tune, tmp_path / "file" / "tune.mid")


def test_a_package_that_is_missing_is_named(monkeypatch):
    def without(name, *arguments, original=builtins.__import__, **more):
        if name == "pretty_midi":
            raise ImportError(name)
        return original(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MusicError, match=r"pip install -c constraints.txt '\.\[music\]'"):
        read_midi(b"MThd")
