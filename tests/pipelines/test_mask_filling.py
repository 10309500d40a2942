"""Texts with gaps to fills, and `python -m perceiver_jax.run fill-mask`."""

import jax
import numpy as np
import pytest

from perceiver_jax import run
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.data.text.tokenizers import load_tokenizer
from perceiver_jax.data.text.train_tokenizer import train
from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.mask_filling import MaskFilling


def ids_of(text):
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 6


def log_probabilities(model, ids):
    return np.asarray(jax.nn.log_softmax(model(np.asarray(ids, np.int32)[None])))[0]


def greedy(model, ids, place):
    """Probability of two bytes from there on, each the best given what is known."""
    first = log_probabilities(model, ids)[place]
    best = first[6:].argmax() + 6
    filled = np.where(np.arange(len(ids)) == place, best, ids)
    return float(np.exp(first[best] + log_probabilities(model, filled)[place + 1, 6:].max()))


def merged(found):
    """{word: its largest probability}, the best first, without blanks."""
    words = {}
    for text, probability in found:
        word = " ".join(text.split())
        if word:
            words[word] = max(probability, words.get(word, 0.0))
    return dict(sorted(words.items(), key=lambda item: -item[1]))


@pytest.fixture(scope="module")
def of_words(text_release, tmp_path_factory):
    """A model with a trained tokenizer."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["the cat sat on the mat", "a dog"] * 3, vocab_size=280, lowercase=True).save(str(path))
    tokenizer = load_tokenizer(str(path))
    card = ModelCard(text=TextPreprocessing(tokenizer="tokenizer.json"))
    return text_release(card=card, files=tokenizer.files, vocab_size=tokenizer.vocab_size)


def test_one_mask_is_filled_with_the_most_probable_tokens(of_words):
    fill = MaskFilling(of_words)
    (fills,) = fill("the [MASK] sat", top=4)
    ids = fill.tokenizer.encode_with_masks("the [MASK] sat")
    (place,) = np.flatnonzero(ids == fill.mask_id)
    want = np.exp(log_probabilities(of_words.model(), ids)[place])
    want[list(fill.tokenizer.special_ids)] = 0
    words = merged((fill.tokenizer.decode([i]), want[i]) for i in np.argsort(-want)[:8])
    assert [f.text for f in fills] == list(words)[:4]
    np.testing.assert_allclose([f.probability for f in fills], list(words.values())[:4], rtol=1e-4)


def test_masks_in_a_row_are_filled_one_given_the_other(text_release):
    released = text_release()
    fill = MaskFilling(released)
    (fills,) = fill("ab[MASK][MASK]cd", top=3)
    before, after = ids_of("ab"), ids_of("cd")
    model = released.model()
    first = log_probabilities(model, np.concatenate([before, [3, 3], after]))[2]
    scores = []
    for a in np.argsort(-first[6:])[:3] + 6:
        second = log_probabilities(model, np.concatenate([before, [a, 3], after]))[3]
        for b in np.argsort(-second[6:])[:6] + 6:
            text = bytes([a - 6, b - 6]).decode(errors="replace")
            scores.append((text, np.exp(first[a] + second[b])))
    words = merged(scores)
    assert [f.text for f in fills] == list(words)[:3]
    np.testing.assert_allclose([f.probability for f in fills], list(words.values())[:3], rtol=1e-4)


def test_a_word_is_named_once_whatever_its_spaces(of_words):
    (fills,) = MaskFilling(of_words)("the [MASK] sat", top=200)
    words = [f.text for f in fills]
    assert len(set(words)) == len(words) > 100
    assert all(word and word == word.strip() for word in words)
    assert all(f.probability > 0 for f in fills)


def test_a_lone_mask_is_a_word_of_any_length_to_a_model_of_bytes(text_release):
    released = text_release()
    fill = MaskFilling(released)
    (fills,) = fill("a [MASK] film", top=5)
    assert 0 < len(fills) <= 5
    assert [f.probability for f in fills] == sorted((f.probability for f in fills), reverse=True)
    assert len({f.text for f in fills}) == len(fills)
    assert all(f.text == f.text.strip() and f.text for f in fills)
    # The probability is the geometric mean over the bytes, the space before the word included.
    model, best = released.model(), None
    for length in range(2, 14):
        ids = np.concatenate([ids_of("a"), np.full(length, 3), ids_of(" film")])
        score = log_probabilities(model, ids)[1 : 1 + length, 6:].max(-1).mean()
        best = max(best or (-np.inf, 0), (score, length))
    lengths = {len(" " + f.text) for f in fills}
    assert lengths & set(range(best[1] - 2, best[1] + 3))


def test_each_gap_is_filled_with_the_others_open(of_words):
    fill = MaskFilling(of_words)
    gaps = fill("the [MASK] sat on the [MASK]", top=2)
    assert len(gaps) == 2 and all(len(fills) == 2 for fills in gaps)
    ids = fill.tokenizer.encode_with_masks("the [MASK] sat on the [MASK]")
    place = np.flatnonzero(ids == fill.mask_id)[1]
    want = np.exp(log_probabilities(of_words.model(), ids)[place])
    want[list(fill.tokenizer.special_ids)] = 0
    assert gaps[1][0].probability == pytest.approx(float(want.max()), rel=1e-4)


def test_of_a_long_text_the_surroundings_of_the_gap_are_read(text_release):
    released = text_release()
    fill = MaskFilling(released)
    text = "x" * 100 + "[MASK][MASK]" + "y" * 100
    (fills,) = fill(text, top=1)
    ids = np.concatenate([ids_of("x" * 31), [3, 3], ids_of("y" * 31)])
    assert fills[0].probability == pytest.approx(greedy(released.model(), ids, 31), rel=1e-3)
    # The window ends with the text.
    (at_end,) = fill("x" * 100 + "[MASK][MASK]", top=1)
    ids = np.concatenate([ids_of("x" * 62), [3, 3]])
    assert at_end[0].probability == pytest.approx(greedy(released.model(), ids, 62), rel=1e-3)


def test_special_tokens_around_a_text_do_not_move_the_gap(text_release):
    card = ModelCard(text=TextPreprocessing(add_special_tokens=True))
    released = text_release(card=card)
    (fills,) = MaskFilling(released)("ab[MASK][MASK]", top=1)
    ids = np.concatenate([[4], ids_of("ab"), [3, 3], [5]])
    assert fills[0].probability == pytest.approx(greedy(released.model(), ids, 3), rel=1e-4)


def test_a_text_without_a_gap_and_a_gap_that_is_too_long_are_refused(text_release):
    fill = MaskFilling(text_release())
    with pytest.raises(UserError, match=r"there is no \[MASK\] to fill in 'no gap'"):
        fill("no gap")
    with pytest.raises(UserError, match="a gap of 64 masks is longer than this model"):
        fill("[MASK]" * 64)


def test_other_models_are_refused(text_release, class_decoder):
    with pytest.raises(UserError, match="^a classifier of texts .* fills no masks"):
        MaskFilling(text_release(class_decoder))


def test_the_command_prints_fills_of_every_gap(of_words, tmp_path, capsys):
    of_words.save(tmp_path / "release")
    source = f"--source=ours:{tmp_path / 'release'}"
    assert run.main(["fill-mask", source, "--top=2", "the [MASK] sat on a [MASK]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the [MASK] sat on a [MASK]"
    assert [lines[1], lines[4]] == ["  mask 1", "  mask 2"] and len(lines) == 7
    assert "%" in lines[2]
    assert run.main(["fill-mask", source, "nothing"]) == 1
    assert "there is no [MASK]" in capsys.readouterr().err
