"""A text whose tokens come one after the other: what is new in it, and where it ends.

- Only the last tokens are decoded at each step, from a place on where that makes no difference.
- A text ends before the stop text that is complete first, however it was divided into tokens.
"""

from collections.abc import Iterable, Sequence

from perceiver_jax.data.text.tokenizers import Tokenizer
from perceiver_jax.errors import UserError

MOST_TOKENS = 64
"""Where more have been decoded together, the first of them are left out."""
_INCOMPLETE = "\ufffd"
"""What bytes are decoded to that are no whole character yet."""


def checked_stop_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Stop texts as users give them.

    Raises:
        UserError: it is no sequence of texts, or one is empty.
    """
    if isinstance(texts, str):
        raise UserError(f"stop_texts={texts!r} is one text; give a list of them")
    if not isinstance(texts, Iterable):
        raise UserError(f"stop_texts={texts!r} is no list of texts; give one, as in ['.']")
    texts = tuple(texts)
    for text in texts:
        if not isinstance(text, str):
            raise UserError(
                f"stop_texts has {text!r}, which is no text; give texts, as in ['.'], and ids of "
                "tokens as stop_tokens"
            )
    if not all(texts):
        raise UserError("there is an empty stop text; give at least a character")
    return texts


def until_stop(text: str, stop_texts: Iterable[str]) -> str | None:
    """What stands before the stop text that ends first, the longest if several do; None: no one."""
    found = ((text.find(stop), stop) for stop in stop_texts)
    ends = [(start + len(stop), start) for start, stop in found if start >= 0]
    return text[: min(ends)[1]] if ends else None


class GrowingText:
    """Gives a text in pieces that no further token changes; joined they are the whole.

    Args:
        tokenizer: decodes tokens.
        stop_tokens: ids that end the text, which they are no part of.
        stop_texts: what ends the text, and is no part of it.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_tokens: Sequence[int] = (), stop_texts: Sequence[str] = ()
    ):
        self.ended = False
        self._tokenizer = tokenizer
        self._stop_tokens, self._stop_texts = frozenset(stop_tokens), tuple(stop_texts)
        self._tokens: list[int] = []
        self._num_known = 0
        """Characters of what these are decoded to that have been taken from there."""
        self._held = ""
        """The last of them, which a stop text may begin with."""

    def add(self, tokens: Iterable[int]) -> str:
        """The next piece, with more tokens; nothing once the text has ended."""
        if self.ended:
            return ""
        for token in tokens:
            if token in self._stop_tokens:
                return self.rest()
            self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens)
        if text.endswith(_INCOMPLETE):
            return ""
        piece = self._released(text[self._num_known :])
        self._num_known = len(text)
        if len(self._tokens) > MOST_TOKENS:
            self._leave_out(text)
        return piece

    def rest(self) -> str:
        """The last piece, when no tokens follow."""
        if self.ended:
            return ""
        text = self._tokenizer.decode(self._tokens)[self._num_known :]
        piece = self._released(text) + self._held
        self.ended, self._held = True, ""
        return piece

    def _released(self, new: str) -> str:
        """Of the text that is held and what is new: all that cannot be part of a stop text."""
        text = self._held + new
        before = until_stop(text, self._stop_texts)
        if before is not None:
            self.ended, self._held = True, ""
            return before
        held = max((_overlap(text, stop) for stop in self._stop_texts), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def _leave_out(self, text: str) -> None:
        """Forgets tokens, if what the others are decoded to is the end of the text as it is.

        Something else than spaces must be left: decoders drop those at the beginning of a text.
        """
        last = self._tokens[-MOST_TOKENS // 2 :]
        end = self._tokenizer.decode(last)
        if end.strip() and text.endswith(end):
            self._tokens, self._num_known = last, len(end)


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of a longer stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
