"""Bach's pieces: taking them out of their archive, and which are held out."""

import hashlib
import io
import zipfile

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.music import chorales, encode
from perceiver_jax.data.music.chorales import Chorales, main, path_of, prepare
from perceiver_jax.data.splits import held_out

SCORE = """<score-partwise><part><measure><attributes><divisions>1</divisions></attributes>
<note><pitch><step>C</step><octave>{}</octave></pitch><duration>1</duration></note>
</measure></part></score-partwise>"""
NAMES = [f"bwv{i}.mxl" for i in range(60)]


def zipped(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, contents in members.items():
            file.writestr(name, contents)
    return packed.getvalue()


def mxl(octave):
    container = '<container><rootfile full-path="a.xml"/></container>'
    return zipped({"META-INF/container.xml": container, "a.xml": SCORE.format(octave)})


@pytest.fixture
def wheel(monkeypatch):
    """An archive of the layout of the real one, of 60 scores, with a member that wants out."""
    scores = {f"music21/corpus/bach/{name}": mxl(held_out(name) + 3) for name in reversed(NAMES)}
    others = {
        "music21/__init__.py": "raise SystemExit",
        "music21/corpus/bach/../../evil.mxl": "x",
        "music21/corpus/handel/hwv56.mxl": "x",
    }
    made = zipped(scores | others)
    monkeypatch.setattr(chorales, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    monkeypatch.setattr(chorales, "NUM_FILES", len(NAMES))
    return made


def octaves(split, data_dir):
    return [notes[0].pitch // 12 - 1 for notes in Chorales(split, str(data_dir))]


def test_the_scores_are_taken_out_and_split_by_name(tmp_path, wheel):
    path = prepare(wheel, str(tmp_path))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [path.name]
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == sorted(NAMES)
    num_test = sum(map(held_out, NAMES))
    assert 0 < num_test < 15
    assert octaves("test", tmp_path) == [4] * num_test
    assert octaves("train", tmp_path) == [3] * (60 - num_test)
    both = [Chorales(split, str(tmp_path)).fingerprint for split in ("train", "test")]
    assert both[0] != both[1]
    written = path.read_bytes()
    assert prepare(wheel, str(tmp_path)).read_bytes() == written


def test_another_archive_is_refused(tmp_path, wheel, monkeypatch):
    with pytest.raises(DatasetError, match="it was changed; nothing was written"):
        prepare(wheel + b"x", str(tmp_path))
    monkeypatch.setattr(chorales, "NUM_FILES", 408)
    with pytest.raises(DatasetError, match="has 60 scores, not 408; nothing was written"):
        prepare(wheel, str(tmp_path))
    assert not list(tmp_path.rglob("*"))


def test_the_command_takes_a_local_archive(tmp_path, wheel, capsys):
    (tmp_path / "wheel").write_bytes(wheel)
    assert main([f"--archive={tmp_path / 'wheel'}", f"--data_dir={tmp_path / 'data'}"]) == 0
    assert capsys.readouterr().out.strip() == str(path_of(str(tmp_path / "data")))
    assert main([f"--archive={tmp_path / 'absent'}"]) == 1
    assert "absent cannot be read" in capsys.readouterr().err


def test_a_file_that_is_missing_or_damaged_says_how_to_get_it(tmp_path):
    with pytest.raises(DatasetError, match=f"fetch it: .*chorales --data_dir={tmp_path}"):
        Chorales("train", str(tmp_path))
    path_of(str(tmp_path)).parent.mkdir()
    path_of(str(tmp_path)).write_bytes(b"PK")
    with pytest.raises(DatasetError, match="is damaged .*delete it and fetch it again"):
        list(Chorales("train", str(tmp_path)))
    with pytest.raises(
        DatasetError, match="no split is called 'validation'; there are train, test"
    ):
        Chorales("validation", str(tmp_path))


def shape(notes):
    """Equal for pieces that differ in key, tempo and doubled voices alone."""
    lowest, last = min(note.pitch for note in notes), max(note.end for note in notes)
    return frozenset((n.pitch - lowest, round(2**16 * n.start / last)) for n in notes)


def test_the_real_pieces():
    if not path_of(None).is_file():
        pytest.skip("fetch them: python -m perceiver_jax.data.music.chorales")
    train, test = (list(Chorales(split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (354, 54)
    assert sum(map(len, train + test)) == 109_563
    assert sum(len(encode(notes)) for notes in train + test) == 244_939
    assert not {shape(notes) for notes in train} & {shape(notes) for notes in test}
