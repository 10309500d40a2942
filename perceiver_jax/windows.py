"""What a model sees of a sequence that grows: how many tokens, and which of them are latents.

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
from typing import Literal

import numpy as np

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


def padded(
    tokens: np.ndarray, mask: np.ndarray, first: int, max_seq_len: int
) -> tuple[np.ndarray, np.ndarray]:
    """[B, n] ids and their mask from a token on, filled up on the left to a usual width."""
    ids, cells = tokens[:, first:], mask[:, first:]
    missing = min(next_power_of_two(ids.shape[1]), max_seq_len) - ids.shape[1]
    return np.pad(ids, ((0, 0), (missing, 0))), np.pad(cells, ((0, 0), (missing, 0)))


def next_power_of_two(n: int) -> int:
    """At least `n`, and `MIN_WIDTH`."""
    return max(MIN_WIDTH, 1 << (n - 1).bit_length())
