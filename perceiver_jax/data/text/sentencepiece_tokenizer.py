"""SentencePiece models: a `.model` file, with the special tokens that are in it."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.text.tokenizers import (
    MASK_TEXT,
    Encoded,
    TokenizerError,
    join_with_masks,
    required_token,
)
from perceiver_jax.errors import how_to_install

_SPACE = "\u2581"
"""How pieces spell a space."""
_NO_PREFIX, _PREFIX = b"\x1a\x02\x18\x00", b"\x1a\x02\x18\x01"
"""Behind a model: `normalizer_spec.add_dummy_prefix` is false, or true, whatever it was before.

A model file is a protocol buffer, and of a field that comes twice the last one holds.
"""


class SentencePieceTokenizer:
    """A tokenizer of the package sentencepiece.

    Args:
        name: what users call it.
        path: the model file.

    Raises:
        TokenizerError: the file cannot be read, or the package is not installed.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        model = _contents(name, path)
        self._model = _parse(name, path, model)
        self.fingerprint = hashlib.sha256(b"sentencepiece" + model).hexdigest()
        self.files: Mapping[str, bytes] = {"tokenizer.model": model}
        self.vocab_size: int = self._model.get_piece_size()
        self.pad_id = _if_any(self._model.pad_id(), self._piece("<pad>", "[PAD]"))
        self.eos_id = _if_any(self._model.eos_id(), self._piece("<eos>", "[EOS]"))
        self.mask_id = self._piece("<mask>", MASK_TEXT)
        self.cls_id = self._piece("<cls>", "[CLS]", "<s>")
        self.sep_id = self._piece("<sep>", "[SEP]", "</s>")
        no_text = {
            i
            for i in range(self.vocab_size)
            if self._model.is_control(i) or self._model.is_unknown(i)
        }
        named = {self.pad_id, self.eos_id, self.mask_id, self.cls_id, self.sep_id}
        self.special_ids = frozenset(no_text | {id for id in named if id is not None})
        pieces = [self._model.id_to_piece(i) for i in range(self.vocab_size)]
        self._begins_with_space = np.array([piece.startswith(_SPACE) for piece in pieces])
        self._only_space = np.array([not piece.strip(_SPACE) for piece in pieces])

    def _piece(self, *spellings: str) -> int | None:
        found = (self._model.piece_to_id(piece) for piece in spellings)
        return next((id for id in found if id >= 0 and not self._model.is_unknown(id)), None)

    def encode(self, text: str) -> np.ndarray:
        """See `Tokenizer`; symbols that the model's maker defined are found in texts, too."""
        return np.array(self._model.encode(text), np.int32)

    def encode_words(self, texts: Sequence[str]) -> list[Encoded]:
        """See `Tokenizer`; a word begins with a space."""
        return [
            Encoded(ids, self._starts(ids))
            for ids in (np.array(row, np.int32) for row in self._model.encode(list(texts)))
        ]

    def _starts(self, ids: np.ndarray) -> np.ndarray:
        starts = self._begins_with_space[ids]
        starts[:1] = True
        starts[1:] &= ~self._only_space[ids[:-1]]
        return starts

    def encode_with_masks(self, text: str) -> np.ndarray:
        """See `Tokenizer`; a space before a mask is part of what it hides.

        With the pieces of what was hidden in its place, the ids are those of the whole text.
        """
        mask_id = required_token(self, "mask", "a text with masks")
        mask = self._model.id_to_piece(mask_id)
        first, *others = text.replace(MASK_TEXT, mask).split(mask)
        if not others:
            return self.encode(first)
        *inner, last = others
        parts = [self.encode(first.removesuffix(" "))]
        parts += [self._encode_after_mask(part.removesuffix(" ")) for part in inner]
        return join_with_masks([*parts, self._encode_after_mask(last)], mask_id)

    def _encode_after_mask(self, part: str) -> np.ndarray:
        """Ids of what goes on with a word, or begins another one: only that has a space."""
        goes_on, begins = self._inner_models
        spaced = part[:1].isspace()
        return np.array(begins.encode(part[1:]) if spaced else goes_on.encode(part), np.int32)

    @functools.cached_property
    def _inner_models(self) -> tuple[Any, Any]:
        """The model without a space put before texts, and with one."""
        model = self.files["tokenizer.model"]
        return tuple(_parse(self.name, Path(self.name), model + x) for x in (_NO_PREFIX, _PREFIX))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """See `Tokenizer`."""
        return self._model.decode([int(id) for id in ids if int(id) not in self.special_ids])

    def token(self, id: int) -> str:
        """See `Tokenizer`; as it is spelled in the vocabulary."""
        return self._model.id_to_piece(id)


def _if_any(id: int, otherwise: int | None) -> int | None:
    """The package's -1 stands for no token."""
    return id if id >= 0 else otherwise


def _contents(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"tokenizer '{name}' cannot be read from {path}: {error}") from error


def _parse(name: str, path: Path, model: bytes) -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise TokenizerError(
            f"tokenizer '{name}' needs the package sentencepiece, which is not installed; "
            f"{how_to_install('text')}"
        ) from None
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except Exception as error:
        raise TokenizerError(f"{path} is no SentencePiece model: {error}") from error
