"""Texts and tokenizers as pipelines take them."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.data.text.tokenizers import load_tokenizer
from perceiver_jax.data.text.train_tokenizer import train
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.texts import TextReader, gather_texts, read_text


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained tokenizer's file."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["the cat sat on the mat", "a dog"] * 3, vocab_size=280, lowercase=True).save(str(path))
    return path


def test_rows_are_filled_up_to_few_lengths(text_release):
    reader = TextReader(text_release())
    ids, mask = reader.rows([np.arange(6, 11, dtype=np.int32), np.array([9], np.int32)])
    assert ids.shape == mask.shape == (2, 32)
    assert ids[0, :5].tolist() == [6, 7, 8, 9, 10] and ids[1, 0] == 9
    assert mask.sum(1).tolist() == [5, 1] and not ids[~mask].any()
    assert reader.rows([np.full(33, 7, np.int32)])[0].shape == (1, 64)


def test_special_tokens_stand_around_a_text_where_the_card_says_so(text_release):
    card = ModelCard(text=TextPreprocessing(add_special_tokens=True))
    reader = TextReader(text_release(card=card))
    ids, mask = reader.rows([np.array([50, 51], np.int32)])
    assert ids[0, : mask.sum()].tolist() == [4, 50, 51, 5]
    assert (reader.max_text_len, reader.offset) == (62, 1)


def test_the_tokenizer_is_that_of_the_models_files(text_release, trained):
    tokenizer = load_tokenizer(str(trained))
    card = ModelCard(text=TextPreprocessing(tokenizer="tokenizer.json"))
    found = text_release(card=card, files=tokenizer.files, vocab_size=tokenizer.vocab_size)
    reader = TextReader(found)
    np.testing.assert_array_equal(
        reader.tokenizer.encode("The cat sat"), tokenizer.encode("the cat sat")
    )
    assert reader.tokenizer.mask_id == tokenizer.mask_id
    with pytest.raises(UserError, match="not among the files of this model"):
        TextReader(text_release(card=card, vocab_size=tokenizer.vocab_size))


def test_a_release_keeps_its_tokenizer(text_release, trained, tmp_path):
    from interop import load_pretrained
    from perceiver_jax.models.release import release

    tokenizer = load_tokenizer(str(trained))
    card = ModelCard(text=TextPreprocessing(tokenizer="tokenizer.json"))
    found = text_release(card=card, files=tokenizer.files, vocab_size=tokenizer.vocab_size)
    found.save(tmp_path / "release")
    again = release(load_pretrained("ours", tmp_path / "release"))
    assert dict(again.files) == dict(tokenizer.files)
    assert TextReader(again).tokenizer.fingerprint == tokenizer.fingerprint


def test_a_model_of_262_tokens_without_a_card_reads_bytes(text_release):
    assert TextReader(text_release(card=ModelCard())).tokenizer.name == "bytes"


def test_an_unknown_or_wrong_tokenizer_is_refused(text_release, trained):
    with pytest.raises(UserError, match="give it with --tokenizer"):
        TextReader(text_release(card=ModelCard(), vocab_size=300))
    with pytest.raises(UserError, match="ids, the model 300; give the model's own"):
        TextReader(text_release(card=ModelCard(), vocab_size=300), str(trained))


def test_a_model_of_images_reads_no_text(tiny_config, random_model):
    import jax

    from perceiver_jax import models
    from perceiver_jax.models.release import release

    images = release(random_model(lambda: models.build(tiny_config(), jax.random.key(0))))
    with pytest.raises(
        UserError, match=r"^a classifier of images \(ImageEncoderConfig\) reads no text"
    ):
        TextReader(images)


def test_texts_come_from_the_command_line_and_from_files(tmp_path, monkeypatch):
    whole, lines = tmp_path / "whole.txt", tmp_path / "lines.txt"
    whole.write_text("first\nsecond\n")
    lines.write_text("third\n\nfourth\n")
    assert gather_texts(["zero"], [whole], [lines]) == [
        "zero",
        "first\nsecond\n",
        "third",
        "fourth",
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("fünf".encode())))
    assert gather_texts([], [Path("-")]) == ["fünf"]


def test_no_text_and_empty_texts_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no text"):
        gather_texts([])
    with pytest.raises(UserError, match=r"text \d of \d is empty; leave it out"):
        gather_texts(["a", " \n"])
    with pytest.raises(UserError, match="No such file"):
        read_text(tmp_path / "missing")


def test_undecodable_bytes_of_a_command_line_are_refused():
    with pytest.raises(UserError, match="character 3 of a text on the command line is not UTF-8"):
        gather_texts(["ab" + b"\xff".decode("utf-8", "surrogateescape")])


def test_bytes_that_are_not_utf_8_are_named(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("für".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8: byte 0xfc at 1; convert it"):
        read_text(path)


def test_a_text_that_names_a_file_is_read_as_a_text_and_says_so(tmp_path, capsys):
    path = tmp_path / "t.txt"
    path.write_text("inside")
    assert gather_texts([str(path), "plain"]) == [str(path), "plain"]
    assert f"note: '{path}' is read as a text; --file reads" in capsys.readouterr().err
    assert gather_texts(["plain"], [path]) == ["plain", "inside"]
    assert capsys.readouterr().err == ""
