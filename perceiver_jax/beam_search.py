"""Beam search: of the sequences that a few at a time lead to, the most probable by their length.

- All beams of a sequence have the same length, so they have one window, see `windows`. At a refill
  the model is called on each of them; the prompt is read once.
- A sequence's result does not depend on the others of its batch, but by their windows, which are
  those of the longest.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from perceiver_jax.core.cache import Cache
from perceiver_jax.errors import UserError
from perceiver_jax.prompts import Request
from perceiver_jax.sampling import among, check_number, suppressed, whole_number
from perceiver_jax.typing import Array
from perceiver_jax.windows import CHUNK, next_power_of_two


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """Looks for the hypothesis with the highest score.

    The score is the sum of log probabilities of the new tokens, divided by their number to the
    power of `length_penalty`. At each step every beam is continued with every token. Of all these
    the `num_beams` best that go on are the next beams; those that end, with a stop token or at the
    most tokens, become hypotheses if they are among the `num_beams` best of all. The `num_beams`
    best hypotheses are kept.

    Attributes:
        num_beams: how many are followed; 1 is greedy. Each step computes that many rows per
            sequence.
        length_penalty: above 0 long hypotheses are favoured, below 0 short ones; 0 compares sums.
            Without stop tokens all have the same length, and it makes no difference.
        early_stopping: when a sequence is done that has `num_beams` hypotheses. True: at once.
            False: when the best beam, with its score at its length, is no better than the worst of
            them, which may miss a better one. "never": when it is no better with the length that
            gives it the best score, so that none is missed for `length_penalty` of 0 and more.

    Raises:
        UserError: a value that means nothing.

    Source: transformers `GenerationMixin._beam_search`, whose names and rules these are.
    Differs: tokens that are suppressed are left out before probabilities are made, not after.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self):
        whole_number("num_beams", self.num_beams)
        check_number("length_penalty", self.length_penalty)
        if not math.isfinite(self.length_penalty):
            raise UserError(f"length_penalty={self.length_penalty} must be a finite number")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise UserError(
                f"early_stopping={self.early_stopping!r} is not valid; it takes True, False or "
                "'never'"
            )


class Hypothesis(NamedTuple):
    """A sequence that has ended."""

    tokens: np.ndarray
    """[n] the new ones, with the stop token where there is one"""
    score: float


