"""Tokenizers in Hugging Face's format: special tokens, words and masks."""

import json

import numpy as np
import pytest

from perceiver_jax.data.text import load_tokenizer
from perceiver_jax.data.text.tokenizers import TokenizerError
from perceiver_jax.data.text.train_tokenizer import train

tokenizers = pytest.importorskip("tokenizers")

TEXT = "the dog hides  behind the tall trees, and then the doghouse.\n"


@pytest.fixture(scope="module")
def bpe():
    return train([TEXT * 3], vocab_size=285, lowercase=False)


def wordpiece():
    words = ["the", "dog", "##house", ",", ".", "tall", "tree", "##s", "and", "hides"]
    vocab = {word: i for i, word in enumerate(["[UNK]", *words])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]", "<pad>", "<mask>", "<s>", "</s>"])
    return tokenizer


def metaspace(prefix):
    """A unigram model whose spaces a pre-tokenizer marks, or the normalizer alone."""
    pieces = [*"\u2581abdeghilnrstuo,.\n", "\u2581the", "\u2581dog", "house", "\u2581tall"]
    model = tokenizers.models.Unigram([("<unk>", 0.0), *((p, -len(p)) for p in pieces)], 0)
    tokenizer = tokenizers.Tokenizer(model)
    if prefix:
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    else:
        tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    return tokenizer


@pytest.fixture
def load(tmp_path):
    """A function that writes a tokenizer, and files beside it, and loads it."""

    def save(tokenizer, **files):
        # A folder of its own each time, or the cache would give the one before.
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        for name, tree in files.items():
            (folder / f"{name}.json").write_text(json.dumps(tree))
        return load_tokenizer(str(folder if files else folder / "tokenizer.json"))

    return save


def words(tokenizer, text):
    (encoded,) = tokenizer.encode_words([text])
    assert encoded.ids.dtype == np.int32
    np.testing.assert_array_equal(encoded.ids, tokenizer.encode(text))
    spelled = []
    for id, starts in zip(encoded.ids, encoded.starts_word, strict=True):
        if starts:
            spelled.append("")
        spelled[-1] += tokenizer.token(id)
    return spelled


def test_a_trained_tokenizer_has_its_special_tokens_and_comes_back_as_the_text(bpe, load):
    ours = load(bpe)
    assert (ours.pad_id, ours.mask_id, ours.cls_id, ours.sep_id) == (0, 2, 3, 4)
    assert ours.eos_id is None
    assert ours.special_ids == {0, 1, 2, 3, 4}
    assert ours.vocab_size == 285
    text = TEXT + "Ünknown 日本 \x00"
    assert ours.decode(ours.encode(text)) == text
    assert ours.decode([3, *ours.encode(text), 2, 4, 0]) == text


def test_texts_never_become_special_tokens(bpe, load):
    ours = load(bpe)
    text = "[MASK] [CLS]x[PAD]"
    assert not set(ours.encode(text).tolist()) & ours.special_ids
    assert ours.decode(ours.encode(text)) == text


def test_whitespace_belongs_to_the_word_behind_it(bpe, load):
    assert words(load(bpe), "the  dog\n hides, \n") == [
        *("the", "\u0120\u0120dog", "\u010a\u0120hides", ","),
        "\u0120\u010a",
    ]


def test_characters_of_many_bytes_are_in_one_word(bpe, load):
    assert len(words(load(bpe), "日本 日本x")) == 2


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (wordpiece(), ["the", "dog##house", ",", "tall", "tree##s", "[UNK]"]),
        (metaspace(True), ["\u2581the", "\u2581doghouse,", "\u2581tall", "\u2581trees", "\u2581o"]),
        (metaspace(False), ["the", "\u2581doghouse,", "\u2581tall", "\u2581trees", "\u2581o"]),
    ],
)
def test_words_are_those_of_the_pretokenizer_or_divided_by_spaces(load, tokenizer, expected):
    assert words(load(tokenizer), "the doghouse, tall trees o") == expected


