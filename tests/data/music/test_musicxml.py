"""Scores to notes. A quarter lasts half a second at 120 quarters per minute."""

import io
import zipfile

import pytest

from perceiver_jax.data.music import MusicError
from perceiver_jax.data.music.musicxml import QUARTERS_PER_MINUTE, VELOCITY, read_musicxml

TEMPO = '<sound tempo="120"/>'


def note(pitch, duration, inside=""):
    step, octave = pitch[0], pitch[-1]
    alter = {"": "", "#": "<alter>1</alter>", "b": "<alter>-1</alter>"}[pitch[1:-1]]
    return (
        f"<note>{inside}<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"
        f"<duration>{duration}</duration></note>"
    )


def rest(duration):
    return f"<note><rest/><duration>{duration}</duration></note>"


def measure(*elements, divisions=2):
    attributes = f"<attributes><divisions>{divisions}</divisions></attributes>"
    return f"<measure>{attributes}{''.join(elements)}</measure>"


def score(*parts, before=""):
    body = "".join(f"<part>{''.join(part)}</part>" for part in parts)
    return f"{before}<score-partwise>{body}</score-partwise>".encode()


def read(*parts):
    notes = read_musicxml(score(*parts), "a score")
    assert {note.velocity for note in notes} == {VELOCITY}
    return [(note.pitch, round(note.start, 6), round(note.end, 6)) for note in notes]


def mxl(contents, name="song.xml", named="song.xml"):
    container = f'<container><rootfiles><rootfile full-path="{named}"/></rootfiles></container>'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("META-INF/container.xml", container)
        file.writestr(name, contents)
    return packed.getvalue()


def test_notes_follow_each_other_and_rests_are_silent():
    found = read([measure(TEMPO, note("C4", 2), rest(1), note("F#5", 1), note("Bb2", 4))])
    assert found == [(60, 0.0, 0.5), (78, 0.75, 1.0), (46, 1.0, 2.0)]


def test_notes_of_a_chord_begin_together():
    found = read([measure(TEMPO, note("C4", 2), note("E4", 2, "<chord/>"), note("G4", 2))])
    assert found == [(60, 0.0, 0.5), (64, 0.0, 0.5), (67, 0.5, 1.0)]


def test_voices_go_back_and_forward():
    back, forward = (f"<{x}><duration>2</duration></{x}>" for x in ("backup", "forward"))
    found = read([measure(TEMPO, note("C4", 2), back, forward, note("E4", 2))])
    assert found == [(60, 0.0, 0.5), (64, 0.5, 1.0)]


def test_tied_notes_are_one_also_over_measures():
    begins, ends = ('<tie type="start"/>', '<tie type="stop"/>')
    first = measure(TEMPO, note("C4", 2, begins), note("E4", 2, begins))
    second = measure(note("E4", 2, ends + begins), note("E4", 2, ends), note("C4", 2, ends))
    # The tie of C leads to nothing that begins where it ends.
    assert read([first, second]) == [(60, 0.0, 0.5), (64, 0.5, 2.0), (60, 2.0, 2.5)]


def test_grace_notes_are_left_out():
    grace = "<note><grace/><pitch><step>D</step><octave>4</octave></pitch></note>"
    assert read([measure(TEMPO, grace, note("C4", 2))]) == [(60, 0.0, 0.5)]


def test_parts_begin_measures_together():
    short = [measure(TEMPO, note("C4", 2)), measure(note("D4", 2))]
    long = [measure(note("C3", 8), divisions=4), measure(note("D3", 4), divisions=4)]
    assert read(short, long) == [(48, 0.0, 1.0), (60, 0.0, 0.5), (50, 1.0, 1.5), (62, 1.0, 1.5)]


def test_tempo_may_change_within_a_note():
    found = read(
        [measure(TEMPO, note("C4", 2), '<sound tempo="60"/>', note("D4", 2))],
        [measure(note("C3", 4))],
    )
    assert found == [(48, 0.0, 1.5), (60, 0.0, 0.5), (62, 0.5, 1.5)]


def test_tempo_has_a_default():
    assert read([measure(note("C4", 2))]) == [(60, 0.0, 60 / QUARTERS_PER_MINUTE)]


def test_compressed_files_name_their_score():
    contents = score([measure(TEMPO, note("C4", 2))])
    assert len(read_musicxml(mxl(contents), "a score")) == 1
    with pytest.raises(MusicError, match="a score is no MusicXML score, or is damaged"):
        read_musicxml(mxl(contents, named="other.xml"), "a score")
    with pytest.raises(MusicError, match="song.mxl is no MusicXML score, or is damaged"):
        read_musicxml(mxl(contents)[:-30], "song.mxl")


def test_a_damaged_archive_is_an_error_for_users_or_music():
    whole = mxl(score([measure(TEMPO, *(note("C4", i) for i in range(1, 40)))]))
    refused = 0
    for position in range(4, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0xFF
        try:
            assert read_musicxml(bytes(broken), "a score")
        except MusicError:
            refused += 1
    assert refused > 100


def test_entities_are_refused_and_nothing_is_read(tmp_path):
    (tmp_path / "secret").write_text("C")
    before = f'<!DOCTYPE s [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    contents = score([measure(note("C4", 2))], before=before).replace(b">C<", b">&e;<")
    with pytest.raises(MusicError, match="it defines entities"):
        read_musicxml(contents, "a score")


def test_a_document_type_elsewhere_is_not_fetched():
    before = '<!DOCTYPE score-partwise PUBLIC "x" "http://localhost:1/partwise.dtd">'
    contents = score([measure(note("C4", 2))], before=before)
    assert len(read_musicxml(contents, "a score")) == 1


@pytest.mark.parametrize(
    "contents",
    [
        b"MThd",
        b"\xff\xfe<",
        b"PK\3\4",
        score([measure(note("C4", 2), divisions=0)]),
        score([measure(note("C4", "inf"))]),
        score([measure(note("C4", -1))]),
        score([measure(note("H4", 2))]),
        score([measure(note("B9", 2))]),
        score([measure("<backup><duration>2</duration></backup>", note("C4", 2))]),
    ],
)
def test_damage_is_named(contents):
    with pytest.raises(MusicError, match="song.xml is no MusicXML score, or is damaged .*fetch it"):
        read_musicxml(contents, "song.xml")


def test_a_score_without_notes_is_refused():
    with pytest.raises(MusicError, match="a score has no notes; choose another file"):
        read_musicxml(score([measure(rest(2))]), "a score")