def beam_search(model: Any, request: Request, search: BeamSearch) -> list[list[Hypothesis]]:
    """The hypotheses of each sequence, the best first; at least one."""
    rules: dict[str, Any] = {
        "search": search,
        "stop": request.stop_tokens,
        "suppress": request.suppress_tokens,
    }
    most = request.max_new_tokens
    beams = _Beams.beginning(len(request.tokens), search.num_beams, next_power_of_two(most))
    num_made, made = 0, np.zeros((len(request.tokens), 0), np.int32)
    while not np.asarray(beams.done).all():
        seen = request.window(num_made)
        left = min(seen.num_steps, most - num_made) - 1
        beams, cache = _begin(
            model,
            *request.seen(made, seen.first),
            beams,
            most,
            num_latents=seen.num_latents,
            num_steps=request.room(seen.num_steps, num_made) - 1,
            **rules,
        )
        while left and not np.asarray(beams.done).all():
            num_steps = min(left, CHUNK)
            beams, cache = _go_on(model, beams, cache, num_steps, most, **rules)
            left -= num_steps
        num_made = int(beams.length)
        made = np.asarray(beams.tokens)[:, :, :num_made].reshape(-1, num_made)
    return beams.hypotheses()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("length", "scores", "tokens", "ended_scores", "ended", "ended_lengths", "done"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class _Beams:
    """After a step; K beams and up to K hypotheses of each sequence, the best first.

    Attributes:
        length: new tokens of each beam.
        scores: [B, K] sums of their log probabilities; -inf where there is no beam.
        tokens: [B, K, cells] those tokens.
        ended_scores: [B, K] scores of hypotheses; -inf where there is none.
        ended: [B, K, cells] their tokens.
        ended_lengths: [B, K] how many these are.
        done: [B] bool, which sequences take no further hypotheses.
    """

    length: Array
    scores: Array
    tokens: Array
    ended_scores: Array
    ended: Array
    ended_lengths: Array
    done: Array

    @classmethod
    def beginning(cls, batch: int, num_beams: int, num_cells: int) -> "_Beams":
        """One beam without tokens for each sequence."""
        nothing = jnp.zeros((batch, num_beams, num_cells), jnp.int32)
        none = jnp.full((batch, num_beams), -jnp.inf)
        return cls(
            length=jnp.zeros((), jnp.int32),
            scores=none.at[:, 0].set(0.0),
            tokens=nothing,
            ended_scores=none,
            ended=nothing,
            ended_lengths=jnp.zeros((batch, num_beams), jnp.int32),
            done=jnp.zeros(batch, bool),
        )

    def advance(self, logits, most, *, search, stop, suppress) -> tuple["_Beams", Array]:
        """Continues all beams.

        Args:
            logits: [B * K, V] of their next tokens.
            most: tokens after which a beam ends.
            search: the rules.
            stop: tokens after which a beam ends.
            suppress: tokens with which none goes on.

        Returns:
            The next beams, and [B * K] which rows they continue.
        """
        batch, k = self.scores.shape
        logits = suppressed(logits.astype(self.scores.dtype), suppress)
        log_p = jax.nn.log_softmax(logits).reshape(batch, k, -1)
        sums = (self.scores[:, :, None] + log_p).reshape(batch, -1)
        # So many that k of them go on, even if all the others end.
        num_candidates = min(max(2, 1 + len(stop)) * k, sums.shape[1])
        sums, places = lax.top_k(sums, num_candidates)
        parents, token = jnp.divmod(places.astype(jnp.int32), log_p.shape[-1])
        tokens = _taken(self.tokens, parents).at[:, :, self.length].set(token)
        length = self.length + 1
        ends = among(token, stop) | (length == most)
        scores, tokens_on, parents = _best(k, jnp.where(ends, -jnp.inf, sums), tokens, parents)
        candidates = (sums / _weight(length, search), tokens, jnp.broadcast_to(length, token.shape))
        ended_scores, ended, ended_lengths = self._with_ended(
            ends & (jnp.arange(num_candidates) < k)[None], *candidates
        )
        longest = search.early_stopping == "never" and search.length_penalty > 0.0
        hoped_for = scores[:, 0] / _weight(most if longest else length, search)
        worst = ended_scores[:, -1]
        done = self.done | ~(hoped_for > worst)
        if search.early_stopping is True:
            done |= worst > -jnp.inf
        rows = parents + k * jnp.arange(batch)[:, None]
        beams = _Beams(length, scores, tokens_on, ended_scores, ended, ended_lengths, done)
        return beams, rows.reshape(-1)

    def _with_ended(
        self, ends: Array, scores: Array, tokens: Array, lengths: Array
    ) -> tuple[Array, ...]:
        """Scores, tokens and lengths of the best hypotheses with those of candidates that end."""
        old = (self.ended_scores, self.ended, self.ended_lengths)
        new = (jnp.where(ends & ~self.done[:, None], scores, -jnp.inf), tokens, lengths)
        joined = (jnp.concatenate(pair, axis=1) for pair in zip(old, new, strict=True))
        return _best(self.scores.shape[1], *joined)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Those of each sequence, the best first."""
        fields = (self.ended_scores, self.ended, self.ended_lengths)
        return [
            [
                Hypothesis(tokens[:length], float(score))
                for score, tokens, length in zip(*row, strict=True)
                if score > -np.inf
            ]
            for row in zip(*map(np.asarray, fields), strict=True)
        ]


def _weight(length: Array | int, search: BeamSearch) -> Array:
    return jnp.asarray(length, jnp.zeros(()).dtype) ** search.length_penalty


def _best(k: int, scores: Array, *fields: Array) -> tuple[Array, ...]:
    """The k highest of scores [B, n], falling, and what goes with them, [B, n, …]."""
    scores, places = lax.top_k(scores, k)
    return scores, *(_taken(field, places) for field in fields)


def _taken(field: Array, places: Array) -> Array:
    """[B, n, …] and places [B, m] → [B, m, …]."""
    return jax.vmap(lambda row, some: row[some])(field, places)


@functools.partial(
    jax.jit, static_argnames=("num_latents", "num_steps", "search", "stop", "suppress")
)
def _begin(model, ids, mask, beams: _Beams, most, *, num_latents, num_steps, **rules):
    """The first step after a window, of sequences [B, n] or of all their beams [B * K, n]."""
    logits, _, cache = model.prefill(ids, mask, num_latents=num_latents, num_steps=num_steps)
    num_beams = beams.scores.size // len(ids)
    if num_beams > 1:
        each = jnp.repeat(jnp.arange(len(ids)), num_beams)
        logits, cache = logits[each], cache.rows(each)
    beams, parents = beams.advance(logits, most, **rules)
    return beams, cache.rows(parents)


@functools.partial(
    jax.jit,
    static_argnames=("search", "stop", "suppress"),
    donate_argnames=("beams", "cache"),
)
def _go_on(model, beams: _Beams, cache: Cache, num_steps, most, **rules):
    """Some steps: the new beams and cache."""

    def unfinished(carry):
        i, beams, _ = carry
        return (i < num_steps) & ~beams.done.all()

    def step(carry):
        i, beams, cache = carry
        token = beams.tokens[:, :, beams.length - 1].reshape(-1)
        logits, _, cache = model.step(token, cache)
        beams, parents = beams.advance(logits, most, **rules)
        return i + 1, beams, cache.rows(parents)

    return lax.while_loop(unfinished, step, (0, beams, cache))[1:]
