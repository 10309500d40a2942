"""SentencePiece models: special tokens, words and masks."""

import io

import numpy as np
import pytest

from perceiver_jax.data.text import load_tokenizer
from perceiver_jax.data.text.tokenizers import TokenizerError

sentencepiece = pytest.importorskip("sentencepiece")


def model(**options):
    """A small model of a text that is always there."""
    from pydoc_data.topics import topics

    lines = [line for name in sorted(topics)[:20] for line in topics[name].splitlines() if line]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=400,
        minloglevel=2,
        **options,
    )
    return written.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("sentencepiece") / "spiece.model"
    special = {"control_symbols": ["<cls>", "<sep>"], "user_defined_symbols": ["<mask>"]}
    file.write_bytes(model(pad_id=3, pad_piece="<nothing>", **special))
    return file


@pytest.fixture(scope="module")
def ours(path):
    return load_tokenizer(str(path))


def test_a_text_comes_back(ours):
    text = "Functions are objects, which have attributes."
    ids = ours.encode(text)
    assert ids.dtype == np.int32
    assert ours.decode(ids) == text
    assert ours.decode([ours.cls_id, *ids, ours.mask_id, ours.pad_id]) == text


def test_special_tokens_are_found(ours):
    names = (ours.pad_id, ours.mask_id, ours.cls_id, ours.sep_id, ours.eos_id)
    assert [ours.token(id) for id in names] == ["<nothing>", "<mask>", "<cls>", "<sep>", "</s>"]
    spelled = {ours.token(id) for id in ours.special_ids}
    assert spelled == {"<nothing>", "<mask>", "<cls>", "<sep>", "</s>", "<s>", "<unk>"}
    assert ours.vocab_size == 400


def test_a_word_begins_with_its_space(ours):
    text = "The function returns"
    (encoded,) = ours.encode_words([text])
    np.testing.assert_array_equal(encoded.ids, ours.encode(text))
    groups = np.cumsum(encoded.starts_word)
    words = ["".join(map(ours.token, encoded.ids[groups == i])) for i in (1, 2, 3)]
    assert words == ["\u2581The", "\u2581function", "\u2581returns"]
    assert groups[-1] == 3
    (alone,) = ours.encode_words(["x ☃"])  # an unknown character behind a space of its own
    assert alone.starts_word.sum() == 2


def test_spaces_belong_to_the_word_behind_them(tmp_path):
    (tmp_path / "spaces.model").write_bytes(model(remove_extra_whitespaces=False))
    (encoded,) = load_tokenizer(str(tmp_path / "spaces.model")).encode_words(["the   function"])
    assert encoded.starts_word.sum() == 2


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_a_mask_hides_a_word_with_its_space(ours, mask):
    ids = ours.encode_with_masks(f"The {mask} returns a")
    expected = [*ours.encode("The"), ours.mask_id, *ours.encode("returns a")]
    assert ids.tolist() == expected


@pytest.mark.parametrize("options", [{}, {"remove_extra_whitespaces": False}, {"byte_fallback": 1}])
@pytest.mark.parametrize("prefix", [True, False])
def test_the_pieces_of_what_a_mask_hides_in_its_place_give_the_whole_text(
    tmp_path, options, prefix
):
    file = tmp_path / "spiece.model"
    symbols = {"user_defined_symbols": ["<mask>"]}
    file.write_bytes(model(add_dummy_prefix=prefix, **symbols, **options))
    ours = load_tokenizer(str(file))
    text = "The dog (a bear), is it. A set:"
    whole = ours.encode(text).tolist()
    for masked, hidden in (
        ("The [MASK] (a bear), is it. A set:", " dog"),
        ("The dog ([MASK] bear), is it. A set:", "a"),
        ("The dog (a [MASK]), is it. A set:", " bear"),
        ("The dog (a bear), is [MASK]. A set:", " it"),
        ("The dog (a bear), is it. [MASK] set:", " A"),
        ("The dog (a bear), is it. A [MASK]:", " set"),
    ):
        ids = ours.encode_with_masks(masked).tolist()
        at = ids.index(ours.mask_id)
        before = len(ids) - at - 1
        assert ids[:at] == whole[:at]
        assert ids[at + 1 :] == whole[len(whole) - before :]
        spelled = "".join(map(ours.token, whole[at : len(whole) - before]))
        assert spelled == hidden.replace(" ", "\u2581")
    between = whole[len(ours.encode("The")) : len(ours.encode("The dog"))]
    several = ours.encode_with_masks("[MASK] dog [MASK]").tolist()
    assert several == [ours.mask_id, *between, ours.mask_id]


def test_several_masks_have_nothing_between_them(ours):
    ids = ours.encode_with_masks("[MASK] [MASK][MASK] dog [MASK]").tolist()
    mask, dog = ours.mask_id, ours.encode("dog").tolist()
    assert ids == [mask, mask, mask, *dog, mask]
    assert ours.encode_with_masks("dog").tolist() == dog


def test_symbols_in_texts_are_found_and_never_predicted(ours, tmp_path, listed):
    from perceiver_jax.data.text.masking import make_masking
    from perceiver_jax.data.text.prepared import Plan, PreparedRows, prepare

    plan = Plan(layout="documents", length=64, separator_id=None, labels=False)
    documents = listed(["The <mask> returns ☃ objects"])
    rows = PreparedRows(prepare(documents, ours, plan, into=tmp_path, what="texts"))
    ids, kinds = rows.row(0)
    assert ours.mask_id in ids
    for whole_words in (False, True):
        masking = make_masking(ours, fraction=1.0, whole_words=whole_words)
        _, predicted = masking(ids.astype(np.int32), kinds, np.random.default_rng(0))
        np.testing.assert_array_equal(predicted, ~np.isin(ids, list(ours.special_ids)))


def test_a_folder_may_hold_the_model(path, ours):
    assert load_tokenizer(str(path.parent)).fingerprint == ours.fingerprint


def test_a_model_without_special_tokens_has_none(tmp_path):
    (tmp_path / "plain.model").write_bytes(model(bos_id=-1, eos_id=-1))
    ours = load_tokenizer(str(tmp_path / "plain.model"))
    assert (ours.pad_id, ours.mask_id, ours.cls_id, ours.sep_id, ours.eos_id) == (None,) * 5
    with pytest.raises(TokenizerError, match="has no mask token"):
        ours.encode_with_masks("The [MASK]")


def test_what_is_no_model_is_an_error(tmp_path):
    (tmp_path / "bad.model").write_bytes(b"nothing of the kind")
    with pytest.raises(TokenizerError, match="bad.model is no SentencePiece model"):
        load_tokenizer(str(tmp_path / "bad.model"))
