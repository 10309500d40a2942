"""Continues sequences with a causal sequence model, token by token, by cached and compiled steps.

How a sequence grows (T tokens so far, of which the last are latents):
- Each new token becomes a latent, and all earlier ones stay as they are: the cached step computes
  what the whole model would.
- Once the model's latents are used up, the oldest of them become part of the prefix. The others
  then see them as inputs, so everything after them changes, and the cache is made anew: with
  `refill="half"` for the newer half of the latents, which leaves room for as many steps
  (DeepMind's way); with `refill="every"` for all of them at every token, which is slow.
- Beyond the prefix that the model has room for, the oldest tokens are forgotten, when the cache is
  made; positions count from the first that is left.

Either way each step is the model's own call on `window`'s tokens and latents.
"""

import dataclasses
import functools
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perceiver_jax.core.cache import Cache
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.sampling import ANY_TOKEN, Sampling
from perceiver_jax.typing import Array, Key

MIN_WIDTH = 16
"""Sequences are padded to powers of two from here on, so that few programs are compiled."""
CHUNK = 64
"""Steps of one call of a compiled program."""

Refill = Literal["half", "every"]


@dataclasses.dataclass(frozen=True)
class Window:
    """What the model is called on when its cache is made.

    Attributes:
        first: first token that it still sees, of those so far.
        num_latents: latents at the end of them.
        num_steps: tokens that can be made from there.
    """

    first: int
    num_latents: int
    num_steps: int


