"""Continues sequences with a causal sequence model, token by token, by cached and compiled steps.

- What the model sees at each token, and when its cache is made anew, stands in `windows`; it is the
  same however tokens are chosen.
- A token is drawn (`Sampling`), or chosen by a search: `BeamSearch`, `ContrastiveSearch`.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perceiver_jax.beam_search import BeamSearch, beam_search
from perceiver_jax.contrastive_search import ContrastiveSearch, contrastive_search
from perceiver_jax.core.arguments import check_key
from perceiver_jax.core.cache import Cache
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.prompts import Request, known_settings, token_ids
from perceiver_jax.sampling import ANY_TOKEN, Sampling, among, suppressed, whole_number
from perceiver_jax.typing import Array, Key
from perceiver_jax.windows import CHUNK, Refill

Search = BeamSearch | ContrastiveSearch


@known_settings()
def generate(
    model: Any,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int,
    num_latents: int | None = None,
    sampling: Sampling = ANY_TOKEN,
    search: Search | None = None,
    stop_tokens: Sequence[int] = (),
    suppress_tokens: Sequence[int] = (),
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
        sampling: how tokens are drawn, where no search chooses them.
        search: how they are searched for; None: they are drawn.
        stop_tokens: a sequence ends with the first of them, which is part of the result.
        suppress_tokens: tokens that are never chosen; the model counts as one that gives them no
            probability.
        refill: what happens when latents are used up, see `windows`.
        key: random key, of sampling; None: the same each time.

    Returns:
        For each prompt its new tokens, without the prompt.

    Raises:
        UserError: another model; no prompt, an empty or too long one, a token or a number out of
            range or of another type, settings of sampling beside a search, or a search that the
            model has no room for.
        ValueError: the key is none.
    """
    config, stop_tokens = _config(model), token_ids("stop_tokens", stop_tokens)
    check_key(key)
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "num_latents": num_latents,
        "stop_tokens": stop_tokens,
        "suppress_tokens": suppress_tokens,
        "refill": refill,
    }
    if isinstance(search, BeamSearch):
        _check_choice(sampling, search)
        request = Request.checked(config, prompts, **settings)
        return [best.tokens for best, *_ in beam_search(model, request, search)]
    choice: dict[str, Any] = {"sampling": sampling, "search": search, "key": key}
    tokens = list(stream(model, prompts, **settings, **choice, at_once=CHUNK))
    return [_until_stop(row, stop_tokens) for row in np.concatenate(tokens, axis=1)]


@known_settings()
def stream(
    model: Any,
    prompts: Sequence[Any],
    *,
    max_new_tokens: int,
    num_latents: int | None = None,
    sampling: Sampling = ANY_TOKEN,
    search: ContrastiveSearch | None = None,
    stop_tokens: Sequence[int] = (),
    suppress_tokens: Sequence[int] = (),
    refill: Refill = "half",
    key: Key | None = None,
    at_once: int = 1,
) -> Iterator[np.ndarray]:
    """New tokens as they are made, [B, n] with n up to `at_once`; see `generate`.

    Ends when every sequence had a stop token; what follows a stop token means nothing. Beam search
    knows no token before it has ended, and cannot be streamed.
    """
    config, at_once = _config(model), whole_number("at_once", at_once)
    _check_choice(sampling, search)
    check_key(key)
    if isinstance(search, BeamSearch):
        raise UserError(
            "beam search knows its tokens only when it has ended, and cannot be streamed; call "
            "generate"
        )
    request = Request.checked(
        config,
        prompts,
        max_new_tokens=max_new_tokens,
        num_latents=num_latents,
        stop_tokens=stop_tokens,
        suppress_tokens=suppress_tokens,
        refill=refill,
    )
    if search is not None:
        return contrastive_search(model, request, search, at_once=at_once)
    key = jax.random.key(0) if key is None else key
    return _sampled(model, request, sampling, key, at_once=at_once)


