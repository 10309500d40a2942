"""From text to token ids and back.

- `ByteTokenizer` needs no files; `fast_tokenizer` and `sentencepiece_tokenizer` read foreign ones.
- Words, for whole-word masking: whitespace belongs to the word that follows it.
- Text that spells a special token does not become it, except in `encode_with_masks`, and in
  SentencePiece models that define it as a symbol of texts: these find it in every text.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from perceiver_jax.errors import UserError

MASK_TEXT = "[MASK]"
"""What stands for the mask token in texts given to any tokenizer."""


class TokenizerError(UserError):
    """A tokenizer that is not there, cannot be read, or lacks a token that is needed."""


class Encoded(NamedTuple):
    """Tokens of a text."""

    ids: np.ndarray
    """[n] int32"""
    starts_word: np.ndarray
    """[n] bool; False where a token continues the word of the one before"""


class Tokenizer(Protocol):
    """A vocabulary, and how text is divided into it."""

    name: str
    """what `load_tokenizer` takes"""
    vocab_size: int
    pad_id: int | None
    mask_id: int | None
    cls_id: int | None
    sep_id: int | None
    eos_id: int | None
    special_ids: frozenset[int]
    """ids that stand for no text, or for unknown text: never predicted, never put in at random"""
    fingerprint: str
    """SHA-256 of everything that shapes the ids, in hexadecimal digits"""
    files: Mapping[str, bytes]
    """what `tokenizer_from_files` needs to make it again, the main file first; none for bytes"""

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text, [n] int32; no special tokens are put around it."""
        ...

    def encode_words(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids of many texts, and where their words start."""
        ...

    def encode_with_masks(self, text: str) -> np.ndarray:
        """Ids of a text in which '[MASK]', or the tokenizer's own word for it, is the mask token.

        Raises:
            TokenizerError: the tokenizer has no mask token.
        """
        ...

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids; special tokens are left out."""
        ...

    def token(self, id: int) -> str:
        """One token as it can be shown."""
        ...


class ByteTokenizer:
    """UTF-8 bytes, moved up by six special tokens.

    Source: deepmind `BytesTokenizer`; Hugging Face `PerceiverTokenizer`.
    """

    name = "bytes"
    vocab_size = 262
    pad_id: int | None = 0
    bos_id: int | None = 1
    eos_id: int | None = 2
    mask_id: int | None = 3
    cls_id: int | None = 4
    sep_id: int | None = 5
    special_ids = frozenset(range(6))
    files: Mapping[str, bytes] = MappingProxyType({})
    fingerprint = hashlib.sha256(b"UTF-8 bytes + 6; words start where whitespace does").hexdigest()
    _SPECIAL_NAMES = ("[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]")

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer`; a lone surrogate, which UTF-8 cannot hold, becomes '?'."""
        encoded = np.frombuffer(text.encode("utf-8", errors="replace"), np.uint8)
        return encoded.astype(np.int32) + len(self._SPECIAL_NAMES)

    def encode_words(self, texts: Sequence[str]) -> list[Encoded]:
        """See `Tokenizer`; words are divided by ASCII whitespace.

        Source: krasserm `PerceiverTokenizerUtil.word_ids`.
        """
        return [Encoded(ids, _starts_of_runs(_IS_SPACE[ids])) for ids in map(self.encode, texts)]

    def encode_with_masks(self, text: str) -> np.ndarray:
        """See `Tokenizer`."""
        parts = [self.encode(part) for part in text.split(MASK_TEXT)]
        return join_with_masks(parts, required_token(self, "mask", "a text with masks"))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """See `Tokenizer`; bytes that are not UTF-8 become U+FFFD."""
        codes = np.asarray(ids, np.int64) - len(self._SPECIAL_NAMES)
        return codes[codes >= 0].astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def token(self, id: int) -> str:
        """See `Tokenizer`; what is no printable ASCII is a hexadecimal number."""
        if id < len(self._SPECIAL_NAMES):
            return self._SPECIAL_NAMES[id]
        byte = id - len(self._SPECIAL_NAMES)
        return chr(byte) if 32 <= byte < 127 else f"<0x{byte:02X}>"


_IS_SPACE = np.zeros(ByteTokenizer.vocab_size, bool)
_IS_SPACE[np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8) + 6] = True


def _starts_of_runs(space: np.ndarray) -> np.ndarray:
    """Where whitespace begins, and the first token."""
    starts = space.copy()
    starts[1:] &= ~space[:-1]
    starts[:1] = True
    return starts


def join_with_masks(parts: Sequence[np.ndarray], mask_id: int) -> np.ndarray:
    """Ids of parts of a text with one mask between each two."""
    mask = np.array([mask_id], np.int32)
    return np.concatenate([piece for part in parts for piece in (mask, part)][1:])


def required_token(tokenizer: Tokenizer, kind: str, purpose: str) -> int:
    """The id of a special token.

    Args:
        tokenizer: where it is looked for.
        kind: "pad", "mask", "cls", "sep" or "eos".
        purpose: what it is needed for, for the error message.

    Raises:
        TokenizerError: the tokenizer has no such token.
    """
    id = getattr(tokenizer, f"{kind}_id")
    if id is None:
        raise TokenizerError(
            f"tokenizer '{tokenizer.name}' has no {kind} token, which {purpose} needs; choose "
            "another tokenizer, or add the token to its file"
        )
    return id


@functools.lru_cache(maxsize=8)
def load_tokenizer(name: str) -> Tokenizer:
    """Opens a tokenizer, once.

    Args:
        name: "bytes"; a `tokenizer.json`, a folder that holds one, or a SentencePiece `.model`
            file; or the id of a tokenizer of Hugging Face's hub, 'name' or 'owner/name'. What
            exists here is never looked up there.

    Raises:
        TokenizerError: it is not there, cannot be read, or a package is missing.
    """
    if name == "bytes":
        return ByteTokenizer()
    if os.path.exists(name):
        return _from_path(name, Path(name))
    from perceiver_jax.data.text.fast_tokenizer import fetch

    return _from_path(name, fetch(name))


def tokenizer_from_files(name: str, files: Mapping[str, bytes]) -> Tokenizer:
    """A tokenizer from the `files` of one.

    Args:
        name: of the main file.
        files: contents by name.

    Raises:
        TokenizerError: the file is not there, cannot be read, or a package is missing.
    """
    if name not in files:
        raise TokenizerError(
            f"tokenizer '{name}' is not among the files of this model, which are "
            f"{', '.join(files) or 'none'}"
        )
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            Path(folder, Path(file).name).write_bytes(content)
        return _from_path(name, Path(folder))


def _from_path(name: str, path: Path) -> Tokenizer:
    from perceiver_jax.data.text.fast_tokenizer import FastTokenizer
    from perceiver_jax.data.text.sentencepiece_tokenizer import SentencePieceTokenizer

    if path.is_dir() and not (path / "tokenizer.json").is_file():
        models = sorted(path.glob("*.model"))
        if len(models) != 1:
            raise TokenizerError(
                f"tokenizer '{name}' has neither a tokenizer.json nor one SentencePiece .model "
                "file; a slow tokenizer of Python code cannot be used (the one of UTF-8 bytes is "
                "built in: tokenizer='bytes')"
            )
        path = models[0]
    if path.suffix == ".model":
        return SentencePieceTokenizer(name, path)
    return FastTokenizer(name, path)
