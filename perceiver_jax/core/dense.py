"""Scaled dot-product attention by its definition: what every other form has to equal.

- The softmax runs in at least float32.
- Masks are True where attention may go.
- Inverted attention lets queries compete for each key, as slots do for pixels.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange

from perceiver_jax.core.dropout import dropout
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key

MaskedRows = Literal["zero", "uniform"]

INVERTED_EPSILON = 1e-8
"""Least sum over keys that inverted attention weights are divided by."""


def attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    causal: bool = False,
    masked_rows: MaskedRows = "zero",
    inverted: bool = False,
    dropout_rate: float = 0.0,
    key: Key | None = None,
    tape: Tape = SILENT,
) -> Array:
    """Softmax attention; the one place where queries meet keys.

    Args:
        q: [B or 1, N, H, K] queries.
        k: [B or 1, M, H, K] keys.
        v: [B or 1, M, H, V] values.
        mask: [B or 1, H or 1, N or 1, M] bool, True = may attend; None attends everywhere.
        causal: the queries are the last N of M positions, and none may attend to a later one:
            query i attends to keys up to M - N + i, where the mask allows them as well.
        masked_rows: result of a query that may attend to nothing: "zero", or "uniform" for the mean
            of all values. Inverted attention gives zero in either case.
        inverted: take the softmax over queries instead of keys, then divide each query's weights by
            their sum over keys.
        dropout_rate: fraction of attention weights set to zero when `key` is given.
        key: random key; None means no dropout.
        tape: records the weights [B, H, N, M].

    Returns:
        [B or 1, N, H * V], heads side by side.

    Raises:
        ValueError: causal attention of more queries than there are keys.

    Source: deepmind `perceiver.attend`; krasserm `MultiHeadAttention` for "uniform"; Slot Attention
    §2.1 and lucidrains `Attention` for inverted.
    Differs: the softmax runs in at least float32, and in float64 when the inputs are float64.
    """
    if causal:
        past = past_keys(q.shape[1], k.shape[1])
        mask = past if mask is None else mask & past
    dtype = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("bnhk,bmhk->bhnm", q, k, preferred_element_type=dtype)
    logits = logits / q.shape[-1] ** 0.5
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(dtype).min)
    weights = jax.nn.softmax(logits, axis=-2 if inverted else -1)
    if mask is not None and inverted:
        weights = jnp.where(mask, weights, 0.0)
    elif mask is not None and masked_rows == "zero":
        weights = jnp.where(mask.any(-1, keepdims=True), weights, 0.0)
    if inverted:
        weights = weights / jnp.maximum(weights.sum(-1, keepdims=True), INVERTED_EPSILON)
    tape.attention_map(weights)
    weights = dropout(weights, dropout_rate, key)
    result = jnp.einsum("bhnm,bmhv->bnhv", weights.astype(v.dtype), v)
    return rearrange(result, "b n h v -> b n (h v)")


def past_keys(num_queries: int, num_keys: int) -> Array:
    """[1, 1, N, M] which keys are not later than a query, queries being the last N positions."""
    check_causal(num_queries, num_keys)
    return jnp.tri(num_queries, num_keys, num_keys - num_queries, dtype=bool)[None, None]


def check_causal(num_queries: int, num_keys: int) -> None:
    """Raises a ValueError if there are more queries than keys."""
    if num_queries > num_keys:
        raise ValueError(
            f"causal attention of {num_queries} queries to {num_keys} keys: queries stand at the "
            "end of the keys, so there must be at least as many keys"
        )
