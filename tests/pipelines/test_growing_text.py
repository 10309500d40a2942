"""Texts whose tokens come one after the other."""

import numpy as np
import pytest

from perceiver_jax.data.text.tokenizers import ByteTokenizer, load_tokenizer
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines import growing_text
from perceiver_jax.pipelines.growing_text import GrowingText, checked_stop_texts, until_stop

TEXT = "  Das große Übel, 日本語 und 🎹🎹: don't  stop.\n\n" + "So geht es weiter, weiter. " * 12
BYTES = ByteTokenizer()


@pytest.fixture(scope="module", params=["bytes", "byte pairs", "sentencepiece", "wordpiece"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "bytes":
        return BYTES
    if request.param != "sentencepiece":
        pytest.importorskip("tokenizers")
    if request.param == "byte pairs":
        from perceiver_jax.data.text.train_tokenizer import train

        train([TEXT], vocab_size=300, lowercase=False).save(str(folder / "tokenizer.json"))
        return load_tokenizer(str(folder))
    if request.param == "wordpiece":
        from tokenizers import BertWordPieceTokenizer

        made = BertWordPieceTokenizer()
        made.train_from_iterator([TEXT], vocab_size=120, show_progress=False)
        made.save(str(folder / "tokenizer.json"))
        return load_tokenizer(str(folder))
    sentencepiece = pytest.importorskip("sentencepiece")
    (folder / "text.txt").write_text(TEXT * 3, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "pieces"),
        vocab_size=330,
        byte_fallback=True,
        hard_vocab_limit=False,
        character_coverage=0.98,
        minloglevel=2,
    )
    return load_tokenizer(str(folder / "pieces.model"))


def grown(tokenizer, tokens, num=1, **stops):
    text = GrowingText(tokenizer, **stops)
    pieces = [text.add(tokens[i : i + num]) for i in range(0, len(tokens), num)]
    return [*pieces, text.rest()]


@pytest.mark.parametrize("num", [1, 7])
def test_pieces_joined_are_what_all_tokens_together_say(tokenizer, num):
    tokens = tokenizer.encode(TEXT).tolist()
    # Special tokens are no text, also where many of them follow each other.
    tokens = [*tokens[:90], *[tokenizer.pad_id or 0] * 80, *tokens[90:]]
    assert len(tokens) > 150
    pieces = grown(tokenizer, tokens, num)
    assert "".join(pieces) == tokenizer.decode(tokens)
    assert sum(bool(piece) for piece in pieces) > 50 / num


def test_only_the_last_tokens_are_decoded(tokenizer, monkeypatch):
    decoded, decode = [], tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    text = GrowingText(tokenizer)
    tokens = tokenizer.encode(TEXT).tolist() * 5
    for token in tokens:
        text.add([token])
    assert len(tokens) > 500 and max(decoded) <= growing_text.MOST_TOKENS + 8


def test_random_bytes_lose_no_character():
    tokens = (6 + np.frombuffer((TEXT * 4).encode(), np.uint8)).tolist()
    rng = np.random.default_rng(0)
    for _ in range(20):
        cuts = np.sort(rng.integers(0, len(tokens), 40))
        text = GrowingText(BYTES)
        pieces = [text.add(part.tolist()) for part in np.split(np.array(tokens), cuts)]
        assert "".join([*pieces, text.rest()]) == TEXT * 4


@pytest.mark.parametrize("num", [1, 3, 100])
@pytest.mark.parametrize(
    "stops, wanted",
    [
        (["stop"], "one 🎹, "),
        (["🎹"], "one "),
        (["nothing"], "one 🎹, stop, two"),
        (["stop, tw", "op"], "one 🎹, st"),
        (["stop", "op"], "one 🎹, "),
        (["two stop", "wo s"], "one 🎹, stop, two"),
        (["one"], ""),
    ],
)
def test_a_text_ends_before_the_stop_text_that_is_complete_first(stops, wanted, num):
    tokens = BYTES.encode("one 🎹, stop, two").tolist()
    assert "".join(grown(BYTES, tokens, num, stop_texts=stops)) == wanted


def test_what_may_begin_a_stop_text_is_held_back_until_it_is_clear():
    text = GrowingText(BYTES, stop_texts=["aab"])
    pieces = [text.add([6 + ord(letter)]) for letter in "xaaaca"]
    assert pieces == ["x", "", "", "a", "aac", ""]
    assert not text.ended and text.rest() == "a" and text.ended


def test_a_stop_token_ends_a_text_and_nothing_follows():
    text = GrowingText(BYTES, stop_tokens=[2], stop_texts=["bc"])
    assert text.add([6 + ord("a"), 6 + ord("b")]) == "a"
    assert text.add([2, 6 + ord("c")]) == "b" and text.ended
    assert text.add([6 + ord("d")]) == text.rest() == ""


def test_bytes_that_never_become_a_character_come_in_the_end():
    assert grown(BYTES, [6 + ord("a"), 6 + 0xF0, 6 + 0x9F]) == ["a", "", "", "\ufffd"]


def test_of_stop_texts_that_end_together_the_longest_counts():
    assert until_stop("abcd", ["c", "bc"]) == "a"
    assert until_stop("abcd", ["x"]) is None


def test_stop_texts_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="empty stop text"):
        checked_stop_texts(["a", ""])
    with pytest.raises(UserError, match="give a list"):
        checked_stop_texts("a")
