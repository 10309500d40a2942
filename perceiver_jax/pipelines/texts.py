"""What pipelines of text have in common: a model's tokenizer, texts from files, batches of rows."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perceiver_jax.card import TextPreprocessing
from perceiver_jax.data.marked_bytes import VOCAB_SIZE as MARKED_BYTES
from perceiver_jax.data.text.readers import text_lines
from perceiver_jax.data.text.tokenizers import (
    ByteTokenizer,
    Tokenizer,
    load_tokenizer,
    required_token,
    tokenizer_from_files,
)
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig, TextEncoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.models.release import Release
from perceiver_jax.pipelines.model_kinds import kind_of

SMALLEST_LENGTH = 32
"""Tokens that rows are filled up to at least, so that few lengths are compiled."""


class TextReader:
    """Turns texts into what a model reads.

    Args:
        release: a model of text; its card tells the tokenizer.
        tokenizer: another one, as `load_tokenizer` takes it; None takes that of the card, or bytes
            for a model of 262 tokens that has no card.

    Raises:
        UserError: the model reads no text, or its tokenizer is not known or has other ids.
    """

    def __init__(self, release: Release, tokenizer: str | None = None):
        encoder = half_of(release.config, "encoder")
        if not isinstance(encoder, TextEncoderConfig | CausalSequenceConfig):
            raise UserError(
                f"{kind_of(release.config)} reads no text; take a model of text "
                "(TextEncoderConfig or CausalSequenceConfig)"
            )
        self.max_seq_len = encoder.max_seq_len
        text = release.card.text
        self.tokenizer = _tokenizer(release, text, encoder.vocab_size, tokenizer)
        if self.tokenizer.vocab_size != encoder.vocab_size:
            raise UserError(
                f"tokenizer '{self.tokenizer.name}' has {self.tokenizer.vocab_size:,} ids, the "
                f"model {encoder.vocab_size:,}; " + _remedy(encoder.vocab_size, "the model's own")
            )
        self.pad_id = required_token(self.tokenizer, "pad", "a batch of texts")
        self.around: tuple[int, int] | None = None
        if text is not None and text.add_special_tokens:
            cls_id, sep_id = (
                required_token(self.tokenizer, kind, "this model") for kind in ("cls", "sep")
            )
            self.around = (cls_id, sep_id)

    def token_id(self, token: str) -> int:
        """The id of one token that a user names.

        Args:
            token: its id in digits; as the vocabulary spells it, which special tokens need; or a
                text that is one token.

        Raises:
            UserError: it is no token, or several.
        """
        if token.isdecimal():
            return int(token)
        every_id = range(self.tokenizer.vocab_size)
        spelled = [id for id in every_id if self.tokenizer.token(id) == token]
        ids = spelled or self.tokenizer.encode(token).tolist()
        if len(ids) != 1:
            raise UserError(
                f"'{token}' is {len(ids)} tokens of tokenizer '{self.tokenizer.name}', not one; "
                "give the text of a single token, or its id"
            )
        if not spelled and ids[0] in self.tokenizer.special_ids:
            raise UserError(
                f"tokenizer '{self.tokenizer.name}' has no token for '{token}'; give the text of "
                "one that it has, or its id"
            )
        return ids[0]

    @property
    def max_text_len(self) -> int:
        """Most tokens of text in a row."""
        return self.max_seq_len - (2 if self.around else 0)

    def rows(self, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Parts of texts, [n] ids each, as a batch [B, M] of ids and its mask."""
        framed = [self._framed(part) for part in parts]
        ids = np.full((len(framed), self._length(max(map(len, framed)))), self.pad_id, np.int32)
        mask = np.zeros(ids.shape, bool)
        for i, row in enumerate(framed):
            ids[i, : len(row)], mask[i, : len(row)] = row, True
        return ids, mask

    @property
    def offset(self) -> int:
        """Where the text begins in a row."""
        return 1 if self.around else 0

    def _framed(self, part: np.ndarray) -> np.ndarray:
        if self.around is None:
            return part
        return np.concatenate([self.around[:1], part, self.around[1:]]).astype(np.int32)

    def _length(self, needed: int) -> int:
        length = SMALLEST_LENGTH
        while length < needed:
            length *= 2
        return min(length, self.max_seq_len)


def _tokenizer(
    release: Release, text: TextPreprocessing | None, vocab_size: int, given: str | None
) -> Tokenizer:
    if given is not None:
        return load_tokenizer(given)
    if text is not None and text.tokenizer != "bytes":
        return tokenizer_from_files(text.tokenizer, release.files)
    if text is not None or vocab_size == ByteTokenizer.vocab_size:
        return ByteTokenizer()
    raise UserError(
        f"this model of {vocab_size:,} tokens does not say which tokenizer it was trained with; "
        + _remedy(vocab_size, "it")
    )


def _remedy(vocab_size: int, tokenizer: str) -> str:
    """What to do about a model of so many ids whose tokenizer is not there."""
    if vocab_size == MARKED_BYTES:
        return (
            f"{MARKED_BYTES} ids are, as a rule, bytes behind three markers, of a copy task or of "
            "images: these are no text, and have no tokenizer; give ids to the model itself"
        )
    return f"give {tokenizer} with --tokenizer, if its data was text"


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file; `-` is what comes in at standard input.

    Raises:
        UserError: there is no such file, or it is not UTF-8.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}; "
            "convert it, with iconv for example"
        ) from error


def gather_texts(
    texts: Sequence[str], files: Sequence[Path] = (), lines: Sequence[Path] = ()
) -> list[str]:
    """Texts as given, whole files, and the lines of files that are not blank.

    Raises:
        UserError: there are none, or one of them is empty.
    """
    found = [*texts, *map(read_text, files)]
    for path in lines:
        found += [line for line in text_lines(read_text(path)) if line.strip()]
    if not found:
        raise UserError("there is no text; give one, or a file with --file or --lines")
    for number, text in enumerate(found, start=1):
        if not text.strip():
            raise UserError(f"text {number} of {len(found)} is empty; leave it out")
    for text in texts:
        if len(text) < 256 and Path(text).is_file():
            print(f"note: '{text}' is read as a text; --file reads that file", file=sys.stderr)
    for text in found:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"character {error.start + 1} of a text on the command line is not UTF-8; convert "
                "the text, or give it as a file"
            ) from error
    return found
