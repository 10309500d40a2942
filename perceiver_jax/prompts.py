"""What is asked of a model that continues sequences, checked before work starts.

- Prompts of different lengths stand in one array, filled up on the left.
"""

import dataclasses
import functools
import inspect
import operator
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from perceiver_jax.config import suggestion
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.sampling import whole_number
from perceiver_jax.windows import (
    Refill,
    Window,
    next_power_of_two,
    padded,
    usual_num_latents,
    window,
)

F = TypeVar("F", bound=Callable[..., Any])

_SAMPLING, _BEAMS = "sampling=Sampling({}=…)", "search=BeamSearch({}=…)"
ELSEWHERE = {
    **dict.fromkeys(("temperature", "top_k", "top_p"), _SAMPLING),
    **dict.fromkeys(("num_beams", "length_penalty", "early_stopping"), _BEAMS),
    "penalty_alpha": "search=ContrastiveSearch({}=…)",
    "eos_token_id": "stop_tokens=[…]",
    "seed": "key=jax.random.key(…)",
    "stop": "stop_tokens=[…]",
}
"""Arguments that are not those of `generate`, and what to give in their place."""


def known_settings(**elsewhere: str) -> Callable[[F], F]:
    """Makes a function that generates refuse arguments of unknown names by what they may mean.

    Args:
        **elsewhere: what to give in place of an argument, where it is not that of `ELSEWHERE`.

    Raises:
        TypeError: at the call.
    """

    def decorate(function: F) -> F:
        known = list(inspect.signature(function).parameters)
        name = function.__qualname__.removesuffix(".__call__")

        @functools.wraps(function)
        def checked(*args, **arguments):
            for given in arguments:
                if given in known:
                    continue
                if instead := (ELSEWHERE | elsewhere).get(given):
                    hint = f"; give {instead.format(given)}"
                else:
                    hint = suggestion(given, [n for n in known if n != "self"])
                raise TypeError(f"{name} takes no argument '{given}'{hint}")
            return function(*args, **arguments)

        return typing.cast(F, checked)

    return decorate


