"""Attention in blocks of queries and keys: what `attend` computes, without its matrix of weights.

- A running softmax over blocks of keys. Scores exist for one pair of blocks at a time, so memory
  does not grow with the number of keys.
- The gradient is written by hand: it keeps the result and each query's log-sum-exp, and computes
  the scores again, pair by pair. It can be differentiated in reverse only, causal attention once.
- Causal queries stand at the end of the keys, as the latents of Perceiver AR do. Blocks of keys
  that lie after all queries of a block are not computed.
- Sizes need not be multiples of the blocks: the last block is moved back until it fits, and what
  it shares with the block before it is masked. Nothing is padded, so keys and values, which may be
  larger than all else, are never copied as a whole.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax

from perceiver_jax.core.dense import MaskedRows, check_causal
from perceiver_jax.typing import Array

MIN_BLOCK, MAX_BLOCK = 128, 512
"""Queries or keys of a block: with fewer the matrix products are slow, more bring nothing."""

SCORES_IN_CACHE = 2**20
"""Scores that a pair of blocks may have over all examples and heads, if blocks can be so small."""

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
    result, log_sums = _compiled(q, k, v, mask, _Blocks.of(q, k, causal))
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


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """How N queries and M keys are divided into blocks, and what a block of queries sees.

    Arrays are [B, N, H, channels]; a block of queries is [B, H, queries, channels], one of keys
    [B, keys, H, channels], scores of a pair are [B, H, queries, keys].
    """

    num_queries: int
    num_keys: int
    queries: int
    keys: int
    causal: bool

    @classmethod
    def of(cls, q: Array, k: Array, causal: bool) -> "_Blocks":
        batch, num_queries, heads, _ = q.shape
        num_keys = k.shape[1]
        scores = SCORES_IN_CACHE // (batch * heads)
        keys = _block_size(num_keys, scores // min(num_queries, MAX_BLOCK))
        queries = _block_size(num_queries, scores // keys)
        return cls(num_queries, num_keys, queries, keys, causal)

    @property
    def num_query_blocks(self) -> int:
        return -(-self.num_queries // self.queries)

    def num_key_blocks(self, i):
        """Blocks up to the last key that any query of block i sees."""
        if not self.causal:
            return -(-self.num_keys // self.keys)
        last_query = self.first_query(i) + self.queries - 1
        return (last_query + self.num_keys - self.num_queries) // self.keys + 1

    def first_query(self, i):
        return jnp.minimum(i * self.queries, self.num_queries - self.queries)

    def first_key(self, j):
        return jnp.minimum(j * self.keys, self.num_keys - self.keys)

    def of_queries(self, x, i):
        x = lax.dynamic_slice_in_dim(x, self.first_query(i), self.queries, axis=1)
        return rearrange(x, "b n h c -> b h n c")

    def of_keys(self, x, j):
        return lax.dynamic_slice_in_dim(x, self.first_key(j), self.keys, axis=1)

    def scores(self, q_block, k_block, mask, i, j):
        """Scaled scores in at least float32, -inf where a query may not attend."""
        dtype = jnp.promote_types(q_block.dtype, jnp.float32)
        scores = jnp.einsum("bhnk,bmhk->bhnm", q_block, k_block, preferred_element_type=dtype)
        scores = scores / q_block.shape[-1] ** 0.5
        queries = (self.first_query(i) + jnp.arange(self.queries))[None, None, :, None]
        keys = (self.first_key(j) + jnp.arange(self.keys))[None, None, None]
        if self.num_keys % self.keys:  # keys that the last block shares with the one before
            scores = jnp.where(keys >= j * self.keys, scores, -jnp.inf)
        if self.causal:
            scores = jnp.where(
                keys <= queries + (self.num_keys - self.num_queries), scores, -jnp.inf
            )
        if mask is not None:
            mask = lax.dynamic_slice_in_dim(mask, self.first_key(j), self.keys, axis=3)
            if mask.shape[2] > 1:
                mask = lax.dynamic_slice_in_dim(mask, self.first_query(i), self.queries, axis=2)
            scores = jnp.where(mask, scores, -jnp.inf)
        return scores


def _block_size(total: int, at_most: int) -> int:
    """Within the bounds above, and so that the last block shares little with the one before."""
    at_most = min(max(at_most // MIN_BLOCK * MIN_BLOCK, MIN_BLOCK), MAX_BLOCK)
    num_blocks = -(-total // at_most)
    return -(-total // num_blocks)


def _results(q, k, v, mask, blocks) -> tuple[Array, Array]:
    """[B, N, H, V] result and [B, H, N] log-sum-exp; zero and inf where a query sees nothing."""
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    rows = (q.shape[0], q.shape[2], blocks.queries)

    def block_of_queries(i, carry):
        results, log_sums = carry
        q_block = blocks.of_queries(q, i)

        def block_of_keys(j, carry):
            greatest, total, result = carry
            scores = blocks.scores(q_block, blocks.of_keys(k, j), mask, i, j)
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
                    blocks.of_keys(v, j),
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
            lax.dynamic_update_slice_in_dim(results, result, first, axis=1),
            lax.dynamic_update_slice_in_dim(log_sums, log_sum, first, axis=2),
        )

    results = jnp.zeros((*q.shape[:3], v.shape[-1]), v.dtype)
    log_sums = jnp.zeros((q.shape[0], q.shape[2], q.shape[1]), dtype)
    return lax.fori_loop(0, blocks.num_query_blocks, block_of_queries, (results, log_sums))


def _results_to_differentiate(q, k, v, mask, blocks):
    results, log_sums = _results(q, k, v, mask, blocks)
    return (results, log_sums), (q, k, v, mask, results, log_sums)


def _gradients(blocks, saved, gradients):
    """Gradients of q, k and v; nobody differentiates the log-sum-exp."""
    q, k, v, mask, results, log_sums = saved
    dtype = log_sums.dtype
    product = functools.partial(jnp.einsum, preferred_element_type=dtype)

    def add(x, block, first):
        block += lax.dynamic_slice_in_dim(x, first, block.shape[1], axis=1)
        return lax.dynamic_update_slice_in_dim(x, block, first, axis=1)

    def block_of_queries(i, carry):
        dq, dk, dv = carry
        first = blocks.first_query(i)
        q_block, result, d_result = (blocks.of_queries(x, i) for x in (q, results, gradients[0]))
        # Queries that the last block shares with the one before have been counted there.
        own = first + jnp.arange(blocks.queries) >= i * blocks.queries
        d_result = jnp.where(own[None, None, :, None], d_result, 0.0)
        mean = product("bhnv,bhnv->bhn", d_result, result)[..., None]
        log_sum = lax.dynamic_slice_in_dim(log_sums, first, blocks.queries, axis=2)[..., None]

        def block_of_keys(j, carry):
            dq_block, dk, dv = carry
            k_block, v_block = blocks.of_keys(k, j), blocks.of_keys(v, j)
            weights = jnp.exp(blocks.scores(q_block, k_block, mask, i, j) - log_sum)
            d_weights = product("bhnv,bmhv->bhnm", d_result, v_block)
            d_scores = weights * (d_weights - mean) / q.shape[-1] ** 0.5
            weights, d_scores = weights.astype(v.dtype), d_scores.astype(q.dtype)
            first = blocks.first_key(j)
            return (
                dq_block + product("bhnm,bmhk->bhnk", d_scores, k_block),
                add(dk, product("bhnm,bhnk->bmhk", d_scores, q_block), first),
                add(dv, product("bhnm,bhnv->bmhv", weights, d_result), first),
            )

        dq_block, dk, dv = lax.fori_loop(
            0, blocks.num_key_blocks(i), block_of_keys, (jnp.zeros(q_block.shape, dtype), dk, dv)
        )
        return add(dq, rearrange(dq_block, "b h n k -> b n h k"), first), dk, dv

    zeros = tuple(jnp.zeros(x.shape, dtype) for x in (q, k, v))
    dq, dk, dv = lax.fori_loop(0, blocks.num_query_blocks, block_of_queries, zeros)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


_attend = jax.custom_vjp(_results, nondiff_argnums=(4,))
_attend.defvjp(_results_to_differentiate, _gradients)

# Calls outside of a compiled function do not compile each time.
_compiled = jax.jit(_attend, static_argnums=4)
