"""Text batches: shapes, padding, what is masked, and that seed and position decide everything."""

import contextlib
import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, Shard, pipeline
from perceiver_jax.data.text import (
    ByteTokenizer,
    batches,
    class_names,
    classification_batches,
    masked_batches,
    open_rows,
    open_tokenizer,
)
from perceiver_jax.data.text.tokenizers import TokenizerError
from perceiver_jax.errors import UserError

BYTES = ByteTokenizer()
ALONE = Shard()


def masked(config, *, training=True, seed=0, shard=ALONE):
    return masked_batches(config, training=training, seed=seed, shard=shard)


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def decoded(batch, name="targets"):
    return [
        BYTES.decode(row[mask]) for row, mask in zip(batch[name], batch["input_mask"], strict=True)
    ]


@pytest.fixture
def lines(tmp_path, make_config):
    """A function that makes a config of documents, one per line of text."""

    def make(texts, **fields):
        (tmp_path / "train.txt").write_text("\n".join(texts))
        (tmp_path / "test.txt").write_text("\n".join(texts))
        fields = {"document_per_line": True, "layout": "documents"} | fields
        return make_config(f"files:{tmp_path}", **fields)

    return make


@pytest.mark.parametrize("layout", ["chunks", "packed", "documents"])
def test_masked_batches_have_their_documented_arrays(make_config, layout):
    config = make_config(layout=layout, add_special_tokens=True)
    for training in (True, False):
        batch = masked(config, training=training)[0]
        names = {"ids": np.int32, "targets": np.int32, "predicted": bool, "input_mask": bool}
        assert batch.keys() == names.keys() | (set() if training else {"mask"})
        for name, dtype in names.items():
            assert batch[name].shape == (4, 16) and batch[name].dtype == dtype
        assert not (batch["predicted"] & ~batch["input_mask"]).any()
        assert batch["predicted"].any(-1).all()
        np.testing.assert_array_equal(batch["ids"] == batch["targets"], ~changed(batch))


def changed(batch):
    """Where ids and targets differ: among the predicted positions alone."""
    different = batch["ids"] != batch["targets"]
    assert not (different & ~batch["predicted"]).any()
    return different


def test_rows_are_padded_behind_their_tokens(lines):
    config = lines(["ab", "a long document that is cut"])
    batch = masked(config, training=False)[0]
    assert decoded(batch)[:2] == ["ab", "a long document "]
    assert batch["input_mask"].sum(-1).tolist()[:2] == [2, 16]
    for name in ("ids", "targets"):
        assert (batch[name][~batch["input_mask"]] == BYTES.pad_id).all()
    assert batch["mask"].tolist() == [True, True, False, False]


def test_special_tokens_stand_around_the_text_and_are_never_predicted(lines):
    config = lines(["ab", "a long document that is cut"], add_special_tokens=True)
    for seed in range(20):
        batch = masked(config, training=False, seed=seed)[0]
        for row, tokens in zip(batch["targets"][:2], ("ab", "a long documen"), strict=True):
            n = len(tokens) + 2
            assert row[0] == BYTES.cls_id and row[n - 1] == BYTES.sep_id
            assert BYTES.decode(row) == tokens
        special = np.isin(batch["targets"], list(BYTES.special_ids))
        assert not (batch["predicted"] & special).any()


@pytest.mark.parametrize("special", [False, True])
def test_chunks_go_on_where_the_last_one_ended(lines, special):
    texts = ["The first document.", "A second, longer document.", "End"]
    config = lines(texts, layout="chunks", max_seq_len=10, add_special_tokens=special)
    dataset, length = masked(config, training=False), 8 if special else 10
    rows = [row for i in range(len(dataset)) for row in dataset[i]["targets"][dataset[i]["mask"]]]
    inner = [row[1:-1] if special else row for row in rows]
    joined = [id for text in texts for id in [*BYTES.encode(text), BYTES.sep_id]]
    assert len(rows) == len(joined) // length
    assert np.concatenate(inner).tolist() == joined[: length * len(rows)]


def test_documents_are_joined_with_the_separator_that_is_asked_for(lines):
    for separator, id in (("sep", BYTES.sep_id), ("eos", BYTES.eos_id)):
        ids = open_rows(lines(["ab", "c"], layout="chunks", separator=separator), "test").ids
        assert ids.tolist() == [*BYTES.encode("ab"), id, *BYTES.encode("c"), id]
    ids = open_rows(lines(["ab", "c"], layout="chunks", separator="none"), "test").ids
    assert BYTES.decode(ids) == "abc"