def _config(model: Any) -> CausalSequenceConfig:
    """The config of a model that continues sequences."""
    config = getattr(model, "config", None)
    if not isinstance(config, CausalSequenceConfig):
        raise UserError(
            f"an object of type {type(model).__name__} continues no sequences; give a "
            "CausalSequenceModel, such as perceiver_jax.load_checkpoint(workdir) of a run of one"
        )
    return config


def _check_choice(sampling: Sampling, search: Search | None) -> None:
    if not isinstance(sampling, Sampling):
        raise UserError(
            f"sampling={sampling!r:.60} is no Sampling; give one, as in "
            "sampling=Sampling(temperature=0.5)"
        )
    if search is not None and not isinstance(search, Search):
        raise UserError(
            f"search={search!r:.60} is no search; give one, as in search=BeamSearch(num_beams=4) "
            "or search=ContrastiveSearch(top_k=4), or None"
        )
    if search is not None and sampling != ANY_TOKEN:
        raise UserError(
            f"{sampling} draws tokens and {search} searches for them; give one of the two"
        )


def _sampled(
    model: Any, request: Request, sampling: Sampling, key: Key, *, at_once: int
) -> Iterator[np.ndarray]:
    batch = len(request.tokens)
    choice: dict[str, Any] = {
        "sampling": sampling,
        "stop": request.stop_tokens,
        "suppress": request.suppress_tokens,
    }
    finished = jnp.zeros(batch, bool)
    made = np.zeros((batch, 0), np.int32)
    while made.shape[1] < request.max_new_tokens:
        seen = request.window(made.shape[1])
        left = min(seen.num_steps, request.max_new_tokens - made.shape[1])
        state, cache = _begin(
            model,
            *request.seen(made, seen.first),
            key,
            finished,
            num_latents=seen.num_latents,
            num_steps=request.room(seen.num_steps, made.shape[1]) - 1,
            **choice,
        )
        new = np.asarray(state.token)[:, None]
        while True:
            made, left = np.concatenate([made, new], axis=1), left - new.shape[1]
            yield new
            if np.asarray(state.finished).all():
                return
            if not left:
                break
            num_steps = min(left, at_once)
            state, cache, tokens = _go_on(model, state, cache, num_steps, size=at_once, **choice)
            new = np.asarray(tokens)[:, :num_steps]
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
    def of(cls, logits, key, finished, *, sampling, stop, suppress) -> "_State":
        """Chooses a token from logits [B, V]."""
        key, now = jax.random.split(key)
        token = sampling(suppressed(logits, suppress), now).astype(jnp.int32)
        return cls(token, key, finished | among(token, stop))


@functools.partial(
    jax.jit, static_argnames=("num_latents", "num_steps", "sampling", "stop", "suppress")
)
def _begin(model, ids, mask, key, finished, *, num_latents, num_steps, **choice):
    """The first token after a window, and a cache with room for so many more."""
    logits, _, cache = model.prefill(ids, mask, num_latents=num_latents, num_steps=num_steps)
    return _State.of(logits, key, finished, **choice), cache


@functools.partial(
    jax.jit, static_argnames=("sampling", "stop", "suppress", "size"), donate_argnames="cache"
)
def _go_on(model, state: _State, cache: Cache, num_steps, *, size, **choice):
    """Some steps: the new state and cache, and tokens [B, size] of which the first are new."""
    made = jnp.zeros((len(state.finished), size), jnp.int32)

    def unfinished(carry):
        i, state, _, _ = carry
        return (i < num_steps) & ~state.finished.all()

    def step(carry):
        i, state, cache, made = carry
        logits, _, cache = model.step(state.token, cache)
        state = _State.of(logits, state.key, state.finished, **choice)
        made = lax.dynamic_update_slice_in_dim(made, state.token[:, None], i, axis=1)
        return i + 1, state, cache, made

    _, *result = lax.while_loop(unfinished, step, (0, state, cache, made))
    return tuple(result)


def _until_stop(row: np.ndarray, stop_tokens: Sequence[int]) -> np.ndarray:
    ends = np.flatnonzero(np.isin(row, list(stop_tokens)))
    return row[: ends[0] + 1] if len(ends) else row
