"""Streams of text: rows in order, exactly resumable, shared by processes, shuffled in a window."""

import contextlib
import itertools
import json
import re

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, pipeline
from perceiver_jax.data.text import ByteTokenizer, causal_batches, stream
from perceiver_jax.data.text.documents import Document
from perceiver_jax.data.text.tokenizers import TokenizerError

BYTES = ByteTokenizer()
ALONE = Shard()
NUM_FILES = 5


@pytest.fixture
def shards(tmp_path, make_config):
    """A function that makes a config of files with numbered documents."""

    def make(*, lines=30, split="train", **fields):
        for file in range(NUM_FILES):
            rows = [{"text": f"file {file} text {i} " + "." * (7 * i % 11)} for i in range(lines)]
            rows.insert(3, {"text": " "})
            text = "\n".join(map(json.dumps, rows))
            (tmp_path / f"{split}-{file}.jsonl").write_text(text)
        fields = {"stream": True, "shuffle_window": 1} | fields
        return make_config(f"files:{tmp_path}/*.jsonl", **fields)

    return make


def batches(config, *, seed=0, shard=ALONE):
    return causal_batches(config, training=True, seed=seed, shard=shard)


def take(dataset, count, state=None):
    """That many batches, and the states before each and after the last."""
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        if state is not None:
            iterator.set_state(state)
        found, states = [], [iterator.get_state()]
        for _ in range(count):
            found.append(next(iterator))
            states.append(json.loads(json.dumps(iterator.get_state())))
    return found, states


def tokens(batch):
    return [
        np.append(ids[mask], targets[-1])
        for ids, targets, mask in zip(
            batch["ids"], batch["targets"], batch["input_mask"], strict=True
        )
    ]


def joined(config, count, shard=ALONE):
    """Text of that many batches with '|' for separators."""
    found, _ = take(batches(config, shard=shard), count)
    ids = np.concatenate([row for batch in found for row in tokens(batch)])
    return "".join("|" if id == BYTES.sep_id else BYTES.decode([id]) for id in ids)


def expected(files=range(NUM_FILES), lines=30, keep=lambda number: True):
    """One epoch; the blank document takes number 3."""
    numbers = [n for n in range(lines + 1) if n != 3 and keep(n)]
    named = [(file, n - (n > 3)) for file in files for n in numbers]
    return "".join(f"file {file} text {i} " + "." * (7 * i % 11) + "|" for file, i in named)


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_rows_are_all_documents_in_order_joined_and_cut_and_epochs_follow_each_other(shards):
    config = shards()
    epoch = expected()
    count = 2 * len(epoch) // (17 * 4) + 1
    text = joined(config, count)
    assert len(text) == count * 4 * 17
    assert (3 * epoch).startswith(text)


def test_batches_are_those_of_causal_models(shards):
    for special in (False, True):
        (batch,), _ = take(batches(shards(add_special_tokens=special)), 1)
        assert batch["ids"].shape == batch["predicted"].shape == (4, 16)
        np.testing.assert_array_equal(batch["ids"][:, 1:], batch["targets"][:, :-1])
        assert batch["input_mask"].all()
        assert (batch["ids"][:, 0] == BYTES.cls_id).all() == special
        assert (batch["targets"][:, -1] == BYTES.sep_id).all() == special


@pytest.mark.parametrize("window", [1, 7, 64])
@pytest.mark.parametrize("least", [None, 5])
def test_a_stream_resumes_exactly_anywhere(shards, window, least):
    config = shards(lines=4, shuffle_window=window, random_min_seq_len=least, max_seq_len=30)
    dataset = batches(config)
    found, states = take(dataset, 40)
    for start in (0, 1, 2, 7, 16, 23, 36):
        resumed, later = take(dataset, 3, states[start])
        assert all(equal(a, b) for a, b in zip(resumed, found[start : start + 3], strict=True))
        assert later == states[start : start + 4]


def test_a_process_that_shares_files_resumes_exactly(shards):
    dataset = batches(shards(batch_size=6, lines=40), shard=Shard(4, 6))
    found, states = take(dataset, 30)
    for start in (1, 5, 22):
        resumed, later = take(dataset, 3, states[start])
        assert all(equal(a, b) for a, b in zip(resumed, found[start : start + 3], strict=True))
        assert later == states[start : start + 4]


def test_a_resumed_stream_reads_no_files_that_are_done(shards, monkeypatch):
    config = shards()
    _, states = take(batches(config), 70)
    dataset = batches(config)
    read = []
    documents = stream.open_documents(config, "train")
    part = type(documents).part
    monkeypatch.setattr(
        type(documents),
        "part",
        lambda self, i, start: read.append((i, start)) or part(self, i, start),
    )
    take(dataset, 1, states[-1])
    first, start = read[0] if read[0] != (0, 0) else read[1]
    assert first >= 2 and start > 0


