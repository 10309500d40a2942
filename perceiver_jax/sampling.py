"""How the next token is chosen from logits: the best, or at random among the better ones.

- Logits are divided by the temperature first, as in transformers; perceiver-ar leaves tokens out
  before that.
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from perceiver_jax.errors import UserError
from perceiver_jax.typing import Array, Key


def whole_number(name: str, value: Any, otherwise: str = "") -> int:
    """How many there are of something, as users give it.

    Args:
        name: what they call it.
        value: what they gave.
        otherwise: what else they may do, for the error message.

    Raises:
        UserError: it is no whole number, or less than 1.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise UserError(
            f"{name}={value!r} is no whole number; give one of 1 or more, as in {name}=4{otherwise}"
        )
    if value < 1:
        raise UserError(f"{name}={value} is too small; give 1 or more{otherwise}")
    return int(value)


def check_number(name: str, value: Any) -> None:
    """Raises a UserError for what is no number."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise UserError(f"{name}={value!r} is no number; give one, as in {name}=0.5")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """A choice of the next token.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable token.
        top_k: only so many most probable tokens are drawn from; None: all.
        top_p: only the most probable tokens are drawn from that together reach this probability,
            in (0, 1]; the one that reaches it is among them.

    Raises:
        UserError: a value that means nothing.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        check_number("temperature", self.temperature)
        if not 0.0 <= self.temperature < math.inf:
            raise UserError(
                f"temperature={self.temperature} must be 0 (greedy) or more, and finite"
            )
        if self.top_k is not None:
            whole_number("top_k", self.top_k, ", or leave it out for all tokens")
        if self.top_p is not None:
            check_number("top_p", self.top_p)
            if not 0.0 < self.top_p <= 1.0:
                raise UserError(f"top_p={self.top_p} is not in (0, 1]")

    def __call__(self, logits: Array, key: Key) -> Array:
        """[B, V] logits → [B] token ids, each drawn by its place in the batch and nothing else."""
        if self.temperature == 0.0:
            return logits.argmax(-1)
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(len(logits)))
        return jax.vmap(jax.random.categorical)(keys, self.restricted(logits))

    def restricted(self, logits: Array) -> Array:
        """[B, V] logits → those to draw from, the best at 0, -inf where a token is left out.

        Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" §3.1; perceiver-ar
        `sample_utils`.
        """
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        logits = (logits - logits.max(-1, keepdims=True)) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][:, -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if self.top_p is not None and self.top_p < 1.0:
            falling = -jnp.sort(-logits, axis=-1)
            probabilities = jax.nn.softmax(falling)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            least = jnp.where(before < self.top_p, falling, jnp.inf).min(-1, keepdims=True)
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        return logits


ANY_TOKEN = Sampling()
"""Every token with the probability that the model gives it."""
GREEDY = Sampling(temperature=0.0)
"""The most probable token."""


def suppressed(logits: Array, tokens: Sequence[int]) -> Array:
    """[..., V] logits of a model that gives these tokens no probability."""
    return logits.at[..., jnp.asarray(tokens, jnp.int32)].set(-jnp.inf) if tokens else logits


def among(tokens: Array, some: Sequence[int]) -> Array:
    """Which of the tokens, of any shape, are one of some."""
    return jnp.isin(tokens, jnp.asarray(some, jnp.int32))
