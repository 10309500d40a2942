"""Attention of few queries, without projecting the many inputs to keys and values.

- Scores are `(q Wkᵀ) x` and the result is `(A x) Wv`: the projections move to the queries' side.
- The bias of the keys cancels in the softmax; that of the values stays, as weights sum to one.
"""

import jax.numpy as jnp
from einops import rearrange

from perceiver_jax.core.dense import MaskedRows, attend
from perceiver_jax.typing import Array


def is_cheaper(
    *,
    num_queries: int,
    num_inputs: int,
    num_channels: int,
    num_heads: int,
    num_qk_channels: int,
    num_v_channels: int,
) -> bool:
    """Whether folding takes fewer multiplications than projecting inputs to keys and values."""
    projected = num_qk_channels + num_v_channels
    dense = num_inputs * projected * (num_channels + num_queries)
    folded = num_queries * num_channels * (projected + 2 * num_heads * num_inputs)
    return folded < dense


def attend_folded(
    q: Array,
    inputs: Array,
    mask: Array | None,
    *,
    key_kernel: Array,
    value_kernel: Array,
    value_bias: Array | None,
    masked_rows: MaskedRows,
) -> Array:
    """Softmax attention of queries to keys and values made of inputs.

    Args:
        q: [B or 1, N, H, K] queries.
        inputs: [B or 1, M, C].
        mask: [B or 1, H or 1, N or 1, M] bool, True = may attend; None attends everywhere.
        key_kernel: [C, H·K].
        value_kernel: [C, H·V].
        value_bias: [H·V], or None.
        masked_rows: as in `dense.attend`.

    Returns:
        [B, N, H·V], heads side by side.
    """
    _, num_queries, heads, num_qk_channels = q.shape
    num_channels = inputs.shape[-1]
    key_kernel = rearrange(key_kernel.astype(q.dtype), "c (h k) -> c h k", h=heads)
    value_kernel = rearrange(value_kernel.astype(q.dtype), "c (h v) -> c h v", h=heads)
    # Every head of every query becomes a query of its own, of C channels, to one head of inputs.
    folded = jnp.einsum("bnhk,chk->bhnc", q, key_kernel) * (num_channels / num_qk_channels) ** 0.5
    folded = rearrange(folded, "b h n c -> b (h n) 1 c")
    inputs = inputs.astype(q.dtype)[:, :, None]
    alive = None
    if mask is not None:
        mask = jnp.broadcast_to(mask, (len(mask), heads, num_queries, mask.shape[-1]))
        alive = mask.any(-1)
        mask = rearrange(mask, "b h n m -> b 1 (h n) m")
    attended = attend(folded, inputs, inputs, mask, masked_rows=masked_rows)
    attended = rearrange(attended, "b (h n) c -> b n h c", h=heads)
    result = jnp.einsum("bnhc,chv->bnhv", attended, value_kernel)
    if value_bias is not None:
        bias = rearrange(value_bias.astype(q.dtype), "(h v) -> 1 1 h v", h=heads)
        if alive is not None and masked_rows == "zero":
            bias = jnp.where(rearrange(alive, "b h n -> b n h 1"), bias, 0.0)
        result = result + bias
    return rearrange(result, "b n h v -> b n (h v)")
