"""Tokenizers in Hugging Face's `tokenizer.json` format, from a file, a folder or the hub.

- Special tokens are those that the files beside it name, else those of the usual spellings.
- The file's padding and truncation are switched off; rows are cut and padded by the batches.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.text.tokenizers import MASK_TEXT, Encoded, TokenizerError, required_token
from perceiver_jax.errors import how_to_install

_SPELLINGS = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "mask": (MASK_TEXT, "<mask>", "<|mask|>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "eos": ("[EOS]", "<eos>", "</s>", "<|endoftext|>"),
}
_FILES = ("tokenizer.json", "special_tokens_map.json", "tokenizer_config.json", "*.model")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class FastTokenizer:
    """A tokenizer of the package tokenizers.

    Args:
        name: what users call it.
        path: a `tokenizer.json`, or a folder with one and, if there are such, with
            `special_tokens_map.json` and `tokenizer_config.json`.

    Raises:
        TokenizerError: the file cannot be read, or the package is not installed.
    """

    def __init__(self, name: str, path: Path):
        file = path / "tokenizer.json" if path.is_dir() else path
        self.name = name
        # Texts are never special tokens; prompts with masks have a tokenizer of their own.
        self._tokenizer = _read(name, file)
        self._tokenizer.encode_special_tokens = True
        self._prompts = _read(name, file)
        # Not their number: there are files that leave ids out.
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        named = _named_specials(path) if path.is_dir() else {}
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token.content: id for id, token in added.items() if token.special}
        ids = {kind: self._find(kind, named, special) for kind in _SPELLINGS}
        self.pad_id, self.mask_id = ids["pad"], ids["mask"]
        self.cls_id, self.sep_id, self.eos_id = ids["cls"], ids["sep"], ids["eos"]
        found = {id for id in ids.values() if id is not None}
        self.special_ids = frozenset(special.values()) | found
        self._divides = self._tokenizer.pre_tokenizer is not None
        shape = self._tokenizer.to_str() + json.dumps(ids) + str(sorted(self.special_ids))
        self.fingerprint = hashlib.sha256(shape.encode()).hexdigest()
        spellings = {
            f"{kind}_token": self._tokenizer.id_to_token(id)
            for kind, id in ids.items()
            if id is not None
        }
        self.files: Mapping[str, bytes] = {
            "tokenizer.json": file.read_bytes(),
            "special_tokens_map.json": json.dumps(spellings, indent=2).encode(),
        }

    def _find(self, kind: str, named: Mapping[str, str], special: Mapping[str, int]) -> int | None:
        if kind in named:
            return self._tokenizer.token_to_id(named[kind])
        return next((special[text] for text in _SPELLINGS[kind] if text in special), None)

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer`."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, np.int32)

    def encode_words(self, texts: Sequence[str]) -> list[Encoded]:
        """See `Tokenizer`; words are those that the file's pre-tokenizer makes.

        Without one, words are divided by whitespace.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            Encoded(np.array(encoding.ids, np.int32), self._starts(text, encoding))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _starts(self, text: str, encoding: Any) -> np.ndarray:
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        begins, ends = offsets.T
        space = _is_space(text)
        if self._divides:
            # A token of no word is one that was added to the vocabulary.
            words = np.array([-1 if word is None else word for word in encoding.word_ids])
            starts = (np.diff(words, prepend=-1) != 0) | (words == -1)
        else:
            starts = space[begins]
        starts[:1] = True
        letters = np.concatenate([[0], np.cumsum(~space)])
        only_space = letters[begins] == letters[ends]
        starts[1:] &= ~only_space[:-1]
        return starts

    def encode_with_masks(self, text: str) -> np.ndarray:
        """See `Tokenizer`; the spelling of any special token becomes that token.

        Source: Hugging Face's tokenizers, which treat the spaces around a mask as the file says.
        """
        mask_id = required_token(self, "mask", "a text with masks")
        mask = self._tokenizer.id_to_token(mask_id)
        encoding = self._prompts.encode(text.replace(MASK_TEXT, mask), add_special_tokens=False)
        return np.array(encoding.ids, np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """See `Tokenizer`."""
        kept = [int(id) for id in ids if int(id) not in self.special_ids]
        return self._tokenizer.decode(kept, skip_special_tokens=True)

    def token(self, id: int) -> str:
        """See `Tokenizer`; as it is spelled in the vocabulary."""
        return self._tokenizer.id_to_token(id) or f"<{id}>"


def _read(name: str, file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise TokenizerError(
            f"tokenizer '{name}' needs the package tokenizers, which is not installed; "
            f"{how_to_install('text')}"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises no type of its own
        raise TokenizerError(f"tokenizer '{name}' cannot be read from {file}: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _named_specials(folder: Path) -> dict[str, str]:
    """Spellings by kind, as the files beside a tokenizer name them."""
    named = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            tree = json.loads((folder / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise TokenizerError(f"{folder / file} is not valid JSON: {error}") from error
        for kind in _SPELLINGS:
            token = tree.get(f"{kind}_token")
            token = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(token, str):
                named[kind] = token
    return named


@functools.cache
def _space_table() -> np.ndarray:
    """Whether a character is whitespace, by its number; none beyond the table is."""
    return np.array([chr(i).isspace() for i in range(0x3001)] + [False])


def _is_space(text: str) -> np.ndarray:
    """[characters + 1] bool; the last stands for the end."""
    table = _space_table()
    numbers = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.append(table[np.minimum(numbers, len(table) - 1)], False)


def fetch(name: str) -> Path:
    """The files of a tokenizer of the hub, in its cache on this machine.

    Args:
        name: 'name' or 'owner/name'. With HF_HUB_OFFLINE=1, and where there is no network, the
            cache alone decides.

    Raises:
        TokenizerError: there is no such tokenizer, or it cannot be had.
    """
    missing = f"no tokenizer '{name}': there is no such file or folder here"
    if not _HUB_ID.fullmatch(name) or name.endswith((".json", ".model")):
        raise TokenizerError(
            f"{missing}; expected 'bytes', a path that exists, or the id of a tokenizer of "
            f"Hugging Face's hub{_how_to_train(name)}"
        )
    try:
        import huggingface_hub
    except ImportError:
        raise TokenizerError(
            f"{missing}; to read it as an id of Hugging Face's hub, {how_to_install('hub', 'text')}"
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:
        # Errors of the hub, of its HTTP client and of the disk have no common base.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TokenizerError(
            f"{missing}; as an id of Hugging Face's hub it is not in this machine's cache, and "
            f"cannot be downloaded ({first}). Check the id and the network, or name a local file"
        ) from None


def _how_to_train(name: str) -> str:
    if not name.endswith(".json"):
        return ""
    return (
        ". To train one: python -m perceiver_jax.data.text.train_tokenizer --dataset=DATASET "
        f"--out={name}; the head of a config file has the options that it was made for"
    )