def test_a_window_shuffles_what_is_in_it_and_nothing_else(shards):
    ordered, _ = take(batches(shards()), 16)
    shuffled, _ = take(batches(shards(shuffle_window=8)), 16)
    rows = [
        [tuple(row) for batch in found for row in tokens(batch)] for found in (ordered, shuffled)
    ]
    for start in range(0, 64, 8):
        window = slice(start, start + 8)
        assert sorted(rows[0][window]) == sorted(rows[1][window])
        assert rows[0][window] != rows[1][window]
    other, _ = take(batches(shards(shuffle_window=8), seed=1), 2)
    assert not equal(other[0], shuffled[0])


def test_rows_have_random_lengths_that_follow_each_other(shards):
    config = shards(random_min_seq_len=5)
    found, _ = take(batches(config), 40)
    assert {int(mask.sum()) for batch in found for mask in batch["input_mask"]} == set(range(5, 17))
    assert (2 * expected()).startswith(joined(config, 40))
    for batch in found:
        assert batch["input_mask"][:, -1].all()
        assert (batch["ids"][~batch["input_mask"]] == BYTES.pad_id).all()


def test_processes_read_files_of_their_own(shards):
    for index, files in ((0, (0, 2, 4)), (1, (1, 3))):
        epoch = expected(files)
        text = joined(shards(), len(epoch) // 34, Shard(index, 2))
        assert len(text) >= 0.9 * len(epoch) and (2 * epoch).startswith(text)


def test_where_there_are_fewer_files_than_processes_they_share_documents(shards):
    for index in range(6):
        epoch = expected(keep=lambda number, index=index: number % 6 == index)
        text = joined(shards(batch_size=6), 40, Shard(index, 6))
        assert (4 * epoch).startswith(text)


def test_documents_that_are_not_divided_are_read_all_the_same(make_config):
    config = make_config(stream=True, shuffle_window=1)
    assert re.fullmatch(r"The .*\.\|The .*", joined(config, 20))
    found, states = take(batches(config), 9)
    assert equal(take(batches(config), 1, states[8])[0][0], found[8])


def test_slices_of_files_are_read_all_the_same(make_config, tmp_path):
    (tmp_path / "a.txt").write_text("one two three\nfour five six\nseven\n")
    fields = {"document_per_line": True, "train_split": "all[40%:]", "shuffle_window": 1}
    config = make_config(f"files:{tmp_path}", stream=True, **fields)
    assert ("four five six|seven|" * 9).startswith(joined(config, 2))
    found, states = take(batches(config), 6)
    assert equal(take(batches(config), 1, states[5])[0][0], found[5])


def test_no_fingerprint_and_no_prepared_rows_are_made(shards, tmp_path, monkeypatch):
    config = shards()
    monkeypatch.setattr("perceiver_jax.data.text.readers.digest", None)
    take(batches(config), 1)
    assert not (tmp_path / "prepared").exists()


def test_evaluation_is_of_prepared_rows(shards):
    config = shards(eval_split="all")
    dataset = causal_batches(config, training=False, seed=0, shard=ALONE)
    assert dataset[0]["mask"].all()
    assert len(dataset) == -(-(len(expected()) // 17) // 4)


@pytest.mark.parametrize("texts", [[], [" ", "\n"]])
def test_a_stream_without_text_is_an_error(make_config, monkeypatch, listed, texts):
    monkeypatch.setattr(stream, "open_documents", lambda *_: listed(texts))
    with pytest.raises(DatasetError, match="split 'train' of 'x' has no text for process 0 of 1"):
        take(batches(make_config("x", stream=True)), 1)


def test_a_process_without_documents_is_an_error(make_config, monkeypatch, listed):
    monkeypatch.setattr(stream, "open_documents", lambda *_: listed(["only one"]))
    with pytest.raises(DatasetError, match="no text for process 1 of 2; .* fewer processes"):
        take(batches(make_config("x", stream=True), shard=Shard(1, 2)), 1)


def test_a_tokenizer_without_the_separator_is_an_error(make_config, monkeypatch):
    class Lacking(ByteTokenizer):
        sep_id = None

    monkeypatch.setattr(stream, "open_tokenizer", lambda _: Lacking())
    with pytest.raises(TokenizerError, match="no sep token, which separator='sep' of a stream"):
        batches(make_config(stream=True))


def test_documents_are_not_read_far_ahead(make_config, monkeypatch):
    read = []

    class Endless:
        def __iter__(self):
            for i in itertools.count():
                read.append(i)
                yield Document("x" * 100)

    monkeypatch.setattr(stream, "open_documents", lambda *_: Endless())
    take(batches(make_config(stream=True, shuffle_window=20, batch_size=1)), 2)
    assert len(read) < 300