def window(
    num_tokens: int,
    num_latents: int | None = None,
    *,
    max_seq_len: int,
    max_latents: int,
    refill: Refill,
) -> Window:
    """The window after so many tokens.

    Args:
        num_tokens: tokens so far.
        num_latents: latents to begin with; None: as many as are kept when all were used up.
        max_seq_len: most tokens of the model.
        max_latents: most latents of the model.
        refill: see the head of this file.
    """
    if num_latents is None:
        num_latents = max_latents if refill == "every" else max(1, max_latents // 2)
    kept = min(num_latents, num_tokens)
    prefix = min(num_tokens - kept, max_seq_len - max_latents)
    return Window(num_tokens - prefix - kept, kept, max_latents - kept + 1)


def generate(
    model: Any,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int,
    num_latents: int | None = None,
    sampling: Sampling = ANY_TOKEN,
    stop_tokens: Sequence[int] = (),
    refill: Refill = "half",
    key: Key | None = None,
) -> list[np.ndarray]:
    """New tokens for each prompt.

    Args:
        model: a `CausalSequenceModel`.
        prompts: sequences of token ids, of any lengths.
        max_new_tokens: most tokens for each.
        num_latents: latents that the longest prompt ends with, 1 to `max_latents`; more make the
            model look closer at the prompt's end, and leave fewer steps until they are used up.
            None: half of `max_latents`, as far as the prompt has tokens, or as many as it needs.
        sampling: how tokens are chosen.
        stop_tokens: a sequence ends with the first of them, which is part of the result.
        refill: what happens when latents are used up, see the head of this file.
        key: random key; None: the same each time.

    Returns:
        For each prompt its new tokens, without the prompt.

    Raises:
        UserError: no prompt, an empty or too long one, a token or a number out of range.
    """
    steps = stream(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        num_latents=num_latents,
        sampling=sampling,
        stop_tokens=stop_tokens,
        refill=refill,
        key=key,
        at_once=CHUNK,
    )
    tokens = np.concatenate(list(steps), axis=1)
    return [_until_stop(row, stop_tokens) for row in tokens]


def stream(
    model: Any,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int,
    num_latents: int | None = None,
    sampling: Sampling = ANY_TOKEN,
    stop_tokens: Sequence[int] = (),
    refill: Refill = "half",
    key: Key | None = None,
    at_once: int = 1,
) -> Iterator[np.ndarray]:
    """New tokens as they are made, [B, n] with n up to `at_once`; see `generate`.

    Ends when every sequence had a stop token; what follows a stop token means nothing.
    """
    if max_new_tokens < 1 or at_once < 1:
        raise UserError(f"max_new_tokens={max_new_tokens} and at_once={at_once} must be 1 or more")
    if refill not in typing.get_args(Refill):
        raise UserError(f"refill={refill!r} is not valid; it takes 'half' or 'every'")
    tokens, mask = _left_padded(prompts, model.config.vocab_size)
    if num_latents is None:
        num_latents = _usual_num_latents(model.config, tokens.shape[1])
    _check(model.config, tokens.shape[1], num_latents)
    return _stream(
        model,
        tokens,
        mask,
        max_new_tokens=max_new_tokens,
        num_latents=num_latents,
        sampling=sampling,
        stop_tokens=tuple(int(token) for token in stop_tokens),
        refill=refill,
        key=jax.random.key(0) if key is None else key,
        at_once=at_once,
    )


def _stream(
    model: Any,
    tokens: np.ndarray,
    mask: np.ndarray,
    *,
    max_new_tokens: int,
    num_latents: int,
    sampling: Sampling,
    stop_tokens: tuple[int, ...],
    refill: Refill,
    key: Key,
    at_once: int,
) -> Iterator[np.ndarray]:
    context, most = model.config.max_seq_len, model.config.max_latents
    begins_with: int | None = num_latents
    choice: dict[str, Any] = {"sampling": sampling, "stop": stop_tokens}
    finished = jnp.zeros(len(tokens), bool)
    num_made = 0
    while num_made < max_new_tokens:
        seen = window(
            tokens.shape[1], begins_with, max_seq_len=context, max_latents=most, refill=refill
        )
        begins_with = None
        left = min(seen.num_steps, max_new_tokens - num_made)
        state, cache = _begin(
            model,
            *_padded_window(tokens, mask, seen, context),
            key,
            finished,
            num_latents=seen.num_latents,
            num_steps=min(seen.num_steps, _next_power_of_two(left)) - 1,
            **choice,
        )
        new = np.asarray(state.token)[:, None]
        while True:
            tokens = np.concatenate([tokens, new], axis=1)
            mask = np.concatenate([mask, np.ones(new.shape, bool)], axis=1)
            num_made, left = num_made + new.shape[1], left - new.shape[1]
            yield new
            if np.asarray(state.finished).all():
                return
            if not left:
                break
            num_steps = min(left, at_once)
            state, cache, made = _go_on(model, state, cache, num_steps, size=at_once, **choice)
            new = np.asarray(made)[:, :num_steps]
        key, finished = state.key, state.finished


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("token", "key", "finished"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class _State:
    """After a step: the token [B] that was chosen, and which sequences [B] have ended."""

    token: Array
    key: Key
    finished: Array

    @classmethod
    def of(cls, logits, key, finished, *, sampling, stop) -> "_State":
        """Chooses a token from logits [B, V]."""
        key, now = jax.random.split(key)
        token = sampling(logits, now).astype(jnp.int32)
        for one in stop:
            finished = finished | (token == one)
        return cls(token, key, finished)


@functools.partial(jax.jit, static_argnames=("num_latents", "num_steps", "sampling", "stop"))
def _begin(model, ids, mask, key, finished, *, num_latents, num_steps, sampling, stop):
    """The first token after a window, and a cache with room for so many more."""
    logits, _, cache = model.prefill(ids, mask, num_latents=num_latents, num_steps=num_steps)
    return _State.of(logits, key, finished, sampling=sampling, stop=stop), cache


@functools.partial(jax.jit, static_argnames=("sampling", "stop", "size"), donate_argnames="cache")
def _go_on(model, state: _State, cache: Cache, num_steps, *, sampling, stop, size):
    """Some steps: the new state and cache, and tokens [B, size] of which the first are new."""
    made = jnp.zeros((len(state.finished), size), jnp.int32)

    def unfinished(carry):
        i, state, _, _ = carry
        return (i < num_steps) & ~state.finished.all()

    def step(carry):
        i, state, cache, made = carry
        logits, _, cache = model.step(state.token, cache)
        state = _State.of(logits, state.key, state.finished, sampling=sampling, stop=stop)
        made = lax.dynamic_update_slice_in_dim(made, state.token[:, None], i, axis=1)
        return i + 1, state, cache, made

    _, *result = lax.while_loop(unfinished, step, (0, state, cache, made))
    return tuple(result)


def _left_padded(prompts: Sequence[Any], vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """[B, n] int32 ids and their mask, filled up on the left."""
    if not len(prompts):
        raise UserError("there is no prompt; give one or more")
    rows = [_ids_of(prompt, i, vocab_size) for i, prompt in enumerate(prompts)]
    longest = max(map(len, rows))
    ids = np.stack([np.pad(row, (longest - len(row), 0)) for row in rows])
    return ids, np.arange(longest)[None] >= longest - np.array([[len(row)] for row in rows])


def _ids_of(prompt: Any, i: int, vocab_size: int) -> np.ndarray:
    ids = np.asarray(prompt)
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


def _usual_num_latents(config: CausalSequenceConfig, num_tokens: int) -> int:
    """Half of the latents, as after a refill, or as many as a prompt of that length needs."""
    needed = num_tokens - (config.max_seq_len - config.max_latents)
    return min(max(min(max(1, config.max_latents // 2), num_tokens), needed), config.max_latents)


def _check(config: CausalSequenceConfig, num_tokens: int, num_latents: int) -> None:
    if not 1 <= num_latents <= config.max_latents:
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


def _padded_window(
    tokens: np.ndarray, mask: np.ndarray, seen: Window, context: int
) -> tuple[np.ndarray, np.ndarray]:
    ids, cells = tokens[:, seen.first :], mask[:, seen.first :]
    missing = min(_next_power_of_two(ids.shape[1]), context) - ids.shape[1]
    return np.pad(ids, ((0, 0), (missing, 0))), np.pad(cells, ((0, 0), (missing, 0)))


def _next_power_of_two(n: int) -> int:
    return max(MIN_WIDTH, 1 << (n - 1).bit_length())


def _until_stop(row: np.ndarray, stop_tokens: Sequence[int]) -> np.ndarray:
    ends = np.flatnonzero(np.isin(row, list(stop_tokens)))
    return row[: ends[0] + 1] if len(ends) else row
