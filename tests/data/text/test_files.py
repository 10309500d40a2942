"""Files of one's own: which are found, what is read of them, and what is said of bad ones."""

import gzip
import json
import os

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text import readers
from perceiver_jax.data.text.documents import open_documents
from perceiver_jax.data.text.file_splits import Split

LINES = ["first line", "", "third — ünïcode", "last"]


def put(folder, name, contents):
    """Writes text, records as JSON lines, or bytes, gzipped where the name says so."""
    if isinstance(contents, list):
        contents = "".join(json.dumps(record) + "\n" for record in contents)
    data = contents.encode() if isinstance(contents, str) else contents
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def put_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture
def documents(make_config):
    """A function that lists the (text, label) of files."""

    def read(path, split="all", labels=False, **fields):
        config = make_config(f"files:{path}", **fields)
        found = open_documents(config, split, labels=labels)
        return [(document.text, document.label) for document in found]

    return read


@pytest.fixture
def texts(documents):
    """A function that lists the texts of files."""
    return lambda *args, **fields: [text for text, _ in documents(*args, **fields)]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_text_file_is_a_document_or_has_one_per_line(tmp_path, texts, name):
    whole = "\n".join(LINES)
    path = put(tmp_path, name, "\ufeff" + whole.replace("\n", "\r\n") + "\r\n")
    assert texts(path) == [whole.replace("\n", "\r\n") + "\r\n"]
    assert texts(path, document_per_line=True) == LINES


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "c4-train.00000-of-01024.json.gz"])
def test_json_lines_have_their_text_in_a_field(tmp_path, texts, name):
    path = put(tmp_path, name, [{"text": text, "body": text.upper()} for text in LINES])
    assert texts(path) == LINES
    assert texts(path, text_field="body") == [text.upper() for text in LINES]
    put(tmp_path, "empty.jsonl", "\n\n" + json.dumps({"text": None}) + "\n")
    assert texts(tmp_path / "empty.jsonl") == [""]


def test_parquet_columns_hold_text_or_bytes(tmp_path, texts):
    path = put_parquet(
        tmp_path / "a.parquet",
        {"text": LINES, "raw": [text.encode() for text in LINES], "number": [1, 2, 3, 4]},
    )
    assert texts(path) == LINES
    assert texts(path, text_field="raw") == LINES
    with pytest.raises(DatasetError, match="record 1, field 'number', holds int; expected text"):
        texts(path, text_field="number")
    with pytest.raises(DatasetError, match="has no field 'body'; it has text, raw, number"):
        texts(path, text_field="body")


def test_splits_are_folders_and_beginnings_of_names(tmp_path, texts):
    for name in ("train.txt", "train-00000-of-2.txt", "sub/train/a.txt", "test_b.txt"):
        put(tmp_path, name, name)
    for name in ("training.txt", "other.txt", ".hidden/train.txt", "train/.x.txt", "train.md"):
        put(tmp_path, name, name)
    assert texts(tmp_path, "train") == ["sub/train/a.txt", "train-00000-of-2.txt", "train.txt"]
    assert texts(tmp_path, "test") == ["test_b.txt"]
    assert len(texts(tmp_path, "all")) == 6
    with pytest.raises(DatasetError, match="called 'dev'; there are other, sub, test, train, trai"):
        texts(tmp_path, "dev")


ARTICLES = [
    " \n = A Title = \n \n Text with = signs = in it . \n = not after an empty line = \n \n"
    " = = Section = = \n \n More text . \n \n",
    " = B = \n \n Its text . \n",
]


@pytest.mark.parametrize("kind", ["tokens", "raw"])
def test_wikitext_is_read_article_by_article(tmp_path, texts, documents, kind):
    for name in ("train", "valid", "test"):
        put(tmp_path, f"wiki.{name}.{kind}", "".join(ARTICLES) if name == "valid" else name)
    assert texts(tmp_path, "valid") == ARTICLES
    assert texts(tmp_path, "train") == ["train\n"] and texts(tmp_path, "test") == ["test\n"]
    assert texts(tmp_path, "valid[50%:]") == ARTICLES[1:]
    assert texts(tmp_path, "test", document_per_line=True) == ["test"]
    assert len(texts(tmp_path, "all")) == 4
    with pytest.raises(DatasetError, match="called 'dev'; there are test, train, valid, and all"):
        texts(tmp_path, "dev")


@pytest.mark.parametrize("name", ["other.train.raw", "wiki.train.tokens.bak", "wiki.dev.raw"])
def test_what_only_looks_like_wikitext_is_no_text_file(tmp_path, texts, name):
    put(tmp_path, name, "text")
    with pytest.raises(DatasetError, match="or are those of WikiText"):
        texts(tmp_path)


