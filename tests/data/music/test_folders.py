"""MIDI files in folders, and their splits."""

import json

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.music import folders
from perceiver_jax.data.splits import held_out

MAESTRO = {
    "2004/a.midi": "train",
    "2004/b, c.midi": "train",
    "2006/d.midi": "validation",
    "2006/e.midi": "test",
}


def names(files):
    return [file.name for file in files.files]


def pitches(files):
    return [notes[0].pitch for notes in files]


@pytest.fixture(params=["csv", "json"])
def maestro(request, tmp_path, make_midi):
    for i, name in enumerate(MAESTRO):
        make_midi(name, 60 + i)
    table = tmp_path / f"maestro-v3.0.0.{request.param}"
    if request.param == "csv":
        rows = [f'A. B.,"T, 1",{split},2004,"{name}"' for name, split in MAESTRO.items()]
        head = "canonical_composer,canonical_title,split,year,midi_filename"
        table.write_text("\n".join([head, *rows]))
    else:
        columns = zip(*MAESTRO.items(), strict=True)
        numbered = [{str(i): x for i, x in enumerate(column)} for column in columns]
        table.write_text(json.dumps(dict(zip(("midi_filename", "split"), numbered, strict=True))))
    return tmp_path


def test_maestro_has_splits_of_its_own(maestro):
    path = str(maestro)
    assert names(folders.maestro(path, "train")) == ["a.midi", "b, c.midi"]
    assert pitches(folders.maestro(path, "validation")) == [62]
    assert pitches(folders.maestro(path, "test")) == [63]
    with pytest.raises(DatasetError, match="'dev'; there are test, train, validation"):
        folders.maestro(path, "dev")


def test_maestro_must_be_whole(maestro):
    (maestro / "2004" / "a.midi").unlink()
    with pytest.raises(DatasetError, match=r"lists 1 files that are missing, such as .*a.midi"):
        folders.maestro(str(maestro), "train")
    next(maestro.glob("maestro*")).write_text("{}")
    with pytest.raises(DatasetError, match=r"is not the list of MAESTRO|no split is called"):
        folders.maestro(str(maestro), "train")
    next(maestro.glob("maestro*")).unlink()
    with pytest.raises(DatasetError, match=r"has no maestro-v3.0.0.csv or .json"):
        folders.maestro(str(maestro), "train")


def test_names_decide_without_folders_and_more_files_change_nothing(tmp_path, make_midi):
    for i in range(30):
        make_midi(f"{i}.mid", 30 + i)
    train, test = (names(folders.midi_files(str(tmp_path), x)) for x in ("train", "test"))
    assert sorted(train + test) == sorted(f"{i}.mid" for i in range(30))
    assert test == sorted(f"{i}.mid" for i in range(30) if held_out(f"{i}.mid")) and test
    make_midi("more.MID")
    again = (names(folders.midi_files(str(tmp_path), x)) for x in ("train", "test"))
    assert {"more.MID"} == {x for part in again for x in part} - {*train, *test}


def test_a_folder_may_be_a_split(tmp_path, make_midi):
    for name in ("train/a.mid", "train/deep/b.mid", "valid/c.midi", "d.mid", ".hidden/e.mid"):
        make_midi(name)
    found = {s: names(folders.midi_files(str(tmp_path), s)) for s in ("train", "valid", "all")}
    assert found["train"] == ["a.mid", "b.mid"] and found["valid"] == ["c.midi"]
    assert found["all"] == ["d.mid", "a.mid", "b.mid", "c.midi"]


def test_recordings_of_a_work_are_of_one_split(tmp_path, make_midi):
    works = [f"Bach, J. S., Fugue {i}" for i in range(12)]
    for i, work in enumerate(works):
        for video in ("xyz-_1", "abc"):
            make_midi(f"{work}, {video}.mid", 60 + i)
    test = sorted(pitches(folders.giantmidi(str(tmp_path), "test")))
    assert test and test == sorted(60 + i for i, x in enumerate(works) for _ in "12" if held_out(x))
    assert len(pitches(folders.giantmidi(str(tmp_path), "train"))) == 24 - len(test)


def test_giantmidi_may_have_its_list(tmp_path, make_midi):
    stems = ["Bach, J., A, 1", 'Bach, J., "B", 2', "Bach, J., C, 3"]
    for stem in stems:
        for folder in ("midis", "surname_checked_midis"):
            make_midi(f"{folder}/{stem}.mid")
    rows = ["surname\taudio_name\tsplit", "x\tAbsent, 4\ttrain", "x\tNo, 5\t"]
    rows += [f"Bach\t{x}\t{s}" for x, s in zip(stems, ("train", "test", "train"), strict=True)]
    (tmp_path / "full_split.csv").write_text("\n".join(rows))
    train, test = (folders.giantmidi(str(tmp_path), split) for split in ("train", "test"))
    assert names(train) == [f"{stems[0]}.mid", f"{stems[2]}.mid"]
    assert names(test) == [f"{stems[1]}.mid"]
    with pytest.raises(DatasetError, match="'dev'; there are test, train"):
        folders.giantmidi(str(tmp_path), "dev")
    (tmp_path / "full_split.csv").write_text("a\tb\n1\t2")
    with pytest.raises(DatasetError, match="is not the list of GiantMIDI-Piano"):
        folders.giantmidi(str(tmp_path), "train")


def test_damaged_files_are_left_out_and_named(tmp_path, make_midi, capsys):
    make_midi("a.mid", 60)
    make_midi("c.mid", 62)
    (tmp_path / "b.mid").write_bytes(b"MThd")
    assert pitches(folders.midi_files(str(tmp_path), "all")) == [60, 62]
    assert f"left out: {tmp_path / 'b.mid'} is damaged" in capsys.readouterr().err


def test_the_fingerprint_is_of_what_is_in_the_files(tmp_path, make_midi):
    make_midi("a.mid", 60)
    before = folders.midi_files(str(tmp_path), "all").fingerprint
    make_midi("a.mid", 60)
    assert folders.midi_files(str(tmp_path), "all").fingerprint == before
    make_midi("a.mid", 61)
    assert folders.midi_files(str(tmp_path), "all").fingerprint != before


def test_what_is_not_there_is_named(tmp_path, make_midi):
    with pytest.raises(DatasetError, match="absent' is no folder"):
        folders.midi_files(str(tmp_path / "absent"), "train")
    with pytest.raises(
        DatasetError, match=r"has no files that end in .mid or .midi; name .*files:"
    ):
        folders.midi_files(str(tmp_path), "train")
    make_midi("a.mid")
    with pytest.raises(DatasetError, match="none of the MIDI files .* is of split 'test'"):
        folders.midi_files(str(tmp_path), "test")
    with pytest.raises(DatasetError, match="no split is called 'dev'; there are train, test"):
        folders.midi_files(str(tmp_path), "dev")
