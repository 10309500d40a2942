"""Contrastive search: of the probable tokens the one that repeats least what came before.

- A candidate's hidden state is that of the model's call which predicts what follows it; it is
  compared with those of all earlier latents of that call. The tokens of the prefix have none: what
  they say may be repeated.
- Where a refill comes next, that call is the first after it. So the windows are those of `windows`,
  each entered one token earlier than by sampling.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perceiver_jax.core.cache import Cache
from perceiver_jax.errors import UserError
from perceiver_jax.prompts import Request
from perceiver_jax.sampling import among, check_number, suppressed, whole_number
from perceiver_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveSearch:
    """Takes the token v with the highest (1 - alpha) * p(v) - alpha * max cosine(h_v, h).

    The maximum is over the hidden states h, the model's last, of all earlier latents.

    Attributes:
        top_k: only so many most probable tokens are compared; 1 takes the most probable. Each step
            computes that many rows per sequence.
        penalty_alpha: how much likeness counts against probability, 0 (greedy) to 1.

    Raises:
        UserError: a value that means nothing.

    Source: Su et al., "A Contrastive Framework for Neural Text Generation" §3.2; `penalty_alpha`
    and `top_k` of transformers.
    """

    top_k: int = 4
    penalty_alpha: float = 0.6

    def __post_init__(self):
        whole_number("top_k", self.top_k)
        check_number("penalty_alpha", self.penalty_alpha)
        if not 0.0 <= self.penalty_alpha <= 1.0:
            raise UserError(f"penalty_alpha={self.penalty_alpha} is not between 0 and 1")

    def best(
        self, logits: Array, candidates: Array, hidden: Array, context: Array, mask: Array
    ) -> Array:
        """Which of the candidates are taken.

        Args:
            logits: [B, V], of all tokens.
            candidates: [B, k] tokens.
            hidden: [B, k, D] unit vectors, those of the candidates.
            context: [B, N, D] unit vectors, those before them.
            mask: [B, N] bool, which of these count.

        Returns:
            [B] places among the candidates. Tokens of no probability are not taken.
        """
        cosines = jnp.einsum("bkd,bnd->bkn", hidden, context)
        likeness = jnp.where(mask[:, None], cosines, -1.0).max(-1)
        p = jnp.take_along_axis(jax.nn.softmax(logits), candidates, axis=1)
        scores = (1.0 - self.penalty_alpha) * p - self.penalty_alpha * likeness
        possible = jnp.isfinite(jnp.take_along_axis(logits, candidates, axis=1))
        return jnp.where(possible, scores, -jnp.inf).argmax(1)


def contrastive_search(
    model: Any, request: Request, search: ContrastiveSearch, *, at_once: int
) -> Iterator[np.ndarray]:
    """New tokens as they are made, [B, n] with n up to `at_once`.

    Ends when every sequence had a stop token; what follows a stop token means nothing.

    Raises:
        UserError: after a refill a token would be the only latent.
    """
    least = 2 if request.refill == "every" else 4
    if request.why_no_steps:
        raise UserError(f"{request.why_no_steps}, so contrastive search has no steps to look ahead")
    if request.config.max_latents < least:
        raise UserError(
            "contrastive search compares a token with earlier latents, and with refill="
            f"{request.refill!r} that takes max_latents={least} or more; this model has "
            f"{request.config.max_latents}"
        )
    return _searched(model, request, search, at_once)


def _searched(
    model: Any, request: Request, search: ContrastiveSearch, at_once: int
) -> Iterator[np.ndarray]:
    choice: dict[str, Any] = {
        "search": search,
        "stop": request.stop_tokens,
        "suppress": request.suppress_tokens,
    }
    made = np.zeros((len(request.tokens), 0), np.int32)
    seen = request.window(0)
    room = seen.num_steps - 1
    logits, context, cache = _begin(
        model,
        *request.seen(made, seen.first),
        num_latents=seen.num_latents,
        num_steps=request.room(room, 0),
    )
    state = _State(logits, context, jnp.zeros(len(made), bool))
    while made.shape[1] < request.max_new_tokens:
        if not room:
            # The candidates are the last of the window's latents, and the first to be put there.
            seen = request.window(made.shape[1] + 1)
            room = seen.num_steps
            _, context, cache = _begin(
                model,
                *request.seen(made, seen.first),
                num_latents=seen.num_latents - 1,
                num_steps=request.room(room, made.shape[1]),
            )
            state = dataclasses.replace(state, context=context)
        num_steps = min(room, request.max_new_tokens - made.shape[1], at_once)
        state, cache, tokens = _go_on(model, state, cache, num_steps, size=at_once, **choice)
        new = np.asarray(tokens)[:, :num_steps]
        made, room = np.concatenate([made, new], axis=1), room - num_steps
        yield new
        if np.asarray(state.finished).all():
            return


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("logits", "context", "finished"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class _State:
    """Between two steps.

    Attributes:
        logits: [B, V] of the next token.
        context: [B, latent cells, D] hidden states as unit vectors, in the cells of the cache.
        finished: [B] bool, which sequences have ended.
    """

    logits: Array
    context: Array
    finished: Array

    def step(self, model, cache: Cache, *, search, stop, suppress) -> tuple["_State", Cache, Array]:
        """The next state and cache, and tokens [B]."""
        logits = suppressed(_exact(self.logits), suppress)
        batch, k = len(logits), min(search.top_k, logits.shape[1])
        candidates = lax.top_k(logits, k)[1].astype(jnp.int32)
        tried = cache.rows(jnp.repeat(jnp.arange(batch), k))
        following, hidden, tried = model.step(candidates.reshape(-1), tried)
        hidden = _unit(hidden)
        best = search.best(
            logits, candidates, hidden.reshape(batch, k, -1), self.context, cache.latent_mask
        )
        chosen = jnp.arange(batch) * k + best
        token = candidates.reshape(-1)[chosen]
        context = lax.dynamic_update_slice_in_dim(
            self.context, hidden[chosen], cache.num_latents, axis=1
        )
        state = _State(following[chosen], context, self.finished | among(token, stop))
        return state, tried.rows(chosen), token


@functools.partial(jax.jit, static_argnames=("num_latents", "num_steps"))
def _begin(model, ids, mask, *, num_latents, num_steps):
    """Logits, the hidden states of the latents, and a cache, with room for so many tokens more."""
    logits, hidden, cache = model.prefill(ids, mask, num_latents=num_latents, num_steps=num_steps)
    return logits, jnp.pad(_unit(hidden), ((0, 0), (0, num_steps), (0, 0))), cache


@functools.partial(
    jax.jit,
    static_argnames=("search", "stop", "suppress", "size"),
    donate_argnames=("state", "cache"),
)
def _go_on(model, state: _State, cache: Cache, num_steps, *, size, **choice):
    """Some steps: the new state and cache, and tokens [B, size] of which the first are new."""
    made = jnp.zeros((len(state.finished), size), jnp.int32)

    def unfinished(carry):
        i, state, _, _ = carry
        return (i < num_steps) & ~state.finished.all()

    def step(carry):
        i, state, cache, made = carry
        state, cache, token = state.step(model, cache, **choice)
        made = lax.dynamic_update_slice_in_dim(made, token[:, None], i, axis=1)
        return i + 1, state, cache, made

    _, *result = lax.while_loop(unfinished, step, (0, state, cache, made))
    return tuple(result)


def _exact(x: Array) -> Array:
    """At least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _unit(hidden: Array) -> Array:
    """Vectors [..., D] of length 1."""
    hidden = _exact(hidden)
    length = jnp.linalg.norm(hidden, axis=-1, keepdims=True)
    return hidden / jnp.maximum(length, jnp.finfo(hidden.dtype).tiny)
