"""Special tokens of a tokenizer in a folder of `save_pretrained`: from which file they come."""

import json

import pytest

from interop.files import FileError
from interop.formats import hub_tokenizer
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.data.text.tokenizers import tokenizer_from_files

NAME, SETTINGS, MAP = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEXT = TextPreprocessing(tokenizer=NAME, add_special_tokens=True)
SPELLED = {"pad": "[PAD]", "usual": "[MASK]", "other": "<<M>>", "plain": "<mask>", "word": "<cls>"}
PLAIN = ("plain", "word")
"""No special tokens, for all their spelling."""


def tokenizer():
    tokens = [
        {"id": i, "content": token, "special": kind not in PLAIN}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, (kind, token) in enumerate(SPELLED.items())
    ]
    vocab = {token: i for i, token in enumerate(SPELLED.values())}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "[PAD]"}
    return json.dumps({"version": "1.0", "added_tokens": tokens, "model": model}).encode()


@pytest.fixture
def folder(tmp_path):
    """A function that writes the tokenizer, and contents of files beside it."""

    def make(**trees):
        (tmp_path / NAME).write_bytes(tokenizer())
        for name, tree in trees.items():
            content = tree if isinstance(tree, str) else json.dumps(tree)
            (tmp_path / {"settings": SETTINGS, "map": MAP}[name]).write_text(content)
        return tmp_path

    return make


def mask(files):
    return tokenizer_from_files(NAME, files).mask_id


M = {"mask_token": SPELLED["other"]}
RECORD = {"mask_token": {"content": SPELLED["other"], "lstrip": True}}
USUAL = {"mask_token": SPELLED["usual"]}


@pytest.mark.parametrize(
    ("trees", "id"),
    [
        ({}, 1),
        ({"map": M}, 2),
        ({"map": RECORD}, 2),
        ({"settings": M}, 2),
        ({"settings": RECORD}, 2),
        ({"settings": USUAL, "map": M}, 2),
        ({"settings": M, "map": USUAL}, 1),
        ({"settings": M, "map": {"pad_token": "[PAD]"}}, 2),
        ({"settings": {"mask_token": "<mask>"}, "map": {}}, 3),
        ({"settings": {"mask_token": None}}, 1),
    ],
)
def test_the_mask_is_the_one_that_the_folder_names(trees, id, folder, tmp_path):
    _, files = hub_tokenizer.read(folder(**trees))
    assert mask(files) == id
    written = hub_tokenizer.contents(TEXT, files, {})
    assert json.loads(written[SETTINGS])["mask_token"] == list(SPELLED.values())[id]
    again = tmp_path / "again"
    again.mkdir()
    for name, content in written.items():
        (again / name).write_bytes(content)
    _, read = hub_tokenizer.read(again)
    assert mask(read) == id
    assert {name: read[name] for name in files} == files


def test_a_map_that_tells_all_stays_as_it_is(folder):
    content = '{"mask_token":   "<<M>>", "additional_special_tokens": ["x"]}'
    settings = {"mask_token": "[MASK]", "pad_token": "[PAD]"}
    _, files = hub_tokenizer.read(folder(map=content, settings=settings))
    assert files[MAP] == content.encode()
    assert hub_tokenizer.contents(TEXT, files, {})[MAP] == content.encode()


def test_without_names_there_is_no_map(folder):
    assert list(hub_tokenizer.read(folder(settings={"model_max_length": 5}))[1]) == [NAME]


def test_words_that_are_spelled_like_special_tokens_are_none():
    settings = json.loads(hub_tokenizer.contents(TEXT, {NAME: tokenizer()}, {})[SETTINGS])
    assert settings["mask_token"] == "[MASK]" and "cls_token" not in settings


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_map_is_refused(content, folder):
    with pytest.raises(FileError, match=f"{MAP} (cannot be read|holds)"):
        hub_tokenizer.read(folder(map=content))
    with pytest.raises(FileError, match=f"{MAP} (cannot be read|holds)"):
        hub_tokenizer.contents(TEXT, {NAME: tokenizer(), MAP: content.encode()}, {})


@pytest.mark.parametrize("name", ["bytes", NAME])
@pytest.mark.parametrize("between", [True, False])
def test_transformers_opens_what_is_written(name, between, tmp_path):
    transformers = pytest.importorskip("transformers")
    text = TextPreprocessing(tokenizer=name, add_special_tokens=between)
    files = {} if name == "bytes" else {NAME: tokenizer(), MAP: json.dumps(M).encode()}
    for file, content in hub_tokenizer.contents(text, files, {"model_max_length": 7}).items():
        (tmp_path / file).write_bytes(content)
    found = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert found.model_max_length == 7
    assert found.mask_token == ("[MASK]" if name == "bytes" else "<<M>>")