def test_rows_of_another_length_can_be_opened(make_config):
    config = make_config()
    assert len(open_rows(config, "train").row(0)[0]) == 16
    assert len(open_rows(config, "train", row_length=17).row(0)[0]) == 17


RANDOM = {"random_shift": True, "random_min_seq_len": 5, "whole_words": True}


def test_seed_and_position_decide_everything(make_config):
    config = make_config(add_special_tokens=True, **RANDOM)
    dataset, again = masked(config), masked(config)
    assert all(equal(dataset[i], again[i]) for i in (0, 3, 700))
    assert not equal(dataset[0], masked(config, seed=1)[0])


@pytest.mark.parametrize("num_threads", [1, 4])
def test_an_iterator_resumes_with_the_same_batches(make_config, num_threads):
    dataset = masked(make_config(**RANDOM))
    with contextlib.closing(pipeline.iterate(dataset)) as iterator:
        for _ in range(3):
            next(iterator)
        position = iterator.get_state()
        expected = [next(iterator) for _ in range(3)]
    with contextlib.closing(pipeline.iterate(dataset, num_threads=num_threads)) as resumed:
        resumed.set_state(position)
        assert all(equal(next(resumed), batch) for batch in expected)


def test_processes_share_a_batch(make_config):
    config = make_config()
    whole = masked(config)[2]
    parts = [masked(config, shard=Shard(i, 2))[2] for i in (0, 1)]
    assert parts[0]["ids"].shape == (2, 16)
    together = {tuple(row) for part in parts for row in part["targets"]}
    assert together == {tuple(row) for row in whole["targets"]}


