"""The command that trains a tokenizer."""

import json
import re

import pytest

from perceiver_jax.data.text import load_tokenizer
from perceiver_jax.data.text.train_tokenizer import main

pytest.importorskip("tokenizers")


@pytest.fixture
def folder(tmp_path):
    """A folder of texts whose test split has a letter of its own."""
    (tmp_path / "train.txt").write_text("She sells Sea shells by the sea shore.\n" * 20)
    (tmp_path / "test.txt").write_text("ZZZZ ZZZZ ZZZZ\n" * 50)
    return tmp_path


def command(folder, out, *options):
    return main([f"--dataset=files:{folder}", f"--out={out}", "--vocab_size=280", *options])


def test_a_tokenizer_is_trained_on_the_training_split_alone(folder, capsys):
    out = folder / "new" / "tokenizer.json"
    assert command(folder, out) == 0
    assert "280 tokens" in capsys.readouterr().out
    ours = load_tokenizer(str(out))
    assert (ours.vocab_size, ours.pad_id, ours.mask_id) == (280, 0, 2)
    assert len(ours.encode("ZZZZ")) == 4
    assert len(ours.encode(" shells")) < 4
    assert [file.name for file in out.parent.iterdir()] == ["tokenizer.json"]


def test_the_same_texts_give_the_same_file(folder, run_python):
    files = [folder / f"{i}.json" for i in (1, 2)]
    assert command(folder, files[0]) == 0
    # Another process, as hashes of Python and of the package differ from one to the next.
    arguments = [f"--dataset=files:{folder}", f"--out={files[1]}", "--vocab_size=280"]
    run_python(f"from perceiver_jax.data.text.train_tokenizer import main; main({arguments})")
    assert files[0].read_bytes() == files[1].read_bytes()


def test_case_is_thrown_away_where_asked_for(folder):
    assert command(folder, folder / "a.json", "--lowercase") == 0
    ours = load_tokenizer(str(folder / "a.json"))
    assert ours.encode("SEA").tolist() == ours.encode("sea").tolist()
    assert json.loads((folder / "a.json").read_text())["normalizer"]["type"] == "Lowercase"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--vocab_size=260", "vocab_size=260 is too small: 261 is the least"),
        ("--split=dev", "no split of the files in .* is called 'dev'"),
        ("--dataset=imdb", "no text dataset is called 'imdb'"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(folder, capsys, option, message):
    assert command(folder, folder / "a.json", option) == 1
    assert not (folder / "a.json").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error)


def test_a_file_that_cannot_be_written_is_an_error(folder, capsys):
    assert command(folder, folder / "train.txt" / "a.json") == 1
    assert "cannot be written" in capsys.readouterr().err