def test_parts_are_files_and_can_be_begun_in_the_middle(tmp_path, make_config):
    for name in ("a", "b"):
        put(tmp_path, f"{name}.jsonl", [{"text": f"{name}{i}"} for i in range(4)])
    found = open_documents(make_config(f"files:{tmp_path}"), "all")
    assert found.num_parts == 2
    assert [document.text for document in found.part(1, 2)] == ["b2", "b3"]
    assert not list(found.part(0, 4))
    sliced = open_documents(make_config(f"files:{tmp_path}"), "all[50%:]")
    assert sliced.num_parts == 1
    assert [document.text for document in sliced.part(0, 1)] == ["b1", "b2", "b3"]


def test_patterns_choose_files(tmp_path, texts):
    for name in ("a/train.txt", "a/b/train.txt", "c/train.txt", "a/x.bin"):
        put(tmp_path, name, name)
    assert texts(tmp_path / "*" / "train.txt") == ["a/train.txt", "c/train.txt"]
    assert texts(tmp_path / "a" / "**" / "*", "train") == ["a/b/train.txt", "a/train.txt"]
    assert texts(tmp_path / "[ac]" / "*.txt", "c") == ["c/train.txt"]


@pytest.mark.parametrize("path", ["gone", "gone.txt", "*.txt", "only.bin"])
def test_no_files_are_an_error(tmp_path, texts, path):
    put(tmp_path, "only.bin", "x")
    with pytest.raises(DatasetError, match=r"names no text file; .*\.txt, \.txt\.gz, \.jsonl"):
        texts(tmp_path / path)


@pytest.mark.parametrize("kind", ["lines", "jsonl", "parquet"])
def test_slices_divide_documents_without_overlap(tmp_path, texts, kind):
    many = [f"document {i}" for i in range(23)]
    fields = {}
    if kind == "lines":
        path, fields = put(tmp_path, "a.txt", "\n".join(many)), {"document_per_line": True}
    elif kind == "jsonl":
        path = put(tmp_path, "a.jsonl", [{"text": text} for text in many])
    else:
        path = put_parquet(tmp_path / "a.parquet", {"text": many})
    parts = [texts(path, f"all[{part}]", **fields) for part in (":50%", "50%:90%", "90%:")]
    assert [len(part) for part in parts] == [11, 9, 3]
    assert sum(parts, []) == many
    assert texts(path, "a[50%:]", **fields) == many[11:]


def test_a_slice_of_a_single_text_is_a_part_of_it(tmp_path, texts):
    path = put(tmp_path, "book.txt", "é" * 50 + "b" * 50)
    assert texts(path, "all[:60%]") == ["é" * 50 + "b" * 10]
    assert texts(path, "book[60%:]") == ["b" * 40]


@pytest.mark.parametrize(
    "split", ["all[:110%]", "all[50%:50%]", "all[60%:10%]", "all[:5]", "", "a b"]
)
def test_what_is_no_split_is_an_error(split):
    with pytest.raises(DatasetError, match="is no split of files; expected a name"):
        Split.parse(split)


def test_labels_are_integers_or_sorted_texts_over_all_splits(tmp_path, documents, make_config):
    put(tmp_path, "train.jsonl", [{"text": x, "label": x, "n": i} for i, x in enumerate("cab")])
    put(tmp_path, "test.jsonl", [{"text": "d", "label": "d", "n": 5}, {"text": "x", "n": -1}])
    assert documents(tmp_path, "train", True) == [("c", 2), ("a", 0), ("b", 1)]
    assert documents(tmp_path, "test", True) == [("d", 3)]
    assert documents(tmp_path, "test", False) == [("d", None), ("x", None)]
    assert documents(tmp_path, "train", True, label_field="n") == [("c", 0), ("a", 1), ("b", 2)]
    assert documents(tmp_path, "test", True, label_field="n") == [("d", 5)]
    config = make_config(f"files:{tmp_path}")
    assert open_documents(config, "test", labels=True).class_names == ("a", "b", "c", "d")
    config = make_config(f"files:{tmp_path}", label_field="n")
    assert open_documents(config, "test", labels=True).class_names == tuple("012345")


def test_labels_of_parquet_files_are_read(tmp_path, documents):
    columns = {"text": ["x", "y", "z"], "label": ["no", "yes", None]}
    path = put_parquet(tmp_path / "a.parquet", columns)
    assert documents(path, labels=True) == [("x", 0), ("y", 1)]
    assert documents(path) == [("x", None), ("y", None), ("z", None)]


