"""Rows on disk: what is read back, when they are made again, and what a broken attempt leaves."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text import ByteTokenizer, prepared
from perceiver_jax.data.text.layouts import TokenKind
from perceiver_jax.data.text.prepared import Plan, PreparedRows

PLAN = Plan(layout="documents", length=8, separator_id=None, labels=False)
TEXTS = ["one two", "three four five", "six"]
BYTES = ByteTokenizer()


@pytest.fixture
def prepare(tmp_path, listed):
    """A function that prepares texts, and returns the folder."""

    def run(documents=None, tokenizer=BYTES, plan=PLAN, **fields):
        plan = dataclasses.replace(plan, **fields)
        documents = documents or listed(TEXTS)
        return prepared.prepare(documents, tokenizer, plan, into=tmp_path / "rows", what="texts")

    return run


def texts(folder):
    rows = PreparedRows(folder)
    return [BYTES.decode(rows.row(i)[0]) for i in range(len(rows))]


def test_rows_are_read_back(prepare):
    rows = PreparedRows(prepare())
    ids, kinds = rows.row(1)
    assert ids.dtype == np.uint16 and kinds.dtype == np.uint8
    assert BYTES.decode(ids) == "three fo"
    assert np.flatnonzero(kinds == TokenKind.STARTS_WORD).tolist() == [0, 5]
    assert [BYTES.decode(rows.row(i)[0]) for i in range(3)] == ["one two", "three fo", "six"]
    assert len(rows.labels) == 0 and rows.class_names == ()
    assert rows.ids.base is not None, "rows are mapped, not loaded"


def test_tokens_behind_a_row_come_along_as_far_as_there_are_any(prepare):
    rows = PreparedRows(prepare(layout="chunks"))
    assert BYTES.decode(rows.row(0, beyond=3)[0]) == "one twothre"
    last = len(rows) - 1
    assert BYTES.decode(rows.row(last, beyond=99)[0]) == "r fivesix"
    assert len(rows.row(last)[0]) == 8


def test_large_vocabularies_have_wider_ids(prepare):
    class Wide(ByteTokenizer):
        vocab_size = 2**16 + 1
        fingerprint = "wide"

        def encode_words(self, texts):
            return [x._replace(ids=x.ids + 2**16 - 262) for x in super().encode_words(texts)]

    rows = PreparedRows(prepare(tokenizer=Wide()))
    assert rows.ids.dtype == np.int32
    assert BYTES.decode(rows.row(0)[0] - (2**16 - 262)) == "one two"


def test_labels_and_classes_are_read_back_where_there_are_any(prepare, listed):
    documents = listed(TEXTS, (2, 0, 1), ("a", "b", "c"))
    rows = PreparedRows(prepare(documents, labels=True))
    assert rows.labels.tolist() == [2, 0, 1]
    assert rows.class_names == ("a", "b", "c")
    assert rows.targets.shape == (0, 3)
    without = PreparedRows(prepare(listed(TEXTS, (), ("a", "b"))))
    assert without.class_names == ()


def test_probabilities_of_classes_are_read_back_where_there_are_any(prepare, listed):
    targets = ((0.25, 0.75), (1.0, 0.0), (0.5, 0.5))
    documents = listed(TEXTS, (1, 0, 0), ("a", "b"), targets=targets)
    rows = PreparedRows(prepare(documents, labels=True))
    assert rows.targets.dtype == np.float32
    np.testing.assert_array_equal(rows.targets, np.float32(targets))


def test_empty_documents_are_left_out_and_counted(prepare, listed, capsys):
    assert texts(prepare(listed(["", "one", " \n", "two"]))) == ["one", "two"]
    assert "left out 2 empty documents of texts" in capsys.readouterr().err


def test_special_tokens_that_a_text_becomes_are_no_part_of_words(prepare, listed):
    class Spelled(ByteTokenizer):
        fingerprint = "spelled"
        special_ids = frozenset({*range(6), *ByteTokenizer().encode("#").tolist()})

    _, kinds = PreparedRows(prepare(listed(["a#b #c"]), tokenizer=Spelled())).row(0)
    assert kinds.tolist() == [1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("empty", [[], ["", " "]])
@pytest.mark.parametrize("layout", ["chunks", "packed", "documents"])
def test_no_text_is_an_error_and_leaves_nothing(prepare, listed, tmp_path, empty, layout):
    with pytest.raises(DatasetError, match="texts has no text; choose another split"):
        prepare(listed(empty), layout=layout)
    assert list((tmp_path / "rows").iterdir()) == []


def test_what_is_prepared_is_not_prepared_again(prepare, capsys, listed):
    class Once(listed):
        def __iter__(self):
            raise AssertionError("documents are read again")

    folder = prepare()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "texts" in said[0] and str(folder) in said[0]
    assert prepare(Once(TEXTS)) == folder
    assert capsys.readouterr().err == ""


def test_whatever_shapes_rows_gives_them_a_folder_of_their_own(prepare, listed, monkeypatch):
    class Other(ByteTokenizer):
        fingerprint = "other"

    folders = {
        prepare(),
        prepare(dataclasses.replace(listed(TEXTS), fingerprint="changed")),
        prepare(tokenizer=Other()),
        prepare(layout="packed"),
        prepare(length=9),
        prepare(separator_id=5),
        prepare(listed(TEXTS, (0, 0, 0), ("a",)), labels=True),
    }
    monkeypatch.setattr(prepared, "FORMAT_VERSION", -1)
    folders.add(prepare())
    assert len(folders) == 8


def test_a_broken_attempt_leaves_nothing_and_the_next_succeeds(prepare, listed, tmp_path):
    class Broken(listed):
        def __iter__(self):
            yield from super().__iter__()
            raise DatasetError("the third file is damaged")

    with pytest.raises(DatasetError, match="third file"):
        prepare(Broken(TEXTS))
    assert list((tmp_path / "rows").iterdir()) == []
    assert texts(prepare()) == ["one two", "three fo", "six"]


def test_a_process_that_was_killed_leaves_nothing_that_looks_whole(
    prepare, listed, tmp_path, run_python
):
    code = f"""
        import os, pathlib
        rows = pathlib.Path({str(tmp_path / "rows")!r})
        from perceiver_jax.data.text import ByteTokenizer, prepared
        from perceiver_jax.data.text.documents import Document

        class Killed:
            fingerprint, class_names = "listed", ()
            def __iter__(self):
                yield Document("one")
                os._exit(0)

        plan = prepared.Plan("documents", 8, None, False)
        prepared.prepare(Killed(), ByteTokenizer(), plan, into=rows, what="")
    """
    run_python(code)
    left = list((tmp_path / "rows").iterdir())
    assert len(left) == 1 and left[0].name.startswith(".")
    folder = prepare()
    assert folder not in left
    assert texts(folder) == ["one two", "three fo", "six"]


def test_what_a_killed_process_left_of_the_same_rows_is_removed_a_day_later(prepare, tmp_path):
    key = prepare().name
    rows = tmp_path / "rows"
    (rows / key / "about.json").unlink()
    (rows / key).rename(rows / f".{key}-old")
    names = [f".{key}-recent", f".{key}-growing", f".{'0' * len(key)}-other"]
    for name in [*names, f".{key}-old"]:
        folder = rows / name
        folder.mkdir(exist_ok=True)
        (folder / "ids").touch()
        age = 0 if name.endswith("recent") else 25 * 3600
        for path in [*folder.iterdir(), folder]:
            then = path.stat().st_mtime - age
            os.utime(path, (then, then))
    os.utime(rows / names[1] / "ids")
    assert prepare().name == key
    assert {path.name for path in rows.iterdir()} == {key, *names}


def test_of_two_that_prepare_at_once_one_is_kept(prepare, listed, tmp_path):
    class Slow(listed):
        def __iter__(self):
            yield from super().__iter__()
            self.other = prepare()  # another process is faster

    slow = Slow(TEXTS)
    folder = prepare(slow)
    assert slow.other == folder
    assert list((tmp_path / "rows").iterdir()) == [folder]
    assert texts(folder) == ["one two", "three fo", "six"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, listed):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written to .*--config.data.cache_dir"):
        prepared.prepare(listed(TEXTS), BYTES, PLAN, into=tmp_path / "file", what="texts")


@pytest.mark.parametrize("name", ["ids", "kinds", "offsets"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_a_file_of_another_length_is_an_error(prepare, name, damage):
    folder = prepare()
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match="damaged .*delete that folder"):
        PreparedRows(folder)


@pytest.mark.parametrize("about", ["{", "{}", "[]", json.dumps({"class_names": []})])
def test_a_description_that_was_changed_is_an_error(prepare, about):
    folder = prepare()
    (folder / "about.json").write_text(about)
    with pytest.raises(DatasetError, match="damaged"):
        PreparedRows(folder)


def test_documents_are_read_in_parts_of_bounded_size(prepare, listed, monkeypatch):
    sizes = []

    class Counting(ByteTokenizer):
        def encode_words(self, texts):
            sizes.append([len(text) for text in texts])
            return super().encode_words(texts)

    monkeypatch.setattr(prepared, "_MAX_DOCUMENTS", 3)
    monkeypatch.setattr(prepared, "_MAX_CHARACTERS", 10)
    prepare(listed(["a"] * 7 + ["b" * 50, "c" * 9, "d"]), tokenizer=Counting())
    assert sizes == [[1, 1, 1], [1, 1, 1], [1, 50], [9, 1]]


def test_rows_are_kept_in_the_users_cache_by_default(monkeypatch, tmp_path, make_config):
    from perceiver_jax.data.text import open_rows

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(open_rows(make_config(cache_dir=None, max_seq_len=17), "test"))
    (folder,) = (tmp_path / "cache" / "perceiver_jax" / "prepared").iterdir()
    assert (folder / "about.json").is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setattr(pathlib.Path, "home", lambda: tmp_path / "home")
    assert len(open_rows(make_config(cache_dir=None, max_seq_len=18), "test"))
    assert (tmp_path / "home" / ".cache" / "perceiver_jax" / "prepared").is_dir()
