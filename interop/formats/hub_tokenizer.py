"""The tokenizer in a folder as Hugging Face's `save_pretrained` writes it.

- A `tokenizer.json` is carried as it is, and so is the map of its special tokens; bytes need
  none, their class stands in `tokenizer_config.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.files import FileError
from interop.formats.settings import read_json
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.models.release import SPECIAL_TOKENS

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
FILES = (TOKENIZER, SETTINGS, SPECIAL_TOKENS)
"""What is read and written."""
STALE = ("added_tokens.json",)
"""What an earlier tokenizer may have left beside them."""
BETWEEN = "with_special_tokens"
"""Entry of the settings: whether a text stands between special tokens; ours.

Not `add_special_tokens`: their tokenizers have a method of that name and refuse such an entry.
"""
BYTES = "PerceiverTokenizer"
"""Their class for UTF-8 bytes, which puts a text between [CLS] and [SEP]."""
ANY_FILE = "PreTrainedTokenizerFast"
SPELLINGS = {
    "pad_token": ("[PAD]", "<pad>", "<|pad|>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>", "<|mask|>"),
    "cls_token": ("[CLS]", "<cls>", "<s>"),
    "sep_token": ("[SEP]", "<sep>", "</s>"),
    "bos_token": ("[BOS]", "<bos>", "<s>"),
    "eos_token": ("[EOS]", "<eos>", "</s>", "<|endoftext|>"),
}
"""Their names of special tokens, and usual spellings in the order of `FastTokenizer`."""


def read(
    folder: Path, *, between: bool = True
) -> tuple[TextPreprocessing | None, dict[str, bytes]]:
    """How a text becomes the model's input, and contents of the files that it takes.

    Args:
        folder: where the files are.
        between: whether a text stands between special tokens where the settings do not say.

    Raises:
        FileError: the settings, or the map of special tokens, are damaged.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    between = settings.get(BETWEEN, between) is not False
    if (folder / TOKENIZER).is_file():
        files = {TOKENIZER: (folder / TOKENIZER).read_bytes(), **_map(folder, settings)}
        return TextPreprocessing(tokenizer=TOKENIZER, add_special_tokens=between), files
    if settings.get("tokenizer_class") != BYTES:
        return None, {}
    return TextPreprocessing(tokenizer="bytes", add_special_tokens=between), {}


def _map(folder: Path, settings: Mapping[str, Any]) -> dict[str, bytes]:
    """The map of special tokens: the file, with what the settings alone name.

    Without a file it is made from the settings; nothing where these name no special token.
    """
    file, named = folder / SPECIAL_TOKENS, _named(settings)
    if not file.is_file():
        return {SPECIAL_TOKENS: _json(named)} if named else {}
    tree = read_json(file)
    alone = {name: token for name, token in named.items() if name not in _named(tree)}
    if alone:
        # What is found by its spelling needs no entry, so that the file stays as it is.
        usual = _usual((folder / TOKENIZER).read_bytes())
        alone = {name: token for name, token in alone.items() if usual.get(name) != token}
    return {SPECIAL_TOKENS: _json(tree | alone) if alone else file.read_bytes()}


def contents(
    text: TextPreprocessing | None, files: Mapping[str, bytes], further: Mapping[str, Any]
) -> dict[str, bytes]:
    """The files that make `AutoTokenizer` give a model's tokenizer, by name.

    Args:
        text: how a text becomes the model's input; None: there is nothing to write.
        files: contents of the tokenizer's files by name.
        further: entries of the tokenizer's settings, such as `model_max_length`.

    Returns:
        Nothing for a tokenizer of a kind that such a folder cannot hold.

    Raises:
        FileError: the tokenizer's file, or the map of its special tokens, is damaged.
    """
    if text is None or not (text.tokenizer == "bytes" or text.tokenizer.endswith(".json")):
        return {}
    settings = {**further, BETWEEN: text.add_special_tokens}
    if text.tokenizer == "bytes":
        return {SETTINGS: _json({"tokenizer_class": BYTES, **settings})}
    file = files[text.tokenizer]
    special = {SPECIAL_TOKENS: files[SPECIAL_TOKENS]} if SPECIAL_TOKENS in files else {}
    names = _usual(file) | _named(_tree(special.get(SPECIAL_TOKENS, b"{}")))
    settings = {"tokenizer_class": ANY_FILE, **settings, **names}
    return {TOKENIZER: file, **special, SETTINGS: _json(settings)}


def remarks(destination: Path) -> list[str]:
    """What their tokenizer does otherwise than the settings in a folder tell this library."""
    file = destination / SETTINGS
    if not file.is_file() or read_json(file).get(BETWEEN) is not False:
        return []
    return [
        "text.add_special_tokens=False is kept for this library; tokenizers of transformers take "
        "it in each call: tokenizer(text, add_special_tokens=False)"
    ]


def _usual(file: bytes) -> dict[str, str]:
    """Special tokens of usual spellings in a `tokenizer.json`, by their names in settings."""
    try:
        added = json.loads(file)["added_tokens"]
        known = {token["content"] for token in added if token.get("special")}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(
            f"the model's tokenizer is no {TOKENIZER} ({error!r}); it takes one with added_tokens"
        ) from error
    found = {
        name: [token for token in usual if token in known] for name, usual in SPELLINGS.items()
    }
    return {name: tokens[0] for name, tokens in found.items() if tokens}


def _named(tree: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens that settings or a map name; tokens may be records with a content."""
    entries = {name: tree.get(name) for name in SPELLINGS}
    tokens = {
        name: entry.get("content") if isinstance(entry, Mapping) else entry
        for name, entry in entries.items()
    }
    return {name: token for name, token in tokens.items() if isinstance(token, str)}


def _tree(content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileError(f"the model's {SPECIAL_TOKENS} cannot be read as JSON: {error}") from error
    if not isinstance(tree, dict):
        raise FileError(
            f"the model's {SPECIAL_TOKENS} holds a JSON {type(tree).__name__}; it takes an object, "
            'as in {"mask_token": "[MASK]"}'
        )
    return tree


def _json(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2) + "\n").encode()