def by_row(config, epochs):
    """{targets: the sets of predicted positions that a row had in some epochs}."""
    dataset, found = masked(config), {}
    for i in range(epochs * len(open_rows(config, "train")) // config.batch_size):
        for row, predicted in zip(dataset[i]["targets"], dataset[i]["predicted"], strict=True):
            found.setdefault(tuple(row), set()).add(tuple(np.flatnonzero(predicted)))
    return found


def test_dynamic_masks_change_from_epoch_to_epoch_and_static_ones_do_not(lines):
    texts = [f"text number {i:02}" for i in range(8)]
    static = by_row(lines(texts, masking="static"), 4)
    dynamic = by_row(lines(texts, masking="dynamic"), 4)
    assert len(static) == len(dynamic) == 8
    assert {len(masks) for masks in static.values()} == {1}
    assert min(len(masks) for masks in dynamic.values()) > 1
    assert len(set.union(*static.values())) > 1, "rows have masks of their own"


def test_evaluation_masks_depend_on_seed_and_row_alone(make_config):
    wide, narrow = (make_config(eval_batch_size=size) for size in (8, 2))
    batches = masked(wide, training=False), masked(narrow, training=False)
    for name in ("ids", "predicted"):
        np.testing.assert_array_equal(
            batches[0][1][name], np.concatenate([batches[1][i][name] for i in range(4, 8)])
        )
    other = masked(wide, training=False, seed=1)[1]
    np.testing.assert_array_equal(other["targets"], batches[0][1]["targets"])
    assert not np.array_equal(other["predicted"], batches[0][1]["predicted"])


def test_evaluation_takes_each_row_once_as_it_is(make_config):
    config = make_config(eval_batch_size=7, **RANDOM)
    dataset, rows = masked(config, training=False), open_rows(config, "test")
    seen = [row for i in range(len(dataset)) for row in dataset[i]["targets"][dataset[i]["mask"]]]
    np.testing.assert_array_equal(seen, [rows.row(i)[0] for i in range(len(rows))])


def test_a_shifted_row_goes_on_in_the_next(lines):
    text = "".join(chr(0x30 + i % 70) for i in range(500))
    config = lines([text], layout="chunks", separator="none", random_shift=True)
    dataset = masked(config)
    starts = []
    for i in range(60):
        for row in decoded(dataset[i]):
            assert len(row) == 16
            starts.append(next(k for k in range(500) if text[k : k + 16] == row))
    assert {start % 16 for start in starts if start < 70} == set(range(16))
    # The remainder of four tokens behind the last row is reached, and no more.
    last = "".join(chr(0x30 + i % 70) for i in range(484, 500))
    assert any(last in decoded(dataset[i]) for i in range(60))


def test_rows_are_cut_at_a_random_length(lines):
    config = lines(
        ["abcdefghijklmnop", "xyz"], random_min_seq_len=5, add_special_tokens=True, batch_size=2
    )
    dataset = masked(config)
    lengths, short = set(), set()
    for i in range(60):
        batch = dataset[i]
        for row, mask in zip(batch["targets"], batch["input_mask"], strict=True):
            n = mask.sum()
            assert row[n - 1] == BYTES.sep_id and (row[n:] == BYTES.pad_id).all()
            text = BYTES.decode(row)
            (short if text.startswith("x") else lengths).add(int(n))
            assert "abcdefghijklmnop".startswith(text) or text == "xyz"
    assert lengths == set(range(5, 17))
    assert short == {5}


def test_whole_words_are_masked_where_asked_for(lines):
    config = lines(["word " * 3 + "w"] * 8, whole_words=True)
    for i in range(20):
        batch = masked(config)[i]
        for predicted in batch["predicted"]:
            for word in (slice(0, 4), slice(4, 9), slice(9, 14), slice(14, 16)):
                assert len(set(predicted[word])) == 1


def labelled(tmp_path, make_config, **fields):
    rows = ['{"text": "good %d", "label": "pos"}', '{"text": "bad %d", "label": "neg"}']
    for split in ("train", "test"):
        lines = "\n".join(row % i for i in range(3) for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines + '\n{"text": "of no class"}')
    return make_config(f"files:{tmp_path}", **({"layout": "documents"} | fields))


@pytest.mark.parametrize("training", [True, False])
def test_classification_batches_hold_documents_and_their_labels(tmp_path, make_config, training):
    config = labelled(tmp_path, make_config, add_special_tokens=True)
    assert class_names(config) == ("neg", "pos")
    dataset = classification_batches(config, training=training, seed=0, shard=ALONE)
    for i in (0, 1):
        batch = dataset[i]
        assert batch["label"].dtype == batch["ids"].dtype == np.int32
        assert batch["ids"].shape == batch["input_mask"].shape == (4, 16)
        for text, label in zip(decoded(batch, "ids"), batch["label"], strict=True):
            assert text.startswith(("bad", "good")[label])
        assert (batch["ids"][:, 0] == BYTES.cls_id).all()
    if not training:
        assert batch["mask"].tolist() == [True, True, False, False]
        assert len(dataset) == 2


@pytest.mark.parametrize("training", [True, False])
def test_soft_labels_are_the_datasets_probabilities_and_in_training_alone(
    make_config, monkeypatch, listed, training
):
    targets = tuple((1 - i / 8, i / 8) for i in range(8))
    documents = listed([f"text {i}" for i in range(8)], (0,) * 8, ("neg", "pos"), "8", targets)
    monkeypatch.setattr(batches, "open_documents", lambda *_, **__: documents)
    config = make_config("eight", layout="documents", soft_labels=True)
    batch = classification_batches(config, training=training, seed=0, shard=ALONE)[0]
    assert ("target" in batch) == training
    if training:
        assert batch["target"].dtype == np.float32
        expected = [targets[int(text[-1])] for text in decoded(batch, "ids")]
        np.testing.assert_array_equal(batch["target"], np.float32(expected))
    config = make_config("eight", layout="documents")
    batch = classification_batches(config, training=training, seed=0, shard=ALONE)[0]
    assert "target" not in batch


def test_soft_labels_of_a_dataset_that_knows_none_are_an_error(make_config):
    config = make_config(layout="documents", soft_labels=True)
    with pytest.raises(DatasetError, match="'synthetic' knows no prob.*soft_labels=False"):
        classification_batches(config, training=True, seed=0, shard=ALONE)


def test_masked_language_modelling_refuses_soft_labels(make_config):
    with pytest.raises(DatasetError, match="soft_labels=True is for classification.*=False"):
        masked(make_config("synthetic", soft_labels=True))


def test_masked_language_modelling_refuses_a_stream(make_config):
    with pytest.raises(DatasetError, match="stream=True is for causal.*stream=False"):
        masked(make_config("synthetic", stream=True))


def test_the_names_of_classes_are_looked_up_once(tmp_path, make_config, monkeypatch):
    config = labelled(tmp_path, make_config)
    assert class_names(config) == ("neg", "pos")
    monkeypatch.setattr(batches, "open_documents", None)
    assert class_names(config) == ("neg", "pos")


def test_classification_takes_documents_alone(tmp_path, make_config):
    config = labelled(tmp_path, make_config, layout="chunks")
    with pytest.raises(DatasetError, match="layout='chunks'; set --config.data.layout=documents"):
        classification_batches(config, training=True, seed=0, shard=ALONE)


def test_classification_without_labels_is_an_error(make_config):
    config = make_config("python_docs", layout="documents")
    with pytest.raises(DatasetError, match="has no labels"):
        classification_batches(config, training=True, seed=0, shard=ALONE)


def test_fewer_rows_than_a_batch_are_an_error(lines):
    with pytest.raises(UserError, match="1 examples, fewer than one batch of 4"):
        masked(lines(["only one"], layout="chunks"))
    with pytest.raises(DatasetError, match="1 of the 4 rows .* is one row; set .*layout=chunks"):
        masked(lines(["only one"]))


def test_too_few_documents_are_an_error_that_tells_how_to_cut_them(lines):
    config = lines(["a line of some text"] * 9, document_per_line=False)
    with pytest.raises(DatasetError) as error:
        masked(config)
    message = str(error.value)
    assert "gives 1 of the 4 rows of a batch" in message
    assert "each document is one row, and a .txt file is one document" in message
    for option, fields in (
        ("layout=chunks", {"layout": "chunks"}),
        ("document_per_line=True", {"document_per_line": True}),
    ):
        assert f"--config.data.{option}" in message
        assert len(masked(dataclasses.replace(config, **fields))[0]["ids"]) == 4


def test_how_much_text_is_cut_away_is_said(lines, capsys):
    rows = open_rows(lines(["x" * 16, "y" * 16, "z" * 32]), "train")
    assert rows.cut == 0.25
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("25.0% of the text of split 'train' of 'files:")
    assert "documents of more than 16 tokens are cut at their end" in said
    assert said.endswith("with --config.data.layout=chunks it is read as well")


@pytest.mark.parametrize("fields", [{}, {"layout": "chunks"}, {"layout": "packed"}])
def test_nothing_is_said_where_no_text_is_cut_away(lines, capsys, fields):
    texts = ["x" * 16] if not fields else ["x" * 16, "y" * 33]
    assert open_rows(lines(texts, **fields), "train").cut == 0
    assert "is not read" not in capsys.readouterr().err


def test_texts_to_classify_are_not_to_be_joined(tmp_path, make_config, capsys):
    open_rows(labelled(tmp_path, make_config, max_seq_len=4), "train", labels=True)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("documents of more than 4 tokens are cut at their end")


@pytest.mark.parametrize(
    ("missing", "fields", "purpose"),
    [
        ("mask", {}, "masked language modelling"),
        ("pad", {}, "batching"),
        ("cls", {"add_special_tokens": True}, "add_special_tokens"),
        ("sep", {"separator": "sep"}, "separator='sep' of layout='chunks'"),
        ("eos", {"separator": "eos"}, "separator='eos' of layout='chunks'"),
    ],
)
def test_a_tokenizer_that_lacks_a_token_is_an_error(
    make_config, monkeypatch, missing, fields, purpose
):
    class Lacking(ByteTokenizer):
        pass

    monkeypatch.setattr(Lacking, f"{missing}_id", None, raising=False)
    monkeypatch.setattr(batches, "open_tokenizer", lambda config: Lacking())
    with pytest.raises(TokenizerError, match=f"no {missing} token, which {purpose}"):
        masked(make_config(max_seq_len=19, **fields))


def test_other_tokenizers_make_batches_too(make_config, tmp_path):
    pytest.importorskip("tokenizers")
    from perceiver_jax.data.text import train_tokenizer

    path = tmp_path / "tokenizer.json"
    assert train_tokenizer.main(["--dataset=synthetic", f"--out={path}", "--vocab_size=400"]) == 0
    config = make_config(tokenizer=str(path), layout="packed", whole_words=True, max_seq_len=30)
    tokenizer = open_tokenizer(config)
    batch = masked(config)[0]
    for row in batch["targets"]:
        assert tokenizer.decode(row).startswith("The ")
        assert tokenizer.sep_id in row
    assert (batch["ids"] == tokenizer.mask_id).any()