def test_ids_that_a_file_leaves_out_count(load):
    model = tokenizers.models.WordLevel({"a": 0, "b": 7}, unk_token="a")
    assert load(tokenizers.Tokenizer(model)).vocab_size == 8


def test_no_text_has_no_words(bpe, load):
    assert words(load(bpe), "") == []


def test_special_tokens_of_other_spellings_are_found(load):
    ours = load(wordpiece())
    names = [ours.token(i) for i in (ours.pad_id, ours.mask_id, ours.cls_id, ours.sep_id)]
    assert names == ["<pad>", "<mask>", "<s>", "</s>"]
    assert ours.eos_id == ours.sep_id
    assert ours.vocab_size == 15


def test_files_beside_a_tokenizer_name_its_special_tokens(load):
    tokenizer = wordpiece()
    tokenizer.add_special_tokens(["<hole>", "<blank>"])
    config = {"mask_token": {"content": "<hole>"}, "pad_token": "<s>", "cls_token": None}
    ours = load(tokenizer, tokenizer_config=config, special_tokens_map={"pad_token": "<blank>"})
    assert ours.token(ours.mask_id) == "<hole>"
    assert ours.token(ours.pad_id) == "<blank>"
    assert ours.token(ours.cls_id) == "<s>"
    assert ours.fingerprint != load(tokenizer).fingerprint


def test_a_tokenizer_without_special_tokens_has_none(load):
    ours = load(metaspace(True))
    assert (ours.pad_id, ours.mask_id, ours.cls_id, ours.sep_id, ours.eos_id) == (None,) * 5
    with pytest.raises(TokenizerError, match="has no mask token"):
        ours.encode_with_masks("the [MASK]")


@pytest.mark.parametrize("text", ["the [MASK] trees", "[MASK][MASK]", "the[MASK], dog", "dog"])
def test_masks_are_read_as_hugging_face_reads_them(bpe, load, text):
    transformers = pytest.importorskip("transformers")
    for tokenizer, mask in ((bpe, "[MASK]"), (wordpiece(), "<mask>")):
        ours = load(tokenizer)
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=mask)
        spelled = text.replace("[MASK]", mask)
        expected = theirs(spelled, add_special_tokens=False)["input_ids"]
        assert ours.encode_with_masks(text).tolist() == expected
        assert ours.encode_with_masks(spelled).tolist() == expected
        assert expected.count(ours.mask_id) == text.count("[MASK]")


def test_a_mask_hides_a_word_with_the_space_before_it(bpe, load):
    ours = load(bpe)
    ids = ours.encode("the dog hides").tolist()
    dog = ours.encode(" dog").tolist()
    at = ids.index(dog[0])
    ids[at : at + len(dog)] = [ours.mask_id]
    assert ours.encode_with_masks("the [MASK] hides").tolist() == ids


def test_padding_and_truncation_of_the_file_are_switched_off(load):
    tokenizer = wordpiece()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=20)
    ours = load(tokenizer)
    assert len(ours.encode("the dog hides and the dog")) == 6
    assert [len(x.ids) for x in ours.encode_words(["the dog hides", "dog"])] == [3, 1]


def test_the_fingerprint_tells_tokenizers_apart(bpe, load):
    again, other = load(bpe), load(train([TEXT * 3], vocab_size=275, lowercase=False))
    assert load(bpe).fingerprint == again.fingerprint != other.fingerprint


def test_what_is_no_tokenizer_is_an_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(TokenizerError, match="cannot be read from .*tokenizer.json"):
        load_tokenizer(str(tmp_path / "tokenizer.json"))


def test_a_damaged_file_beside_a_tokenizer_is_an_error(bpe, tmp_path):
    bpe.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match="tokenizer_config.json is not valid JSON"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_of_the_hub_is_read_out_of_the_folder_it_comes_in(bpe, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    bpe.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path))
    ours = load_tokenizer("owner-of/this-test")
    assert ours.name == "owner-of/this-test"
    assert ours.mask_id == 2
