"""How attention in blocks divides its work: into parts that run at once, and parts into blocks.

- XLA computes a small matrix product on one core of a CPU, but works at once on several things that
  do not wait for each other. So a single CPU deals examples and heads out to as many parts as it
  has cores, and each part takes as many examples at a time as its share of the cache holds.
- Elsewhere, and where examples may lie on several devices, there is one part, which takes all
  examples at a time.
- Sizes need not be multiples of the blocks: the last block is moved back until it fits, and what
  it shares with the block before it is masked or left out.
"""

import dataclasses
import os

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from perceiver_jax.typing import Array

MIN_BLOCK, MAX_BLOCK = 128, 512
"""Queries or keys of a block: with fewer the matrix products are slow, more bring nothing."""

SCORES_IN_CACHE = 2**20
"""Scores that a pair of blocks may have over its examples and heads, if blocks can be so small."""


def one_cpu() -> bool:
    """Whether a CPU is the only device."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def num_parts() -> int:
    """Parts that are worth while here: the cores of a CPU that is the only device, else one."""
    if not one_cpu():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples and heads that are worked on by one loop.

    Attributes:
        first_example: the first of them.
        num_examples: their number.
        first_head: the first of the heads.
        num_heads: their number.
    """

    first_example: int
    num_examples: int
    first_head: int
    num_heads: int


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How examples, heads, N queries and M keys are divided, and what a block of queries sees.

    Arrays are [B, N, H, channels]; a block of queries is [b, h, queries, channels], one of keys
    [b, keys, h, channels], scores of a pair are [b, h, queries, keys], with the h heads of a part
    and b of its examples. A step of a part is a block of queries of b examples.

    Attributes:
        parts: rows of parts; a row has the same examples and all heads.
        num_queries: queries N.
        num_keys: keys M.
        examples: examples b that are worked on at a time.
        queries: queries of a block.
        keys: keys of a block.
        causal: whether the queries are the last N positions and see no later key.
    """

    parts: tuple[tuple[Part, ...], ...]
    num_queries: int
    num_keys: int
    examples: int
    queries: int
    keys: int
    causal: bool

    @classmethod
    def of(cls, q: Array, k: Array, causal: bool) -> "Blocks":
        """What suits [B, N, H, K] queries, [B, M, H, K] keys and this machine."""
        batch, num_queries, heads, _ = q.shape
        num_keys = k.shape[1]
        parts = _parts(batch, heads, num_parts())
        part = parts[0][0]
        at_least = 1 if one_cpu() else batch
        scores = SCORES_IN_CACHE // (at_least * part.num_heads)
        keys = _block_size(num_keys, scores // min(num_queries, MAX_BLOCK))
        queries = _block_size(num_queries, scores // keys)
        examples = _divisor(part.num_examples, max(at_least, at_least * scores // (queries * keys)))
        return cls(parts, num_queries, num_keys, examples, queries, keys, causal)

    @property
    def num_query_blocks(self) -> int:
        """Blocks of queries of an example."""
        return -(-self.num_queries // self.queries)

    def num_steps(self, part: Part) -> int:
        """Steps of a part."""
        return part.num_examples // self.examples * self.num_query_blocks

    def num_key_blocks(self, i):
        """Blocks up to the last key that any query of block i sees."""
        if not self.causal:
            return -(-self.num_keys // self.keys)
        last_query = self.first_query(i) + self.queries - 1
        return (last_query + self.num_keys - self.num_queries) // self.keys + 1

    def place(self, step):
        """Step of a part → its first example, counted from the part's own, and block of queries."""
        return step // self.num_query_blocks * self.examples, step % self.num_query_blocks

    def first_query(self, i):
        """Where block i of queries begins."""
        return jnp.minimum(i * self.queries, self.num_queries - self.queries)

    def first_key(self, j):
        """Where block j of keys begins."""
        return jnp.minimum(j * self.keys, self.num_keys - self.keys)

    def of_queries(self, x, part, example, i):
        """[B, N, H, c] → block [b, h, queries, c]."""
        x = self._of(x, part, example, self.first_query(i), self.queries)
        return rearrange(x, "b n h c -> b h n c")

    def of_keys(self, x, part, example, j):
        """[B, M, H, c] → block [b, keys, h, c]."""
        return self._of(x, part, example, self.first_key(j), self.keys)

    def _of(self, x, part, example, first, size):
        start = (part.first_example + example, first, part.first_head, 0)
        return lax.dynamic_slice(x, start, (self.examples, size, part.num_heads, x.shape[-1]))

    def of_mask(self, mask, part, example, i, j):
        """[B or 1, H or 1, N or 1, M] → a pair's [b or 1, h or 1, queries or 1, keys]."""
        wanted = (
            (part.first_example + example, self.examples),
            (part.first_head, part.num_heads),
            (self.first_query(i), self.queries),
        )
        places = [
            place if size > 1 else (0, 1)
            for place, size in zip(wanted, mask.shape[:3], strict=True)
        ]
        start, sizes = zip(*places, (self.first_key(j), self.keys), strict=True)
        return lax.dynamic_slice(mask, start, sizes)

    def scores(self, q_block, k_block, mask_block, i, j):
        """Scaled scores of a pair in at least float32, -inf where a query may not attend."""
        dtype = jnp.promote_types(q_block.dtype, jnp.float32)
        scale = q_block.shape[-1] ** 0.5
        # Queries are fewer than scores, and a scaled query of half precision would be rounded.
        early, late = (scale, 1.0) if q_block.dtype == dtype else (1.0, scale)
        q_block = q_block / early
        scores = jnp.einsum("bhnk,bmhk->bhnm", q_block, k_block, preferred_element_type=dtype)
        scores = scores / late
        queries = (self.first_query(i) + jnp.arange(self.queries))[None, None, :, None]
        keys = (self.first_key(j) + jnp.arange(self.keys))[None, None, None]
        if self.num_keys % self.keys:  # keys that the last block shares with the one before
            scores = jnp.where(keys >= j * self.keys, scores, -jnp.inf)
        if self.causal:
            seen = keys <= queries + (self.num_keys - self.num_queries)
            scores = jnp.where(seen, scores, -jnp.inf)
        return scores if mask_block is None else jnp.where(mask_block, scores, -jnp.inf)


def _parts(batch: int, heads: int, wanted: int) -> tuple[tuple[Part, ...], ...]:
    """As many parts of equal size as wanted, or somewhat fewer; examples are dealt out first."""
    rows = _divisor(batch, wanted)
    columns = _divisor(heads, wanted // rows)
    size, width = batch // rows, heads // columns
    return tuple(
        tuple(Part(row * size, size, column * width, width) for column in range(columns))
        for row in range(rows)
    )


def _divisor(total: int, at_most: int) -> int:
    """The greatest divisor up to a bound."""
    return next(n for n in range(min(total, at_most), 0, -1) if total % n == 0)


def _block_size(total: int, at_most: int) -> int:
    """Within the bounds above, and so that the last block shares little with the one before."""
    at_most = min(max(at_most // MIN_BLOCK * MIN_BLOCK, MIN_BLOCK), MAX_BLOCK)
    num_blocks = -(-total // at_most)
    return -(-total // num_blocks)