@dataclasses.dataclass(frozen=True)
class Request:
    """Sequences to continue.

    Attributes:
        config: of the model.
        tokens: [B, n] int32 ids, filled up on the left.
        mask: [B, n] bool, True = a token.
        max_new_tokens: most tokens for each.
        num_latents: latents that the longest sequence ends with.
        stop_tokens: a sequence ends with the first of them.
        suppress_tokens: what is never chosen.
        refill: what happens when latents are used up, see `windows`.
    """

    config: CausalSequenceConfig
    tokens: np.ndarray
    mask: np.ndarray
    max_new_tokens: int
    num_latents: int
    stop_tokens: tuple[int, ...]
    suppress_tokens: tuple[int, ...]
    refill: Refill

    @classmethod
    def checked(
        cls,
        config: CausalSequenceConfig,
        prompts: Sequence[Any],
        *,
        max_new_tokens: int,
        num_latents: int | None,
        stop_tokens: Sequence[int],
        suppress_tokens: Sequence[int],
        refill: Refill,
    ) -> "Request":
        """From what users give, see `generate`.

        Raises:
            UserError: no prompt, an empty or too long one, a token or a number out of range.
        """
        max_new_tokens = whole_number("max_new_tokens", max_new_tokens)
        if refill not in typing.get_args(Refill):
            raise UserError(f"refill={refill!r} is not valid; it takes 'half' or 'every'")
        _check_steps(config, refill)
        tokens, mask = _left_padded(prompts, config.vocab_size)
        num_latents = _checked_num_latents(config, tokens.shape[1], num_latents)
        suppressed = _known("suppress_tokens", suppress_tokens, config.vocab_size)
        if len(set(suppressed)) == config.vocab_size:
            raise UserError("suppress_tokens has every token, and none is left to choose from")
        return cls(
            config=config,
            tokens=tokens,
            mask=mask,
            max_new_tokens=max_new_tokens,
            num_latents=num_latents,
            stop_tokens=_known("stop_tokens", stop_tokens, config.vocab_size),
            suppress_tokens=suppressed,
            refill=refill,
        )

    def window(self, num_new: int) -> Window:
        """What the model is called on after so many new tokens, if its cache is made there."""
        seen = window(
            self.tokens.shape[1] + num_new,
            None if num_new else self.num_latents,
            max_seq_len=self.config.max_seq_len,
            max_latents=self.config.max_latents,
            refill=self.refill,
        )
        return dataclasses.replace(seen, num_steps=1) if self.why_no_steps else seen

    @property
    def why_no_steps(self) -> str | None:
        """Why each token takes a whole call of this model, or None where cached steps do."""
        return self.config.why_no_steps(embedded=self.config.abs_pos_emb)

    def room(self, num_steps: int, num_new: int) -> int:
        """For how many tokens after so many new ones a cache is made: one of few numbers.

        All that are asked for, or all that the window has steps for.
        """
        return min(num_steps, next_power_of_two(self.max_new_tokens - num_new))

    def seen(self, new: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids from a token on, and their mask.

        Args:
            new: [B, n] new tokens, or [B * k, n] of k continuations of each sequence.
            first: the first token that is seen.
        """
        copies = len(new) // len(self.tokens)
        tokens, mask = (np.repeat(x, copies, axis=0) for x in (self.tokens, self.mask))
        tokens = np.concatenate([tokens, new], axis=1)
        mask = np.concatenate([mask, np.ones(new.shape, bool)], axis=1)
        return padded(tokens, mask, first, self.config.max_seq_len)


def _check_steps(config: CausalSequenceConfig, refill: Refill) -> None:
    if len(config.position_shape or (0,)) > 1:
        raise UserError(
            f"tokens of this model have {len(config.position_shape or ())} positions, which "
            "counting does not tell; continue with model.prefill and model.step, which take them"
        )
    why = config.why_no_steps(embedded=config.abs_pos_emb)
    if why and refill != "every":
        raise UserError(f"{why}: each new token takes a whole call; take refill='every'")


def _left_padded(prompts: Sequence[Any], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """[B, n] int32 ids and their mask, filled up on the left."""
    try:
        prompts = list(prompts)
    except TypeError:
        raise UserError(
            f"prompts={prompts!r:.60} is no list of prompts; they look like [[1, 2, 3], [4, 5]]"
        ) from None
    if not prompts:
        raise UserError("there is no prompt; give one or more")
    rows = [_ids_of(prompt, i, vocab_size) for i, prompt in enumerate(prompts)]
    longest = max(map(len, rows))
    ids = np.stack([np.pad(row, (longest - len(row), 0)) for row in rows])
    return ids, np.arange(longest)[None] >= longest - np.array([[len(row)] for row in rows])


def _ids_of(prompt: Any, i: int, vocab_size: int) -> np.ndarray:
    try:
        ids = np.asarray(prompt)
    except ValueError:  # rows of different lengths
        ids = np.zeros((0, 0))
    if ids.ndim == 1 and not len(ids):
        raise UserError(f"prompt {i} is empty; give at least one token to begin with")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(
            f"prompt {i} is {prompt!r:.60}, not a sequence of token ids; prompts look like "
            "[[1, 2, 3], [4, 5]]"
        )
    wrong = ids[(ids < 0) | (ids >= vocab_size)]
    if len(wrong):
        raise UserError(
            f"prompt {i} has token {wrong[0]}, the model knows 0 to {vocab_size - 1}; was it made "
            "with another tokenizer?"
        )
    return ids.astype(np.int32)


def last_tokens(tokens: np.ndarray, max_seq_len: int, what: str) -> np.ndarray:
    """As many of the last tokens as a model takes; warns of what it does not see.

    Args:
        tokens: [n] ids.
        max_seq_len: most that the model takes.
        what: what the tokens are, as in "a text".
    """
    if len(tokens) > max_seq_len:
        warnings.warn(
            f"{what} of {len(tokens):,} tokens is longer than this model's context, max_seq_len="
            f"{max_seq_len:,}: the first {len(tokens) - max_seq_len:,} are not seen",
            stacklevel=2,
        )
    return tokens[-max_seq_len:]


def token_ids(name: str, tokens: Iterable[Any]) -> tuple[int, ...]:
    """Some tokens as users give them.

    Args:
        name: what users call them.
        tokens: what they gave.

    Raises:
        UserError: these are no whole numbers, or not several.
    """
    try:
        return tuple(operator.index(token) for token in tokens)
    except TypeError:
        raise UserError(
            f"{name}={tokens!r:.60} is no list of token ids, which are whole numbers; give them as "
            f"in {name}=[0]"
        ) from None


def _known(name: str, tokens: Sequence[int], vocab_size: int) -> tuple[int, ...]:
    ids = token_ids(name, tokens)
    for token in ids:
        if not 0 <= token < vocab_size:
            raise UserError(f"{name} has {token}, the model knows 0 to {vocab_size - 1}")
    return ids


def _checked_num_latents(
    config: CausalSequenceConfig, num_tokens: int, num_latents: int | None
) -> int:
    """With how many latents the longest prompt, of so many tokens, begins.

    Raises:
        UserError: that many do not go with this model or this prompt, which may be too long.
    """
    if num_latents is None:
        num_latents = usual_num_latents(
            num_tokens, max_seq_len=config.max_seq_len, max_latents=config.max_latents
        )
    else:
        num_latents = whole_number(
            "num_latents", num_latents, ", or leave it out for the usual number"
        )
    if num_latents > config.max_latents:
        raise UserError(
            f"num_latents={num_latents} is not between 1 and max_latents={config.max_latents} of "
            "this model"
        )
    if num_tokens > config.max_seq_len:
        raise UserError(
            f"a prompt of {num_tokens:,} tokens is longer than this model's context, "
            f"max_seq_len={config.max_seq_len:,}; give at most that many, the last ones"
        )
    most = config.max_seq_len - config.max_latents
    if num_tokens - min(num_latents, num_tokens) > most:
        raise UserError(
            f"a prompt of {num_tokens:,} tokens with num_latents={num_latents} has a prefix longer "
            f"than {most:,}, which is max_seq_len={config.max_seq_len:,} less max_latents="
            f"{config.max_latents:,}; give num_latents={num_tokens - most} or more"
        )
    return num_latents
