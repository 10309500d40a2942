"""Cross-attention to tokens, or from tokens, whose structure is used instead of written out.

- Exactly the attention to `tokens.dense()`, re-associated: key and value projections move to the
  side of the few queries, the layer norm becomes one number per token and a centring per query,
  and positions of a grid enter axis by axis.
- Neither keys, values, scores nor the dense tokens ever exist; memory does not grow with the
  tokens: tables by axis are made for a part of the queries at a time.
- Whether it is cheaper follows from shapes alone, see `is_cheaper`.

Source: own; the definition is `attention.MultiHeadAttention` after `kv_norm`.
Differs: sums are taken in another order, and in at least float32 whatever the compute type.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from perceiver_jax.core.dense import MaskedRows
from perceiver_jax.core.layout import layout_of
from perceiver_jax.core.separable import evaluate_all, rows_at_once, softmax_sums
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array


@dataclasses.dataclass(frozen=True)
class Norm:
    """The layer norm of the tokens: scale [C], bias [C], epsilon."""

    scale: Array
    bias: Array
    epsilon: float

    @classmethod
    def of(cls, layer: Any) -> "Norm":
        """That of a flax layer."""
        return cls(layer.scale[...], layer.bias[...], layer.epsilon)


def is_cheaper(
    tokens: Tokens, *, num_queries: int, num_heads: int, num_qk_channels: int, num_v_channels: int
) -> bool:
    """Whether the structured form takes fewer multiplications than projecting keys and values."""
    projected = num_qk_channels + num_v_channels
    dense = tokens.num_tokens * projected * (tokens.num_channels + num_queries)
    layout = layout_of(tokens)
    # A feature is multiplied for the score and for the sum, and so are scale and weight.
    per_row = tokens.num_tokens * (layout.num_features + 2) + layout.table_size
    return 2 * num_heads * num_queries * per_row < dense


def asking_is_cheaper(
    tokens: Tokens, *, num_keys: int, num_heads: int, num_qk_channels: int
) -> bool:
    """Whether `attend_from_tokens` takes fewer multiplications than projecting tokens."""
    layout = layout_of(tokens)
    dense = tokens.num_tokens * num_qk_channels * (tokens.num_channels + num_keys)
    per_key = tokens.num_tokens * (layout.num_features + 1) + layout.table_size
    return num_heads * num_keys * per_key < dense


def attend_to_tokens(
    q: Array,
    tokens: Tokens,
    *,
    key_kernel: Array,
    value_kernel: Array,
    value_bias: Array | None,
    norm: Norm | None,
    masked_rows: MaskedRows,
) -> Array:
    """Softmax attention of queries to keys and values made of normed tokens.

    Args:
        q: [b, N, H, K] queries; b is 1 or B.
        tokens: B examples of M tokens with C channels, and their mask.
        key_kernel: [C, H·K]. A bias of the keys would cancel in the softmax.
        value_kernel: [C, H·V].
        value_bias: [H·V], or None.
        norm: of the tokens, or None.
        masked_rows: as in `attention.attend`, where an example has no token at all.

    Returns:
        [B, N, H·V], heads side by side, of type float32 or more.
    """
    heads, dtype = q.shape[2], jnp.promote_types(q.dtype, jnp.float32)
    dtype = jnp.promote_types(dtype, tokens.content.dtype)
    key_kernel = rearrange(key_kernel.astype(dtype), "c (h k) -> c h k", h=heads)
    value_kernel = rearrange(value_kernel.astype(dtype), "c (h v) -> c h v", h=heads)

    # Scores as functions of raw tokens: project back, scale, centre.
    u = jnp.einsum("bnhk,chk->bchn", q.astype(dtype) / q.shape[-1] ** 0.5, key_kernel)
    u = rearrange(u, "b c h n -> b c (h n)")
    bound = None
    if norm is not None:
        u = u * norm.scale.astype(dtype)[None, :, None]
        u = u - u.mean(axis=1, keepdims=True)
        # A normed token, before its scale and bias, is no longer than the root of its channels.
        bound = jax.lax.stop_gradient(jnp.linalg.norm(u, axis=1) * u.shape[1] ** 0.5)

    batch = max(len(u), len(tokens.content))
    content = jnp.broadcast_to(tokens.content, (batch, *tokens.content.shape[1:]))
    tokens = _converted(dataclasses.replace(tokens, content=content), dtype)
    mask, alive = tokens.mask, None
    if mask is not None:
        mask = jnp.broadcast_to(mask, (batch, mask.shape[-1]))
        found = mask.any(-1, keepdims=True)
        if masked_rows == "uniform":
            mask, u = mask | ~found, u * found[:, :, None]
        else:
            alive = found[:, :, None].astype(dtype)

    layout = layout_of(tokens)
    elements = layout.elements(mask, None if norm is None else norm.epsilon)

    def attended(u):
        return layout.channels(softmax_sums(layout.functional(u), elements, bound))

    y = _in_parts(attended, u, rows_at_once(elements))
    if norm is not None:
        y = (y - y.mean(axis=1, keepdims=True)) * norm.scale.astype(dtype)[None, :, None]
        y = y + _where_alive(norm.bias.astype(dtype)[None, :, None], alive)
    y = rearrange(y, "b c (h n) -> b c h n", h=heads)
    result = rearrange(jnp.einsum("bchn,chv->bnhv", y, value_kernel), "b n h v -> b n (h v)")
    if value_bias is not None:
        result = result + _where_alive(value_bias.astype(dtype)[None, None], alive)
    return result


def attend_from_tokens(
    tokens: Tokens,
    k: Array,
    v: Array,
    *,
    query_kernel: Array,
    query_bias: Array | None,
    norm: Norm | None,
) -> Array:
    """Softmax attention of queries made of normed tokens: the other side of `attend_to_tokens`.

    Args:
        tokens: B or 1 examples of O tokens with C channels.
        k: [B, M, H, K] keys.
        v: [B, M, H, V] values.
        query_kernel: [C, H·K].
        query_bias: [H·K], or None.
        norm: of the tokens, or None.

    Returns:
        [B, O, H·V], heads side by side, of type float32 or more.
    """
    num_keys, heads = k.shape[1:3]
    dtype = jnp.promote_types(jnp.promote_types(k.dtype, jnp.float32), tokens.content.dtype)
    query_kernel = rearrange(query_kernel.astype(dtype), "c (h k) -> c h k", h=heads)
    k = k.astype(dtype) / k.shape[-1] ** 0.5
    u = rearrange(jnp.einsum("bmhk,chk->bchm", k, query_kernel), "b c h m -> b c (h m)")
    # What every query adds to the score of a key: the biases.
    constant = jnp.zeros((1, u.shape[-1]), dtype)
    if query_bias is not None:
        bias = rearrange(query_bias.astype(dtype), "(h k) -> h k", h=heads)
        constant = rearrange(jnp.einsum("bmhk,hk->bhm", k, bias), "b h m -> b (h m)")
    if norm is not None:
        constant = constant + jnp.einsum("bcr,c->br", u, norm.bias.astype(dtype))
        u = u * norm.scale.astype(dtype)[None, :, None]
        u = u - u.mean(axis=1, keepdims=True)
    content = jnp.broadcast_to(tokens.content, (len(k), *tokens.content.shape[1:]))
    tokens = _converted(dataclasses.replace(tokens, content=content), dtype)
    layout = layout_of(tokens)
    elements = layout.elements(None, None if norm is None else norm.epsilon)
    scores = evaluate_all(layout.functional(u), elements)[:, : tokens.num_tokens]
    scores = rearrange(scores + constant[:, None], "b o (h m) -> b h o m", m=num_keys)
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - highest)
    # Divided after the product, which has fewer channels than there are keys; both operands lie as
    # a product takes them, and nothing as large as the weights is copied.
    result = weights @ rearrange(v.astype(dtype), "b m h v -> b h m v")
    result = result / weights.sum(axis=-1, keepdims=True)
    return rearrange(result, "b h o v -> b o (h v)")


def _in_parts(function: Callable[[Array], Array], u: Array, at_once: int | None) -> Array:
    """A function of [b, C, R] that treats all R alike, of so many of them at once."""
    num_rows = u.shape[-1]
    if at_once is None or num_rows <= at_once:
        return function(u)
    num_parts = -(-num_rows // at_once)
    u = jnp.pad(u, [(0, 0), (0, 0), (0, -num_rows % num_parts)])
    parts = jax.lax.map(function, rearrange(u, "b c (p r) -> p b c r", p=num_parts))
    return rearrange(parts, "p b c r -> b c (p r)")[..., :num_rows]


def _converted(tokens: Tokens, dtype) -> Tokens:
    """Content and tables in this type, the tables rounded to the content's as in dense tokens."""
    rounded = jnp.promote_types(tokens.content.dtype, jnp.float32)
    tables = tuple(jnp.asarray(table, rounded).astype(dtype) for table in tokens.positions)
    return dataclasses.replace(tokens, content=tokens.content.astype(dtype), positions=tables)


def _where_alive(bias: Array, alive: Array | None) -> Array:
    """A bias of values, which examples without tokens get none of."""
    return bias if alive is None else bias * alive
