"""The file enwik8: its splits are of its bytes, and nothing of it is lost."""

import zipfile

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text import ByteTokenizer, open_rows
from perceiver_jax.data.text.documents import open_documents

SPLITS = ("train", "validation", "test")


@pytest.fixture
def text_of(tmp_path, make_config):
    """A function that writes the file and reads a split of it."""

    def read(contents, split, **fields):
        (tmp_path / "enwik8").write_bytes(contents)
        config = make_config(f"enwik8:{tmp_path}/enwik8", **fields)
        (document,) = open_documents(config, split)
        return document.text

    return read


def test_splits_are_90_5_and_5_percent_of_the_bytes(text_of):
    contents = bytes(range(32, 82)) * 4
    parts = [text_of(contents, split).encode() for split in SPLITS]
    assert [len(part) for part in parts] == [180, 10, 10]
    assert b"".join(parts) == contents


@pytest.mark.parametrize("shift", range(4))
def test_no_character_is_cut(text_of, shift):
    contents = "x" * shift + "😀" * 100
    parts = [text_of(contents.encode(), split) for split in SPLITS]
    assert "".join(parts) == contents
    assert 356 <= len(parts[0].encode()) <= 368


def test_rows_without_separators_are_the_bytes_of_the_file(tmp_path, make_config):
    contents = bytes(range(32, 82)) * 8
    (tmp_path / "enwik8").write_bytes(contents)
    config = make_config(f"enwik8:{tmp_path}/enwik8", separator="none")
    rows = open_rows(config, "train")
    assert ByteTokenizer().decode(rows.ids).encode() == contents[:360]


def test_bytes_that_are_not_utf8_are_an_error_or_replaced(text_of):
    contents = b"a" * 195 + b"\xe9aaaa"
    with pytest.raises(DatasetError, match="enwik8, at byte 195: 0xe9 is not UTF-8"):
        text_of(contents, "test")
    assert text_of(contents, "test", encoding_errors="replace") == "a" * 5 + "\ufffd" + "a" * 4


def test_the_fingerprint_follows_contents_and_split(tmp_path, make_config):
    found = set()
    for contents in (b"a" * 100, b"b" * 100):
        (tmp_path / "enwik8").write_bytes(contents)
        config = make_config(f"enwik8:{tmp_path}/enwik8")
        found |= {open_documents(config, split).fingerprint for split in SPLITS}
    assert len(found) == 6


def test_no_file_an_archive_and_another_split_are_errors(tmp_path, make_config):
    with pytest.raises(DatasetError, match="gone' cannot be read: .*; name the unpacked file"):
        open_documents(make_config(f"enwik8:{tmp_path}/gone"), "train")
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
        archive.writestr("enwik8", "text")
    config = make_config(f"enwik8:{tmp_path}/enwik8.zip")
    with pytest.raises(DatasetError, match="enwik8.zip is an archive; unpack it"):
        open_documents(config, "train")
    with pytest.raises(DatasetError, match="called 'dev'; there are train, validation, test"):
        open_documents(config, "dev")
