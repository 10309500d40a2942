"""Causal text batches: what comes next, in rows that end at the same place."""

import contextlib

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, pipeline
from perceiver_jax.data.text import ByteTokenizer, batches, causal_batches, open_rows
from perceiver_jax.data.text.tokenizers import TokenizerError

BYTES = ByteTokenizer()
ALONE = Shard()


def causal(config, *, training=True, seed=0, shard=ALONE):
    return causal_batches(config, training=training, seed=seed, shard=shard)


def whole(batch):
    """Tokens of each row: those that are read, and the last, which is only predicted."""
    return [
        np.append(ids[mask], targets[-1])
        for ids, targets, mask in zip(
            batch["ids"], batch["targets"], batch["input_mask"], strict=True
        )
    ]


def texts(batch):
    return [BYTES.decode(row) for row in whole(batch)]


@pytest.fixture
def lines(tmp_path, make_config):
    """A function that makes a config of documents, one per line of text."""

    def make(found, **fields):
        for split in ("train", "test"):
            (tmp_path / f"{split}.txt").write_text("\n".join(found))
        fields = {"document_per_line": True, "layout": "documents"} | fields
        return make_config(f"files:{tmp_path}", **fields)

    return make


def test_too_few_documents_are_an_error_that_tells_how_to_cut_them(lines):
    with pytest.raises(DatasetError, match="gives 3 of the 4 rows .*layout=chunks"):
        causal(lines(["one", "two", "three", "x"]))


@pytest.mark.parametrize("layout", ["chunks", "packed", "documents"])
@pytest.mark.parametrize("special", [False, True])
def test_targets_are_the_tokens_that_follow(make_config, layout, special):
    config = make_config(layout=layout, add_special_tokens=special)
    for training in (True, False):
        batch = causal(config, training=training)[0]
        names = {"ids": np.int32, "targets": np.int32, "predicted": bool, "input_mask": bool}
        assert batch.keys() == names.keys() | (set() if training else {"mask"})
        for name, dtype in names.items():
            assert batch[name].shape == (4, 16) and batch[name].dtype == dtype
        inner = batch["input_mask"][:, :-1]
        np.testing.assert_array_equal(batch["ids"][:, 1:][inner], batch["targets"][:, :-1][inner])
        np.testing.assert_array_equal(batch["predicted"], batch["input_mask"])
        assert batch["input_mask"][:, -1].all()
        if special:
            assert all(row[0] == BYTES.cls_id and row[-1] == BYTES.sep_id for row in whole(batch))


def test_chunks_have_a_token_more_than_is_read_and_go_on_where_the_last_one_ended(lines):
    found = ["The first document.", "A second, longer document.", "End"]
    config = lines(found, layout="chunks", max_seq_len=9)
    dataset = causal(config, training=False)
    rows = [
        row for i in range(len(dataset)) for row in np.array(whole(dataset[i]))[dataset[i]["mask"]]
    ]
    joined = [id for text in found for id in [*BYTES.encode(text), BYTES.sep_id]]
    assert len(rows) == 5
    assert np.concatenate(rows).tolist() == joined[:50]


def test_short_rows_are_filled_up_on_the_left(lines):
    batch = causal(lines(["abc", "a long document that is cut"]), training=False)[0]
    assert texts(batch)[:2] == ["abc", "a long document t"]
    assert batch["input_mask"].sum(-1).tolist()[:2] == [2, 16]
    for name in ("ids", "targets"):
        assert (batch[name][~batch["input_mask"]] == BYTES.pad_id).all()
    assert not batch["predicted"][0, :14].any()
    assert batch["mask"].tolist() == [True, True, False, False]


def test_rows_of_a_single_token_are_left_out(lines):
    found = ["a", "bc", "d", "ef", "gh", "ij"]
    dataset = causal(lines(found), training=False)
    assert len(dataset) == 1 and texts(dataset[0]) == ["bc", "ef", "gh", "ij"]
    config = lines(found)
    assert {text for i in range(9) for text in texts(causal(config)[i])} == {"bc", "ef", "gh", "ij"}
    wrapped = causal(lines(found, add_special_tokens=True), training=False)
    assert texts(wrapped[0])[0] == "a"
    with pytest.raises(DatasetError, match="no row of split 'test' .* has two tokens"):
        causal(lines(["a", "b"], max_seq_len=15), training=False)


def test_a_shifted_row_goes_on_in_the_next(lines):
    text = "".join(chr(0x30 + i % 70) for i in range(510))
    config = lines([text], layout="chunks", separator="none", random_shift=True)
    dataset, starts = causal(config), set()
    for i in range(200):
        for row in texts(dataset[i]):
            assert len(row) == 17
            starts.add(text.index(row))
    assert starts == set(range(70))


@pytest.mark.parametrize("special", [False, True])
def test_rows_are_cut_at_a_random_length(lines, special):
    alphabet = "abcdefghijklmnopq"
    config = lines(
        [alphabet, "xyz"], random_min_seq_len=5, batch_size=2, add_special_tokens=special
    )
    dataset, lengths, short = causal(config), set(), set()
    for i in range(80):
        batch = dataset[i]
        for text, mask in zip(texts(batch), batch["input_mask"], strict=True):
            (short if text.startswith("x") else lengths).add(int(mask.sum()))
            assert alphabet.startswith(text) or text == "xyz"
    assert lengths == set(range(5, 17))
    assert short == ({4} if special else {2})


RANDOM = {"random_shift": True, "random_min_seq_len": 5}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_seed_and_position_decide_everything_and_an_iterator_resumes(make_config):
    dataset = causal(make_config(**RANDOM))
    assert equal(dataset[3], causal(make_config(**RANDOM))[3])
    assert not equal(dataset[0], causal(make_config(**RANDOM), seed=1)[0])
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        next(iterator)
        position = iterator.get_state()
        expected = next(iterator)
    with contextlib.closing(pipeline.iterate(dataset)) as resumed:
        resumed.set_state(position)
        assert equal(next(resumed), expected)


def test_processes_share_a_batch(make_config):
    together = np.concatenate([causal(make_config(), shard=Shard(i, 2))[2]["ids"] for i in (0, 1)])
    alone = causal(make_config())[2]["ids"]
    assert sorted(map(tuple, together)) == sorted(map(tuple, alone))


def test_evaluation_takes_each_row_once_as_it_is(make_config):
    config = make_config(eval_batch_size=7, **RANDOM)
    dataset, rows = causal(config, training=False), open_rows(config, "test", row_length=17)
    seen = [
        row for i in range(len(dataset)) for row in np.array(whole(dataset[i]))[dataset[i]["mask"]]
    ]
    np.testing.assert_array_equal(seen, [rows.row(i)[0] for i in range(len(rows))])


def test_soft_labels_are_refused(make_config):
    with pytest.raises(DatasetError, match="causal language modelling reads no labels"):
        causal(make_config(soft_labels=True))


def test_a_tokenizer_without_padding_is_an_error_and_one_without_a_mask_is_not(
    make_config, monkeypatch
):
    class Lacking(ByteTokenizer):
        mask_id = None

    monkeypatch.setattr("perceiver_jax.data.text.causal.open_tokenizer", lambda _: Lacking())
    assert causal(make_config())[0]["ids"].any()
    Lacking.pad_id = None
    with pytest.raises(TokenizerError, match="no pad token, which batching"):
        causal(make_config())
    monkeypatch.setattr(batches, "open_tokenizer", lambda _: Lacking())
    with pytest.raises(TokenizerError, match="no pad token"):
        causal(make_config(max_seq_len=23))
