"""Attention in blocks of queries and keys: what `attend` computes, without its matrix of weights.

- A running softmax over blocks of keys. Scores exist for one pair of blocks at a time, so memory
  does not grow with the number of keys, but for their gradients, which parts put together.
- The gradient is written by hand: it keeps the result and each query's log-sum-exp, and computes
  the scores again, pair by pair. It can be differentiated in reverse only, causal attention once.
- Causal queries stand at the end of the keys, as the latents of Perceiver AR do. Blocks of keys
  that lie after all queries of a block are not computed.
- Nothing is padded, so keys and values, which may be larger than all else, are never copied as a
  whole.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from perceiver_jax.core.blocks import MIN_BLOCK, Blocks, Part
from perceiver_jax.core.dense import MaskedRows, check_causal
from perceiver_jax.typing import Array

WORTHWHILE_SCORES = 2**19
"""Weights, over all examples and heads, from which on blocks are faster than the whole matrix."""

TOO_MANY_SCORES = 2**28
"""Weights from which on blocks are taken on other backends than a CPU: a gigabyte."""


def attend_blockwise(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    masked_rows: MaskedRows = "zero",
) -> Array:
    """Softmax attention as `attend` defines it, in memory that does not grow with N times M.

    Args:
        q: [B or 1, N, H, K] queries.
        k: [B or 1, M, H, K] keys.
        v: [B or 1, M, H, V] values.
        mask: [B or 1, H or 1, N or 1, M] bool, True = may attend; None attends everywhere.
        causal: the queries are the last N of M positions, and none may attend to a later one:
            query i attends to keys up to M - N + i, where the mask allows them as well.
        masked_rows: result of a query that may attend to nothing: "zero", or "uniform" for the mean
            of all M values.

    Returns:
        [B or 1, N, H * V], heads side by side.

    Raises:
        ValueError: causal attention of more queries than there are keys.

    Source: Rabe & Staats, "Self-attention does not need O(n²) memory"; FlashAttention-2 §3.1.
    """
    if causal:
        check_causal(q.shape[1], k.shape[1])
    batch = max(len(x) for x in (q, k, v, mask) if x is not None)
    q, k, v = (jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (q, k, v))
    result, log_sums = _compiled(q, k, v, mask, Blocks.of(q, k, causal))
    if mask is not None and masked_rows == "uniform":
        nothing = rearrange(jnp.isposinf(log_sums), "b h n -> b n h 1")
        mean = v.mean(1, keepdims=True, dtype=log_sums.dtype).astype(v.dtype)
        result = jnp.where(nothing, mean, result)
    return rearrange(result, "b n h v -> b n (h v)")


def worthwhile(q: Array, k: Array) -> bool:
    """Whether blocks are faster than the whole matrix of weights, gradient included.

    On a CPU they are where that matrix is large, larger than the queries and the keys, and not made
    of many small ones, of which a block would be the whole.
    Elsewhere they are taken where it would fill the memory.

    Args:
        q: [B or 1, N, H, K] queries; only the shape is looked at.
        k: [B or 1, M, H, K] keys; likewise.
    """
    num_queries, num_keys = q.shape[1], k.shape[1]
    num_scores = max(len(q), len(k)) * q.shape[2] * num_queries * num_keys
    if jax.default_backend() != "cpu":
        return num_scores >= TOO_MANY_SCORES
    large = num_scores >= WORTHWHILE_SCORES and num_queries * num_keys >= MIN_BLOCK**2
    return large and min(num_queries, num_keys) >= q.shape[-1]


def _results(q, k, v, mask, blocks) -> tuple[Array, Array]:
    """[B, N, H, V] result and [B, H, N] log-sum-exp; zero and inf where a query sees nothing."""
    return _joined(blocks, lambda part: _results_of(part, q, k, v, mask, blocks), (2, 1))


def _joined(blocks: Blocks, compute: Callable[[Part], tuple], head_axes: tuple[int, ...]) -> tuple:
    """Arrays that are computed part by part, put together; examples are the first axis of each."""
    rows = []
    for row in blocks.parts:
        arrays = zip(*map(compute, row), strict=True)
        rows.append([_concatenate(xs, axis) for xs, axis in zip(arrays, head_axes, strict=True)])
    return tuple(_concatenate(xs, 0) for xs in zip(*rows, strict=True))


def _concatenate(arrays: Sequence[Array], axis: int) -> Array:
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis)


def _results_of(part: Part, q, k, v, mask, blocks: Blocks) -> tuple[Array, Array]:
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    rows = (blocks.examples, part.num_heads, blocks.queries)

    def step(n, carry):
        results, log_sums = carry
        example, i = blocks.place(n)
        q_block = blocks.of_queries(q, part, example, i)

        def block_of_keys(j, carry):
            greatest, total, result = carry
            k_block, v_block = (blocks.of_keys(x, part, example, j) for x in (k, v))
            mask_block = None if mask is None else blocks.of_mask(mask, part, example, i, j)
            scores = blocks.scores(q_block, k_block, mask_block, i, j)
            new_greatest = jnp.maximum(greatest, scores.max(-1))
            weights = jnp.exp(scores - new_greatest[..., None])
            shrink = jnp.exp(greatest - new_greatest)
            return (
                new_greatest,
                total * shrink + weights.sum(-1),
                result * shrink[..., None]
                + jnp.einsum(
                    "bhnm,bmhv->bhnv",
                    weights.astype(v.dtype),
                    v_block,
                    preferred_element_type=dtype,
                ),
            )

        # The least finite number: as long as a query has seen nothing, exp(-inf - greatest) is 0.
        greatest = jnp.full(rows, jnp.finfo(dtype).min, dtype)
        nothing = (greatest, jnp.zeros(rows, dtype), jnp.zeros((*rows, v.shape[-1]), dtype))
        greatest, total, result = lax.fori_loop(0, blocks.num_key_blocks(i), block_of_keys, nothing)
        # Not `total > 0`: what is not a number has to stay so.
        log_sum = jnp.where(total == 0, jnp.inf, greatest + jnp.log(total))
        result = result / jnp.where(total > 0, total, 1.0)[..., None]
        result = rearrange(result, "b h n v -> b n h v").astype(v.dtype)
        first = blocks.first_query(i)
        return (
            lax.dynamic_update_slice(results, result, (example, first, 0, 0)),
            lax.dynamic_update_slice(log_sums, log_sum, (example, 0, first)),
        )

    shape = (part.num_examples, blocks.num_queries, part.num_heads, v.shape[-1])
    results = jnp.zeros(shape, v.dtype)
    log_sums = jnp.zeros((part.num_examples, part.num_heads, blocks.num_queries), dtype)
    return lax.fori_loop(0, blocks.num_steps(part), step, (results, log_sums))


def _turned(x: Array) -> Array:
    return rearrange(x, "b h c m -> b m h c")


def _results_to_differentiate(q, k, v, mask, blocks):
    results, log_sums = _results(q, k, v, mask, blocks)
    return (results, log_sums), (q, k, v, mask, results, log_sums)


def _gradients(blocks: Blocks, saved, gradients):
    """Gradients of q, k and v; nobody differentiates the log-sum-exp."""
    q, k, v = saved[:3]
    dq, dk, dv = _joined(
        blocks, lambda part: _gradients_of(part, saved, gradients[0], blocks), (2, 2, 2)
    )
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


def _gradients_of(part: Part, saved, d_results, blocks: Blocks):
    q, k, v, mask, results, log_sums = saved
    dtype = log_sums.dtype
    product = functools.partial(jnp.einsum, preferred_element_type=dtype)

    def add(x, block, example, first):
        start = (example, first, 0, 0)
        block += lax.dynamic_slice(x, start, block.shape)
        return lax.dynamic_update_slice(x, block, start)

    def step(n, carry):
        dq, dk, dv = carry
        example, i = blocks.place(n)
        first = blocks.first_query(i)
        q_block, result, d_result = (
            blocks.of_queries(x, part, example, i) for x in (q, results, d_results)
        )
        # Queries that the last block shares with the one before have been counted there.
        own = first + jnp.arange(blocks.queries) >= i * blocks.queries
        d_result = jnp.where(own[None, None, :, None], d_result, 0.0)
        # XLA computes products with a large transposed operand slowly, so the small one is turned.
        q_turned, d_turned = (rearrange(x, "b h n c -> b h c n") for x in (q_block, d_result))
        mean = product("bhnv,bhnv->bhn", d_result, result)[..., None]
        start = (part.first_example + example, part.first_head, first)
        log_sum = lax.dynamic_slice(log_sums, start, mean.shape[:3])[..., None]

        def block_of_keys(j, carry):
            dq_block, dk, dv = carry
            k_block, v_block = (blocks.of_keys(x, part, example, j) for x in (k, v))
            mask_block = None if mask is None else blocks.of_mask(mask, part, example, i, j)
            weights = jnp.exp(blocks.scores(q_block, k_block, mask_block, i, j) - log_sum)
            d_weights = product("bhnv,bmhv->bhnm", d_result, v_block)
            d_scores = weights * (d_weights - mean) / q.shape[-1] ** 0.5
            weights, d_scores = weights.astype(v.dtype), d_scores.astype(q.dtype)
            first = blocks.first_key(j)
            return (
                dq_block + product("bhnm,bmhk->bhnk", d_scores, k_block),
                add(dk, _turned(product("bhkn,bhnm->bhkm", q_turned, d_scores)), example, first),
                add(dv, _turned(product("bhvn,bhnm->bhvm", d_turned, weights)), example, first),
            )

        dq_block, dk, dv = lax.fori_loop(
            0, blocks.num_key_blocks(i), block_of_keys, (jnp.zeros(q_block.shape, dtype), dk, dv)
        )
        return add(dq, rearrange(dq_block, "b h n k -> b n h k"), example, first), dk, dv

    zeros = tuple(
        jnp.zeros((part.num_examples, x.shape[1], part.num_heads, x.shape[3]), dtype)
        for x in (q, k, v)
    )
    return lax.fori_loop(0, blocks.num_steps(part), step, zeros)


_attend = jax.custom_vjp(_results, nondiff_argnums=(4,))
_attend.defvjp(_results_to_differentiate, _gradients)

# Calls outside of a compiled function do not compile each time.
_compiled = jax.jit(_attend, static_argnums=4)