def test_texts_that_are_numbers_are_sorted_by_their_value(tmp_path, make_config):
    texts = ["10", "2", "b", "-1", "2.5", "", "a"]
    path = put(tmp_path, "a.jsonl", [{"text": "x", "label": label} for label in texts])
    documents = open_documents(make_config(f"files:{path}"), "all", labels=True)
    assert documents.class_names == ("-1", "2", "2.5", "10", "", "a", "b")
    assert [document.label for document in documents] == [3, 1, 6, 0, 2, 4, 5]


def test_whole_numbers_that_are_floats_are_labels(tmp_path, documents):
    columns = {"text": ["x", "y", "z", "w"], "label": [1.0, 0.0, None, -1.0]}
    path = put_parquet(tmp_path / "a.parquet", columns)
    found = documents(path, labels=True)
    assert found == [("x", 1), ("y", 0)]
    assert all(type(label) is int for _, label in found)


@pytest.mark.parametrize("labels", [[0, "a"], [10**9], [True, "x"]])
def test_labels_that_are_no_classes_are_an_error(tmp_path, documents, labels):
    path = put(tmp_path, "a.jsonl", [{"text": "x", "label": label} for label in labels])
    with pytest.raises(DatasetError, match="must be all texts, or all integers from 0 to 65535"):
        documents(path, labels=True)


@pytest.mark.parametrize("label", [0.5, float("nan"), float("inf"), ["a"], {"a": 1}])
def test_labels_of_other_types_are_an_error(tmp_path, documents, label):
    path = put(tmp_path, "a.jsonl", [{"text": "x", "label": label}])
    with pytest.raises(DatasetError, match="field 'label' holds .*; labels must be integers"):
        documents(path, labels=True)


def test_files_without_labels_are_refused_where_labels_are_needed(tmp_path, documents):
    put(tmp_path, "a.jsonl", [{"text": "x", "kind": 1}])
    put(tmp_path, "b.txt", "x")
    with pytest.raises(DatasetError, match=r"has no labels.*label_field \(it is 'label'\)"):
        documents(tmp_path, labels=True)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_bytes_that_are_not_utf8_are_named_with_their_place_or_replaced(tmp_path, texts, name):
    contents = b'{"text": "ok"}\n{"text": "caf\xe9"}\n'
    path = put(tmp_path, name, contents)
    for per_line in (False, True):
        with pytest.raises(DatasetError, match=rf"{name}, at byte 28: 0xe9 is not UTF-8"):
            texts(path, document_per_line=per_line)
        assert "caf\ufffd" in texts(path, document_per_line=per_line, encoding_errors="replace")[-1]


def test_bytes_in_parquet_that_are_not_utf8_are_named_with_their_record(tmp_path, texts):
    path = put_parquet(tmp_path / "a.parquet", {"text": [b"ok", b"caf\xe9"]})
    with pytest.raises(DatasetError, match="a.parquet, record 2, field 'text',: 0xe9 is not UTF-8"):
        texts(path)
    assert texts(path, encoding_errors="replace") == ["ok", "caf\ufffd"]


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_text_in_parquet_that_is_not_utf8_is_named_with_its_record(
    tmp_path, documents, texts, kind
):
    pyarrow = pytest.importorskip("pyarrow")
    # More than are read at once.
    raw = [b"ok"] * 1500 + [b"caf\xe9", None]
    column = pyarrow.array(raw, pyarrow.binary()).view(pyarrow.string())
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
    path = put_parquet(tmp_path / "a.parquet", {"text": column, "label": ["b", "a"] * 751})
    with pytest.raises(DatasetError, match="a.parquet, record 1501, field 'text',: 0xe9 is not UT"):
        texts(path)
    found = documents(path, labels=True, encoding_errors="replace")
    assert found[-3:] == [("ok", 0), ("caf\ufffd", 1), ("", 0)]
    assert len(found) == 1502


def test_texts_in_lists_that_are_not_utf8_are_an_error(tmp_path, texts):
    pyarrow = pytest.importorskip("pyarrow")
    column = pyarrow.ListArray.from_arrays([0, 1], pyarrow.array([b"\xe9"]).view(pyarrow.string()))
    path = put_parquet(tmp_path / "a.parquet", {"text": column})
    with pytest.raises(DatasetError, match="field 'text', hold text that is not UTF-8 inside of l"):
        texts(path, encoding_errors="replace")


