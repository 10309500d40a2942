"""The SoundFont of General MIDI: taking it out of its package."""

import hashlib
import io
import zipfile

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.audio import general_midi
from tests.data.audio.conftest import soundfont
from tests.data.audio.test_soundfont import RECORDING, SAMPLE

CONTENTS = soundfont([RECORDING], {7: [{41: 0}]}, instruments=[[{SAMPLE: 0}]])


@pytest.fixture(autouse=True)
def toy_file(monkeypatch):
    """The toy in place of the real file, and no package that has it."""
    monkeypatch.setattr(general_midi, "FILE_SHA256", hashlib.sha256(CONTENTS).hexdigest())
    monkeypatch.setattr(general_midi, "PACKAGE", "no_such_package")
    general_midi.load_soundfont.cache_clear()
    yield
    general_midi.load_soundfont.cache_clear()


@pytest.fixture
def toy_archive(monkeypatch):
    """An archive of the layout of the real one, with a member that wants out of its folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as wheel:
        wheel.writestr("../evil.txt", b"x")
        wheel.writestr(f"pretty_midi/{general_midi.FILE}", CONTENTS)
        wheel.writestr("pretty_midi/__init__.py", b"raise SystemExit")
    made = packed.getvalue()
    monkeypatch.setattr(general_midi, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    return made


def test_the_command_takes_one_file_out_of_an_archive_and_nothing_else(
    toy_archive, tmp_path, capsys
):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive)
    data_dir = tmp_path / "a" / "data"
    assert general_midi.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != source]
    assert written == [data_dir / "general_midi" / general_midi.FILE]
    assert written[0].read_bytes() == CONTENTS
    assert capsys.readouterr().out.strip() == str(written[0])
    assert general_midi.load_soundfont(str(data_dir)).zones(7, 60)


def test_an_archive_that_was_changed_is_refused(toy_archive, tmp_path, capsys):
    source = tmp_path / "a.whl"
    source.write_bytes(toy_archive + b"\0")
    assert general_midi.main([f"--archive={source}", f"--data_dir={tmp_path}"]) == 1
    assert "the archive has the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "general_midi").exists()


def test_an_archive_without_the_file_is_refused(tmp_path, monkeypatch):
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    monkeypatch.setattr(general_midi, "ARCHIVE_SHA256", digest)
    with pytest.raises(DatasetError, match="has no file .*TimGM6mb.sf2; nothing was written"):
        general_midi.prepare(packed.getvalue(), str(tmp_path))


def test_a_missing_file_is_answered_with_the_command_that_fetches_it(tmp_path):
    with pytest.raises(DatasetError) as error:
        general_midi.load_soundfont(str(tmp_path))
    want = f"python -m perceiver_jax.data.audio.general_midi --data_dir={tmp_path}"
    assert want in str(error.value)


def test_a_file_that_was_changed_is_not_read(tmp_path):
    path = general_midi.path_of(str(tmp_path))
    path.parent.mkdir()
    path.write_bytes(CONTENTS[:-1] + b"\1")
    with pytest.raises(DatasetError, match="damaged or was changed; delete it"):
        general_midi.load_soundfont(str(tmp_path))


def test_the_file_of_an_installed_package_is_read_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "packed_sounds"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / general_midi.FILE).write_bytes(CONTENTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(general_midi, "PACKAGE", "packed_sounds")
    assert general_midi.load_soundfont(str(tmp_path / "data")).zones(7, 60)
    general_midi.load_soundfont.cache_clear()
    (package / general_midi.FILE).write_bytes(CONTENTS + b"\0")
    with pytest.raises(DatasetError, match="fetch them"):
        general_midi.load_soundfont(str(tmp_path / "data"))
