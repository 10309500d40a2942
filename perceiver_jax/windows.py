"""What a model sees of a sequence that grows: how many tokens, and which of them are latents.

How a sequence grows (T tokens so far, of which the last are latents):
- Each new token becomes a latent, and all earlier ones stay as they are: the cached step computes
  what the whole model would.
- Once the model's latents are used up, the oldest of them become part of the prefix. The others
  then see them as inputs, so everything after them changes, and the cache is made anew: with
  `refill="half"` for the newer half of the latents, which leaves room for as many steps
  (DeepMind's way); with `refill="every"` for all of them at every token, which is slow.
- A prefix has at most `max_seq_len - max_latents` tokens. While all tokens fit the context,
  `max_seq_len`, none is forgotten: more than half of the latents are kept where the prefix would
  be too long.
- Past the context the oldest tokens are forgotten, when the cache is made, and positions count from
  the first that is left. With `refill="half"` the model then sees half of its latents less than
  its context, and again more at each step.

Either way each step is the model's own call on `window`'s tokens and latents. All sequences of a
batch have the window of the longest.
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
    if num_latents is None and refill == "every":
        num_latents = max_latents
    elif num_latents is None:
        num_latents = usual_num_latents(
            num_tokens, max_seq_len=max_seq_len, max_latents=max_latents
        )
    kept = min(num_latents, num_tokens)
    prefix = min(num_tokens - kept, max_seq_len - max_latents)
    return Window(num_tokens - prefix - kept, kept, max_latents - kept + 1)


def usual_num_latents(num_tokens: int, *, max_seq_len: int, max_latents: int) -> int:
    """Half of the latents, or as many as it takes to see all tokens if these fit the context."""
    needed = num_tokens - (max_seq_len - max_latents) if num_tokens <= max_seq_len else 0
    return min(max(1, max_latents // 2, needed), num_tokens)


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