def test_what_pyarrow_does_not_know_is_an_error(tmp_path, texts, monkeypatch):
    path = put_parquet(tmp_path / "a.parquet", {"text": ["a"]})
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def unknown(*_, **__):
        raise pyarrow.lib.ArrowNotImplementedError("no such encoding")

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", unknown)
    with pytest.raises(DatasetError, match="a.parquet cannot be read: no such encoding"):
        texts(path)
    monkeypatch.setattr(parquet.ParquetFile, "__init__", unknown)
    with pytest.raises(DatasetError, match="a.parquet cannot be read as parquet: no such encoding"):
        texts(path)


def test_halves_of_characters_in_json_are_named_or_replaced(tmp_path, texts):
    path = put(tmp_path, "a.jsonl", '{"text": "a\\ud83dz \\ud83d\\ude00"}\n')
    with pytest.raises(DatasetError, match=r"record 1, .* has '\\ud83d', half of a character"):
        texts(path)
    assert texts(path, encoding_errors="replace") == ["a\ufffdz 😀"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2, is not valid JSON .*; correct it"),
        ('\n["text"]\n', r'line 2, is not a JSON object; write each record as {"text": '),
        ("[" * 100_000, "line 1, is not valid JSON"),
        ('{"body": "a", "id": 3}\n', "record 1, has no field 'text'; it has body, id"),
        ('{"text": ["a"]}\n', "record 1, field 'text', holds list; expected text"),
    ],
)
def test_bad_json_lines_are_named_with_their_number(tmp_path, texts, contents, message):
    path = put(tmp_path, "a.jsonl", contents)
    with pytest.raises(DatasetError, match=f"a.jsonl, {message}"):
        texts(path)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"plain text"])
def test_a_damaged_archive_is_an_error(tmp_path, texts, damage):
    path = put(tmp_path, "a.txt.gz", "some text " * 100)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match="a.txt.gz cannot be read"):
        texts(path)


def test_a_damaged_parquet_file_is_an_error(tmp_path, texts):
    pytest.importorskip("pyarrow")
    path = put(tmp_path, "a.parquet", "PAR1 and nothing more")
    with pytest.raises(DatasetError, match="a.parquet cannot be read as parquet"):
        texts(path)


def test_large_text_files_are_read_line_by_line(tmp_path):
    path = put(tmp_path, "a.txt", "x\n" * 1000)
    lines = readers.lines(path, "strict")
    assert [next(lines), next(lines)] == ["x", "x"]
    lines.close()


@pytest.mark.parametrize(
    "text", ["", "\n", "a", "a\n", "\ufeffa\r\n\r\nb\n\n", "a\x0cb\u2028c\x85d\x1ce\rf\nb\ufeff"]
)
def test_lines_of_a_text_are_those_of_its_file(tmp_path, text):
    path = put(tmp_path, "a.txt", text)
    assert readers.text_lines(text) == list(readers.lines(path, "strict"))


def test_lines_of_a_text_end_at_line_feeds_alone():
    text = "\ufeffa\x0cb\u2028c\r\n\nd"
    assert readers.text_lines(text) == ["a\x0cb\u2028c", "", "d"]


def test_the_fingerprint_of_labelled_documents_follows_the_files_of_all_classes(
    tmp_path, make_config
):
    put(tmp_path, "train.jsonl", [{"text": "a", "label": "m"}])
    config = make_config(f"files:{tmp_path}")
    found = []
    for label in ("m", "before m"):
        put(tmp_path, "test.jsonl", [{"text": "b", "label": label}])
        found.append([open_documents(config, "train", labels=x).fingerprint for x in (True, False)])
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]


def test_the_fingerprint_follows_files_split_and_fields(tmp_path, make_config):
    put(tmp_path, "train.jsonl", [{"text": "a", "label": 0}])
    config = make_config(f"files:{tmp_path}")

    def fingerprint(split="all", labels=False, **fields):
        return open_documents(
            make_config(f"files:{tmp_path}", **fields), split, labels=labels
        ).fingerprint

    first = open_documents(config, "all").fingerprint
    assert fingerprint() == first
    seen = {
        first,
        fingerprint("all[:50%]"),
        fingerprint(labels=True),
        fingerprint(text_field="label"),
        fingerprint(encoding_errors="replace"),
        fingerprint(document_per_line=True),
    }
    put(tmp_path, "train-2.jsonl", [])
    seen.add(fingerprint())
    assert len(seen) == 7


def test_the_fingerprint_follows_contents_where_names_sizes_and_times_are_equal(
    tmp_path, make_config
):
    def fingerprint(folder, contents, time=1):
        os.utime(put(tmp_path / folder, "train.txt", contents), ns=(time, time))
        return open_documents(make_config(f"files:{tmp_path / folder}"), "train").fingerprint

    first = fingerprint("a", "one")
    assert fingerprint("b", "two") != first
    assert fingerprint("c", "one", time=2) == first
