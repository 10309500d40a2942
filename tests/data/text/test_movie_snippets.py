"""Sentences of film reviews: labels, splits, and taking the one file out of its archive."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text import movie_snippets
from perceiver_jax.data.text.documents import open_documents

ROWS = [
    *((f"good film {i}", 2.5) for i in range(30)),
    *((f"bad film {i}", -0.5) for i in range(20)),
    *((f"a film {i}", 0.49 - i / 10) for i in range(10)),
    ("rock &amp; roll – ünd\u2028so", 0.5),
]
FILE = "".join(f"{i}\t{rating}\t{text}\r\n" for i, (text, rating) in enumerate(ROWS)).encode()


def open_split(data_dir, split, labels=True, rows=FILE):
    path = data_dir / "movie_snippets" / movie_snippets.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(rows)
    return movie_snippets.MovieSnippets(split, str(data_dir), labels=labels)


def texts(documents):
    return [document.text for document in documents]


def archive(members):
    """A gzipped tar file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, contents in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    return packed.getvalue()


@pytest.fixture
def toy_archive(monkeypatch):
    """An archive of the layout of the real one, with a member that wants out of its folder."""
    inner = archive({"../evil.txt": b"x", f"hutto_ICWSM_2014/{movie_snippets.FILE}": FILE})
    name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    made = archive({name: inner, "vaderSentiment-3.3.2/setup.py": b"raise SystemExit"})
    monkeypatch.setattr(movie_snippets, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    return made


def test_ratings_become_labels_and_those_between_are_left_out(tmp_path):
    train, test = (list(open_split(tmp_path, split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (41, 10)
    for text, label in ((document.text, document.label) for document in train + test):
        assert label == ("bad" not in text)
        assert not text.startswith("a film")
    assert train.__class__ is list and len(set(texts(train + test))) == 51


def test_the_logistic_function_of_the_rating_is_the_probability_of_positive(tmp_path):
    ratings = dict(ROWS)
    for document in open_split(tmp_path, "train"):
        rating = ratings.get(document.text, 0.5)
        assert sum(document.target) == pytest.approx(1.0)
        assert np.log(document.target[1] / document.target[0]) == pytest.approx(rating)
    assert all(document.target is None for document in open_split(tmp_path, "train", labels=False))


def test_without_labels_the_training_split_has_those_between_too(tmp_path):
    train = list(open_split(tmp_path, "train", labels=False))
    assert len(train) == 51
    assert {document.label for document in train} == {None}
    assert len(list(open_split(tmp_path, "test", labels=False))) == 10


def test_texts_are_utf8_without_entities_and_lines_end_at_line_feeds_alone(tmp_path):
    both = texts(open_split(tmp_path, "train")) + texts(open_split(tmp_path, "test"))
    assert "rock & roll – ünd\u2028so" in both


@pytest.mark.parametrize("labels", [True, False])
def test_no_double_of_a_held_out_text_is_trained_on(tmp_path, labels):
    held_out = texts(open_split(tmp_path, "test"))
    # As many rows as before, so that the split is the same, and doubles of all of them that are
    # not labelled.
    more = "".join(f"x\t0.1\t{text.upper()}  \r\n" for text in held_out).encode()
    assert texts(open_split(tmp_path, "test", rows=FILE + more)) == held_out
    train = texts(open_split(tmp_path, "train", labels, rows=FILE + more))
    assert not {text.casefold().strip() for text in train} & set(held_out)
    same = FILE.replace(b"good film 1\r", b"good film 2\r").replace(
        b"good film 3\r", b"good film 2\r"
    )
    train, test = (set(texts(open_split(tmp_path, x, labels, same))) for x in ("train", "test"))
    assert not train & test


def test_the_fingerprint_follows_the_file_and_the_split(tmp_path):
    first = open_split(tmp_path, "train").fingerprint
    assert open_split(tmp_path, "train").fingerprint == first
    others = [
        open_split(tmp_path, "test").fingerprint,
        open_split(tmp_path, "train", labels=False).fingerprint,
        open_split(tmp_path, "train", rows=FILE.replace(b"good", b"fine")).fingerprint,
    ]
    assert len({first, *others}) == 4


def test_a_missing_file_is_answered_with_the_command_that_fetches_it(make_config, tmp_path):
    with pytest.raises(DatasetError) as error:
        open_documents(make_config("movie_snippets"), "train")
    command = "python -m perceiver_jax.data.text.movie_snippets --data_dir="
    assert f"{command}{tmp_path / 'datasets'}" in str(error.value)


def test_files_lie_in_the_users_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DatasetError, match="fetch it") as error:
        movie_snippets.MovieSnippets("train", labels=True)
    assert str(tmp_path / "perceiver_jax" / "datasets" / "movie_snippets") in str(error.value)
    assert "--data_dir" not in str(error.value)


@pytest.mark.parametrize("rows", [b"1\t2.0\n", b"1\tgood\ttext\n", b"\xff\t1\tx\n"])
def test_another_file_is_an_error(tmp_path, rows):
    with pytest.raises(DatasetError, match="is not the file of 'movie_snippets'"):
        open_split(tmp_path, "train", rows=rows)


def test_the_command_takes_one_file_out_of_an_archive_and_nothing_else(
    toy_archive, tmp_path, capsys
):
    source = tmp_path / "archive.tar.gz"
    source.write_bytes(toy_archive)
    data_dir = tmp_path / "a" / "data"
    assert movie_snippets.main([f"--archive={source}", f"--data_dir={data_dir}"]) == 0
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != source]
    assert written == [data_dir / "movie_snippets" / movie_snippets.FILE]
    assert written[0].read_bytes() == FILE
    assert capsys.readouterr().out.strip() == str(written[0])


def test_an_archive_that_was_changed_is_refused(toy_archive, tmp_path, capsys):
    source = tmp_path / "archive.tar.gz"
    source.write_bytes(toy_archive + b"\0")
    assert movie_snippets.main([f"--archive={source}", f"--data_dir={tmp_path}"]) == 1
    assert "the archive has the SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "movie_snippets").exists()


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, None])
def test_an_archive_without_the_file_is_an_error(tmp_path, monkeypatch, kind):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        if kind is not None:
            info = tarfile.TarInfo(movie_snippets._MEMBERS[0])
            info.type = kind
            tar.addfile(info)
    made = packed.getvalue()
    monkeypatch.setattr(movie_snippets, "ARCHIVE_SHA256", hashlib.sha256(made).hexdigest())
    with pytest.raises(DatasetError, match="has no file .*hutto_ICWSM_2014.tar.gz; nothing was"):
        movie_snippets.prepare(made, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_not_there_is_an_error(tmp_path, capsys):
    assert movie_snippets.main([f"--archive={tmp_path / 'gone'}"]) == 1
    assert "gone cannot be read" in capsys.readouterr().err


@pytest.mark.network
def test_the_real_file_has_its_documented_sizes(tmp_path):
    assert movie_snippets.main([f"--data_dir={tmp_path}"]) == 0
    splits = [
        list(movie_snippets.MovieSnippets(split, str(tmp_path), labels=labels))
        for split, labels in (("train", True), ("test", True), ("train", False))
    ]
    assert [len(split) for split in splits] == [8056, 2014, 8589]
    labelled = splits[0] + splits[1]
    assert abs(sum(document.label for document in labelled) / len(labelled) - 0.496) < 0.001
    assert max(len(document.text.encode()) for document in labelled) <= 257
