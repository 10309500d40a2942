"""Masked language modelling: what is chosen, what becomes of it, and what is never touched."""

import numpy as np
import pytest

from perceiver_jax.data.text import ByteTokenizer
from perceiver_jax.data.text.layouts import TokenKind
from perceiver_jax.data.text.masking import make_masking, word_numbers
from perceiver_jax.data.text.tokenizers import TokenizerError

CONTINUES, STARTS, SPECIAL = TokenKind
BYTES = ByteTokenizer()


def masking(whole_words=False, fraction=0.15):
    return make_masking(BYTES, fraction=fraction, whole_words=whole_words)


def rows_of_words(count=200, num_words=60, seed=0):
    """Rows of words of one to six equal letters, with a special token at both ends."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        lengths = rng.integers(1, 7, num_words)
        kinds = np.concatenate([[STARTS] + [CONTINUES] * (n - 1) for n in lengths])
        kinds = np.pad(kinds, 1, constant_values=SPECIAL).astype(np.uint8)
        ids = rng.integers(6, 262, len(kinds), np.int32)
        ids[[0, -1]] = BYTES.cls_id, BYTES.sep_id
        yield ids, kinds


def fractions(whole_words):
    """Of all words or tokens: chosen; of the chosen: masked, replaced, kept."""
    mask, rng = masking(whole_words), np.random.default_rng(1)
    units = chosen = masked = changed = kept = 0
    for ids, kinds in rows_of_words():
        corrupted, predicted = mask(ids, kinds, rng)
        first = np.unique(word_numbers(kinds)[predicted], return_index=True)[1]
        where = np.flatnonzero(predicted)[first] if whole_words else np.flatnonzero(predicted)
        units += np.sum(kinds == STARTS) if whole_words else np.sum(kinds != SPECIAL)
        chosen += len(where)
        masked += np.sum(corrupted[where] == BYTES.mask_id)
        kept += np.sum(corrupted[where] == ids[where])
        changed += np.sum((corrupted[where] != BYTES.mask_id) & (corrupted[where] != ids[where]))
    return chosen / units, masked / chosen, changed / chosen, kept / chosen


@pytest.mark.parametrize("whole_words", [False, True])
def test_fifteen_percent_are_chosen_and_divided_eighty_ten_ten(whole_words):
    chosen, masked, changed, kept = fractions(whole_words)
    assert abs(chosen - 0.15) < 0.01
    assert abs(masked - 0.8) < 0.03
    assert abs(changed - 0.1) < 0.02
    assert abs(kept - 0.1) < 0.02


@pytest.mark.parametrize("whole_words", [False, True])
def test_nothing_else_changes_and_special_tokens_never_do(whole_words):
    mask, rng = masking(whole_words, fraction=0.9), np.random.default_rng(2)
    for ids, kinds in rows_of_words(20):
        before = ids.copy()
        corrupted, predicted = mask(ids, kinds, rng)
        assert corrupted.dtype == np.int32 and predicted.dtype == bool
        np.testing.assert_array_equal(ids, before)
        np.testing.assert_array_equal(corrupted[~predicted], ids[~predicted])
        assert not predicted[kinds == SPECIAL].any()
        # Random tokens are no special ones.
        assert set(corrupted[predicted]) & BYTES.special_ids <= {BYTES.mask_id}


def test_a_word_is_chosen_and_masked_as_a_whole():
    mask, rng = masking(whole_words=True, fraction=0.3), np.random.default_rng(3)
    for ids, kinds in rows_of_words(50):
        corrupted, predicted = mask(ids, kinds, rng)
        words = word_numbers(kinds)
        for word in np.unique(words):
            inside = words == word
            assert predicted[inside].all() or not predicted[inside].any()
            assert len(set(corrupted[inside] == BYTES.mask_id)) == 1


def test_single_tokens_are_chosen_within_words():
    ids, kinds = next(rows_of_words(1))
    _, predicted = masking()(ids, kinds, np.random.default_rng(0))
    words = word_numbers(kinds)
    partly = [0 < predicted[words == word].mean() < 1 for word in np.unique(words)]
    assert any(partly)


def test_words_begin_at_starts_and_behind_special_tokens():
    kinds = np.array([CONTINUES, CONTINUES, STARTS, SPECIAL, CONTINUES, SPECIAL, STARTS], np.uint8)
    assert word_numbers(kinds).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert word_numbers(kinds[:0]).tolist() == []


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("length", [1, 2])
def test_at_least_one_token_is_chosen(whole_words, length):
    ids = np.arange(6, 6 + length, dtype=np.int32)
    kinds = np.array([STARTS, CONTINUES][:length], np.uint8)
    mask, rng = masking(whole_words, fraction=1e-9), np.random.default_rng(0)
    chosen = np.array([mask(ids, kinds, rng)[1] for _ in range(50)])
    assert chosen.any(-1).all()
    assert chosen.any(0).all(), "each token has its turn"


@pytest.mark.parametrize("kinds", [[], [SPECIAL, SPECIAL]])
def test_a_row_without_text_has_nothing_to_predict(kinds):
    ids = np.full(len(kinds), BYTES.sep_id, np.int32)
    corrupted, predicted = masking()(ids, np.array(kinds, np.uint8), np.random.default_rng(0))
    np.testing.assert_array_equal(corrupted, ids)
    assert not predicted.any()


def test_the_generator_alone_decides():
    ids, kinds = next(rows_of_words(1))
    results = [masking(True)(ids, kinds, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0][1], results[2][1])


def test_a_tokenizer_without_a_mask_is_refused():
    class NoMask(ByteTokenizer):
        mask_id = None

    with pytest.raises(TokenizerError, match="no mask token, which masked language modelling"):
        make_masking(NoMask(), fraction=0.15, whole_words=False)
