"""The tokenizer in a folder as Hugging Face's `save_pretrained` writes it.

- A `tokenizer.json` is carried as it is; bytes need none, their class stands in
  `tokenizer_config.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.files import FileError
from interop.formats.settings import read_json
from perceiver_jax.card import TextPreprocessing

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
FILES = (TOKENIZER, SETTINGS)
"""What is read and written."""
STALE = ("added_tokens.json", "special_tokens_map.json")
"""What an earlier tokenizer may have left beside them."""
BYTES = "PerceiverTokenizer"
"""Their class for UTF-8 bytes, which puts a text between [CLS] and [SEP]."""
ANY_FILE = "PreTrainedTokenizerFast"
SPECIAL_TOKENS = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
    "cls_token": ("[CLS]", "<cls>"),
    "sep_token": ("[SEP]", "<sep>"),
    "bos_token": ("[BOS]", "<s>"),
    "eos_token": ("[EOS]", "</s>"),
}
"""Their names of special tokens, and what tokenizers usually call them."""


def read(folder: Path) -> tuple[TextPreprocessing | None, dict[str, bytes]]:
    """How a text becomes the model's input, and contents of the file that it takes.

    Raises:
        FileError: the settings are damaged.
    """
    if (folder / TOKENIZER).is_file():
        files = {TOKENIZER: (folder / TOKENIZER).read_bytes()}
        return TextPreprocessing(tokenizer=TOKENIZER, add_special_tokens=True), files
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    if settings.get("tokenizer_class") != BYTES:
        return None, {}
    return TextPreprocessing(tokenizer="bytes", add_special_tokens=True), {}


def contents(
    text: TextPreprocessing | None, files: Mapping[str, bytes], max_tokens: int | None
) -> dict[str, bytes]:
    """The files that make `AutoTokenizer` give a model's tokenizer, by name.

    Args:
        text: how a text becomes the model's input; None: there is nothing to write.
        files: contents of the tokenizer's file by its name.
        max_tokens: most tokens of a text, where it is known.

    Returns:
        Nothing for a tokenizer of a kind that such a folder cannot hold.

    Raises:
        FileError: the tokenizer's file is damaged.
    """
    settings: dict[str, Any] = {} if max_tokens is None else {"model_max_length": max_tokens}
    if text is None or not (text.tokenizer == "bytes" or text.tokenizer.endswith(".json")):
        return {}
    if text.tokenizer == "bytes":
        return {SETTINGS: _json({"tokenizer_class": BYTES, **settings})}
    file = files[text.tokenizer]
    settings = {"tokenizer_class": ANY_FILE, **settings, **_special_tokens(file)}
    return {TOKENIZER: file, SETTINGS: _json(settings)}


def _special_tokens(file: bytes) -> dict[str, str]:
    """Special tokens of a `tokenizer.json` by their names in settings."""
    try:
        known = {token["content"] for token in json.loads(file)["added_tokens"]}
    except (ValueError, LookupError, TypeError) as error:
        raise FileError(
            f"the model's tokenizer is no {TOKENIZER} ({error!r}); it takes one with added_tokens"
        ) from error
    found = {
        name: [token for token in usual if token in known] for name, usual in SPECIAL_TOKENS.items()
    }
    return {name: tokens[0] for name, tokens in found.items() if tokens}


def _json(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2) + "\n").encode()
