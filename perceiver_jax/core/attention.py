"""Scaled dot-product attention and its multi-head form.

- One definition, `attend`, for every attention in the library; softmax in at least float32.
- Query/key, value and output channels are independent of each other and of the inputs' channels,
  and stand for all heads together: a head has `num_qk_channels / num_heads`.
- Operands of batch size 1 (learned latents and queries) stay that size until they meet a batch.
- Masks are True where attention may go.
- Inverted attention lets queries compete for each key, as slots do for pixels.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.core.dropout import dropout
from perceiver_jax.core.linear import ComputeDtype, InitConfig, linear
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key

MaskedRows = Literal["zero", "uniform"]

INVERTED_EPSILON = 1e-8
"""Least sum over keys that inverted attention weights are divided by."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """What the reference implementations vary in an attention and its residual branch.

    Attributes:
        num_heads: heads H; divides both channel numbers.
        num_qk_channels: query and key channels of all heads; None: the queries' channels.
        num_v_channels: value channels of all heads; None: `num_qk_channels`.
        num_output_channels: channels of the result; None: the queries' channels.
        q_bias: whether the query projection has a bias.
        k_bias: whether the key projection has a bias.
        v_bias: whether the value projection has a bias.
        out_bias: whether the output projection has a bias.
        q_norm: whether the queries (in self-attention: the inputs) are layer-normalised first.
        kv_norm: whether the inputs of a cross-attention are layer-normalised first.
        layer_norm_epsilon: added to the variance in those norms.
        residual: whether the un-normalised queries are added to the result.
        dropout: dropout rate of attention weights.
        residual_dropout: dropout rate of the result before it is added to the queries.
        masked_rows: what a query gets that may attend to nothing: "zero" (DeepMind) or "uniform"
            attention over all keys, masked ones included (the PyTorch libraries).
        init: initial values of the projections.
        compute_dtype: type in which the projections and products are computed.
    """

    num_heads: int = 8
    num_qk_channels: int | None = None
    num_v_channels: int | None = None
    num_output_channels: int | None = None
    q_bias: bool = True
    k_bias: bool = True
    v_bias: bool = True
    out_bias: bool = True
    q_norm: bool = True
    kv_norm: bool = True
    layer_norm_epsilon: float = 1e-5
    residual: bool = True
    dropout: float = 0.0
    residual_dropout: float = 0.0
    masked_rows: MaskedRows = "zero"
    init: InitConfig = InitConfig()
    compute_dtype: ComputeDtype = "float32"


def attend(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
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
        masked_rows: result of a query that may attend to nothing: "zero", or "uniform" for the mean
            of all values. Inverted attention gives zero in either case.
        inverted: take the softmax over queries instead of keys, then divide each query's weights by
            their sum over keys.
        dropout_rate: fraction of attention weights set to zero when `key` is given.
        key: random key; None means no dropout.
        tape: records the weights [B, H, N, M].

    Returns:
        [B or 1, N, H * V], heads side by side.

    Source: deepmind `perceiver.attend`; krasserm `MultiHeadAttention` for "uniform"; Slot Attention
    §2.1 and lucidrains `Attention` for inverted.
    Differs: the softmax runs in at least float32, and in float64 when the inputs are float64.
    """
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


class MultiHeadAttention(nnx.Module):
    """Projections around `attend`: queries look at inputs.

    Args:
        config: see `AttentionConfig`; its norm, residual and residual-dropout fields belong to the
            layer around this module.
        num_query_channels: channels of the queries.
        num_input_channels: channels of the inputs that keys and values are made of.
        rngs: where initial values come from.

    Raises:
        ValueError: the heads do not divide the query/key or value channels.

    Source: Perceiver §3.2; deepmind `perceiver.Attention`, krasserm `MultiHeadAttention`.
    """

    def __init__(
        self,
        config: AttentionConfig,
        *,
        num_query_channels: int,
        num_input_channels: int,
        rngs: nnx.Rngs,
    ):
        num_qk_channels = config.num_qk_channels or num_query_channels
        num_v_channels = config.num_v_channels or num_qk_channels
        num_output_channels = config.num_output_channels or num_query_channels
        for name, channels in (
            ("num_qk_channels", num_qk_channels),
            ("num_v_channels", num_v_channels),
        ):
            if channels % config.num_heads:
                raise ValueError(
                    f"{name}={channels} cannot be split over num_heads={config.num_heads}; choose "
                    f"a number of heads that divides it, or set {name} to a multiple of the heads"
                )
        self.config = config

        def projection(num_in, num_out, bias):
            return linear(
                num_in,
                num_out,
                bias=bias,
                init=config.init,
                compute_dtype=config.compute_dtype,
                rngs=rngs,
            )

        self.query = projection(num_query_channels, num_qk_channels, config.q_bias)
        self.key = projection(num_input_channels, num_qk_channels, config.k_bias)
        self.value = projection(num_input_channels, num_v_channels, config.v_bias)
        self.output = projection(num_v_channels, num_output_channels, config.out_bias)

    def __call__(
        self,
        queries: Array,
        inputs: Array,
        attention_mask: Array | None = None,
        query_mask: Array | None = None,
        *,
        inverted: bool = False,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Attends from queries to inputs.

        Args:
            queries: [B or 1, N, D] queries.
            inputs: [B or 1, M, C] what keys and values are made of.
            attention_mask: [B or 1, H or 1, N or 1, M] bool, True = may attend.
            query_mask: [B, N] bool; where False the attention result is zero before the output
                projection (deepmind's `query_mask`).
            inverted: see `attend`.
            key: random key for dropout; None means inference.
            tape: records the attention weights.

        Returns:
            [B, N, num_output_channels].
        """
        heads = self.config.num_heads
        q, k, v = (
            rearrange(x, "b n (h c) -> b n h c", h=heads)
            for x in (self.query(queries), self.key(inputs), self.value(inputs))
        )
        attended = attend(
            q,
            k,
            v,
            attention_mask,
            masked_rows=self.config.masked_rows,
            inverted=inverted,
            dropout_rate=self.config.dropout,
            key=key,
            tape=tape,
        )
        if query_mask is not None:
            attended = jnp.where(query_mask[:, :, None], attended, 0.0)
        return self.output(attended)
