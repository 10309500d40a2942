"""Bytes as tokens, as other implementations number them; and finding a tokenizer by name."""

import os
import pathlib

import numpy as np
import pytest

from perceiver_jax.data.text import ByteTokenizer, load_tokenizer
from perceiver_jax.data.text.tokenizers import TokenizerError, required_token

TEXTS = [
    "This is an incomplete sentence where some words are missing.",
    "hünger 日本\t\n  x\x00 [CLS]",
    "",
    "🎉 a  b",
]
BYTES = ByteTokenizer()


def words(tokenizer, text):
    """The text's tokens, joined word by word."""
    (encoded,) = tokenizer.encode_words([text])
    np.testing.assert_array_equal(encoded.ids, tokenizer.encode(text))
    groups = np.cumsum(encoded.starts_word)
    return [tokenizer.decode(encoded.ids[groups == i]) for i in range(1, groups.max(initial=0) + 1)]


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_come_back_as_the_text(text):
    ids = BYTES.encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == [byte + 6 for byte in text.encode()]
    assert BYTES.decode(ids) == text
    assert BYTES.decode([1, 4, *ids, 5, 0, 0]) == text


def test_halves_of_characters_are_shown_as_replaced():
    assert BYTES.decode(BYTES.encode("é")[:1]) == "\ufffd"
    assert BYTES.encode("a\ud800").tolist() == BYTES.encode("a?").tolist()


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("text", TEXTS[:2] + TEXTS[3:])
def test_bytes_are_those_of_hugging_face(text, special):
    theirs = pytest.importorskip("transformers").PerceiverTokenizer()
    text = text.replace("[CLS]", "")
    expected = theirs(text, add_special_tokens=special)["input_ids"]
    ours = BYTES.encode(text)
    wrapped = [BYTES.cls_id, *ours, BYTES.sep_id] if special else ours
    assert list(wrapped) == expected
    masked = theirs(f"{text}[MASK] x", add_special_tokens=False)["input_ids"]
    assert BYTES.encode_with_masks(f"{text}[MASK] x").tolist() == masked
    names = ("pad", "bos", "eos", "mask", "cls", "sep")
    for name in names:
        assert getattr(BYTES, f"{name}_id") == getattr(theirs, f"{name}_token_id")
        assert BYTES.token(getattr(BYTES, f"{name}_id")) == getattr(theirs, f"{name}_token")


def test_bytes_are_those_of_deepmind():
    folder = os.environ.get("PERCEIVER_GOLDEN")
    if folder is None:
        pytest.skip("PERCEIVER_GOLDEN is not set; it names the folder of golden files")
    with np.load(pathlib.Path(folder) / "deepmind" / "primitives.npz") as golden:
        cases = [golden[f"outputs/tokenizer_{i}/ids"] for i in (0, 1)]
    np.testing.assert_array_equal(BYTES.encode(TEXTS[0]), cases[0])
    for ids in cases:
        np.testing.assert_array_equal(BYTES.encode(BYTES.decode(ids)), ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello  big\nworld!", ["Hello", "  big", "\nworld!"]),
        ("  a b ", ["  a", " b", " "]),
        ("\u00fcber\u00a0alles", ["\u00fcber\u00a0alles"]),
        ("", []),
    ],
)
def test_whitespace_belongs_to_the_word_behind_it(text, expected):
    assert words(BYTES, text) == expected


@pytest.mark.parametrize("text", ["a[MASK]b", "[MASK]", "[MASK][MASK] é", "no mask", "end [MASK]"])
def test_masks_in_a_text_become_mask_tokens(text):
    ids = BYTES.encode_with_masks(text)
    assert ids.dtype == np.int32
    assert np.sum(ids == BYTES.mask_id) == text.count("[MASK]")
    assert BYTES.decode(ids) == text.replace("[MASK]", "")
    assert BYTES.mask_id not in BYTES.encode(text)


def test_every_byte_can_be_shown_and_told_apart():
    shown = [BYTES.token(i) for i in range(BYTES.vocab_size)]
    assert len(set(shown)) == 262
    assert shown[ord("a") + 6] == "a"
    assert shown[6] == "<0x00>"
    assert all(text.isprintable() for text in shown)


def test_a_missing_token_is_named_with_its_purpose():
    class NoMask(ByteTokenizer):
        name = "plain"
        mask_id = None

    with pytest.raises(TokenizerError, match="'plain' has no mask token, which guessing needs"):
        required_token(NoMask(), "mask", "guessing")
    with pytest.raises(TokenizerError, match="no mask token"):
        NoMask().encode_with_masks("a [MASK]")
    assert required_token(BYTES, "sep", "joining") == 5


def test_bytes_need_no_file():
    assert isinstance(load_tokenizer("bytes"), ByteTokenizer)


@pytest.mark.parametrize("name", ["no/such/folder", "gone.json", "./here", "gone.model"])
def test_what_is_neither_file_nor_id_is_an_error(name):
    with pytest.raises(TokenizerError, match="no such file or folder here; expected 'bytes'"):
        load_tokenizer(name)


def test_a_tokenizer_json_that_is_not_there_can_be_trained():
    with pytest.raises(
        TokenizerError, match="train_tokenizer --dataset=DATASET --out=my/gone.json"
    ):
        load_tokenizer("my/gone.json")


def test_what_the_hub_does_not_have_is_an_error(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def no_network(name, allow_patterns):
        assert name == "someone/something" and "tokenizer.json" in allow_patterns
        raise OSError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", no_network)
    with pytest.raises(TokenizerError, match=r"not in this machine's cache.*\(no route\)"):
        load_tokenizer("someone/something")


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(TokenizerError, match="neither a tokenizer.json nor one SentencePiece"):
        load_tokenizer(str(tmp_path))
