"""Long outputs: queries in blocks, so that memory does not grow with their number.

- Queries are an array, or tokens; the blocks of tokens are rows of their outermost grid axis (or,
  where rows are long, stretches of them), and become dense one block at a time.
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
    rows_fit = math.prod(tokens.grid[1:]) <= at_once
    blocks_of = _rows if rows_fit else _line
    num_blocks, size, cut, make = blocks_of(tokens, at_once)

    @jax.checkpoint
    def body(block):
        part, mask, times, segments, key = block
        return answer(dataclasses.replace(make(part), times=times, segments=segments), mask, key)

    of_queries = (
        None if x is None else _blocks(x, 1, num_blocks, size)
        for x in (query_mask, tokens.times, tokens.segments)
    )
    keys = None if key is None else split(key, num_blocks)
    results = jax.lax.map(body, (cut, *of_queries, keys))

    def whole(x):
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(x.shape[0], -1, *x.shape[3:])[:, : tokens.num_tokens]

    return jax.tree.map(whole, results)


def _rows(tokens: Tokens, at_once: int):
    """Blocks of whole rows of the outermost axis, which keep their grid.

    Returns:
        (number of blocks, queries of a block, arrays of all blocks, tokens of a block's arrays).
    """
    outer, num_inner = tokens.grid[0], math.prod(tokens.grid[1:])
    num_blocks = -(-outer // max(1, at_once // num_inner))
    rows = -(-outer // num_blocks)
    first, others = tokens.positions[:1], tokens.positions[1:]
    cut = (
        _blocks(tokens.content, 1, num_blocks, rows),
        tuple(_blocks(jnp.asarray(table), 0, num_blocks, rows) for table in first),
    )

    def make(part):
        content, first = part
        positions = (*first, *others)
        return Tokens(content=content, positions=positions, order=tokens.order)

    return num_blocks, rows * num_inner, cut, make


def _line(tokens: Tokens, at_once: int):
    """Blocks of queries one after the other, where a row of the grid is too long for a block."""
    num_blocks = -(-tokens.num_tokens // at_once)
    size = -(-tokens.num_tokens // num_blocks)
    num_channels = tokens.content.shape[-1]
    content = tokens.content.reshape(len(tokens.content), tokens.num_tokens, num_channels)
    cut = (_blocks(content, 1, num_blocks, size), jnp.arange(num_blocks) * size)

    def make(part):
        content, start = part
        positions = tokens.positions_at(start + jnp.arange(size))
        return Tokens(content=content, positions=() if positions is None else (positions,))

    return num_blocks, size, cut, make


def _blocks(x: Array, axis: int, num_blocks: int, size: int) -> Array:
    """Cuts an axis into blocks, the last filled up with zeros, and moves them to the front."""
    missing = num_blocks * size - x.shape[axis]
    x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
    x = x.reshape(*x.shape[:axis], num_blocks, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)
