"""Long outputs: queries in blocks, so that memory does not grow with their number.

- Queries are an array, or tokens; the blocks of tokens are rows of their outermost grid axis, and
  become dense one block at a time.
- A block is computed again in the backward pass instead of kept.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from perceiver_jax.core.dropout import split
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


def map_blocks(
    answer: Callable[[Tokens, Array | None, Key | None], Any],
    queries: Array | Tokens,
    query_mask: Array | None,
    *,
    at_once: int,
    key: Key | None = None,
) -> Any:
    """Applies a function that treats every query alike to blocks of them, one after the other.

    Args:
        answer: (tokens of o queries, [B, o] mask or None, key or None) → arrays [B, o, ...].
        queries: [B or 1, O, E], or tokens of which the dense form is that.
        query_mask: [B, O] bool, or None.
        at_once: queries o of a block, about.
        key: random key, of which each block gets its own; or None.

    Returns:
        The results put together, [B, O, ...].
    """
    tokens = queries if isinstance(queries, Tokens) else Tokens(content=queries)
    outer, num_inner = tokens.grid[0], math.prod(tokens.grid[1:])
    rows = max(1, at_once // num_inner)
    num_blocks = -(-outer // rows)
    rows = -(-outer // num_blocks)

    def blocks(x, axis):
        """Cuts an axis of `outer` rows into blocks, filled up with zeros, and moves them first."""
        missing = num_blocks * rows - outer
        x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
        x = x.reshape(*x.shape[:axis], num_blocks, rows, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    first, others = tokens.positions[:1], tokens.positions[1:]
    block_mask = None
    if query_mask is not None:
        block_mask = blocks(query_mask.reshape(len(query_mask), outer, num_inner), 1)

    @jax.checkpoint
    def body(block):
        content, first, mask, key = block
        part = dataclasses.replace(tokens, content=content, positions=(*first, *others), mask=None)
        mask = None if mask is None else mask.reshape(len(mask), -1)
        return answer(part, mask, key)

    results = jax.lax.map(
        body,
        (
            blocks(tokens.content, 1),
            tuple(blocks(jnp.asarray(table), 0) for table in first),
            block_mask,
            None if key is None else split(key, num_blocks),
        ),
    )

    def whole(x):
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(x.shape[0], -1, *x.shape[3:])[:, : tokens.num_tokens]

    return jax.tree.map(whole, results)
