"""Multi-head attention, in whatever form is fastest of those that are exact.

- The definition is `dense.attend`; other forms re-associate or re-order its sums.
- Query/key, value and output channels are independent of each other and of the inputs' channels,
  and stand for all heads together: a head has `num_qk_channels / num_heads`.
- Operands of batch size 1 (learned latents and queries) stay that size until they meet a batch.
- Masks are True where attention may go.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.core import folded, structured
from perceiver_jax.core.blockwise import attend_blockwise, worthwhile
from perceiver_jax.core.dense import MaskedRows, attend
from perceiver_jax.core.folded import attend_folded
from perceiver_jax.core.fused import attend_fused, cuda_capability, fused_possible
from perceiver_jax.core.linear import ComputeDtype, Implementation, InitConfig, linear
from perceiver_jax.core.position import Rotation
from perceiver_jax.core.structured import Norm, attend_from_tokens, attend_to_tokens
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


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
        implementation: "plain" computes by the definition with automatic gradients; "auto" whatever
            is fastest of the forms that are exact.
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
    implementation: Implementation = "auto"


def fastest_form(q: Array, k: Array, v: Array) -> Callable[..., Array]:
    """The form of attention without dropout that is fastest for these shapes and this machine.

    Args:
        q: [B or 1, N, H, K] queries; shapes and types alone are looked at.
        k: [B or 1, M, H, K] keys.
        v: [B or 1, M, H, V] values.

    Returns:
        A function of q, k, v, mask, causal and masked_rows that computes what `dense.attend` does.
    """
    if fused_possible(q, k, v, cuda_capability()):
        return attend_fused
    return attend_blockwise if worthwhile(q, k) else attend


class Asked(NamedTuple):
    """Inputs made ready to be asked by many queries.

    Attributes:
        keys: [B, M, H, K].
        values: [B, M, H, V], or [B, M, 1, E] where the output projection is in them already.
        projected: whether it is.
    """

    keys: Array
    values: Array
    projected: bool


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
                implementation=config.implementation,
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
        causal: bool = False,
        inverted: bool = False,
        rotation: Rotation | None = None,
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
            causal: see `dense.attend`.
            inverted: see `dense.attend`.
            rotation: turns the keys, and the queries, which stand at the last positions where it
                does not say otherwise.
            key: random key for dropout; None means inference.
            tape: records the attention weights.

        Returns:
            [B, N, num_output_channels].
        """
        q = self.queries(queries, rotation)
        free = self._free(inverted, key, tape) and not causal and rotation is None
        if free and self._folds(q.shape[1], inputs.shape[1]):
            attended = attend_folded(
                q, inputs, attention_mask, masked_rows=self.config.masked_rows, **self._kernels()
            )
        else:
            attended = self._attend(
                q,
                *self.keys_values(inputs, rotation),
                attention_mask,
                causal=causal,
                inverted=inverted,
                key=key,
                tape=tape,
            )
        return self._output(attended, query_mask)

    def queries(self, x: Array, rotation: Rotation | None = None) -> Array:
        """[B or 1, N, D] → [B or 1, N, H, K] queries, turned."""
        q = self._heads(self.query(x))
        return q if rotation is None else rotation.of_queries(q.shape[1])(q)

    def keys_values(self, inputs: Array, rotation: Rotation | None = None) -> tuple[Array, Array]:
        """[B or 1, M, C] inputs → [B or 1, M, H, K] keys, turned, and [B or 1, M, H, V] values."""
        k = self._heads(self.key(inputs))
        return k if rotation is None else rotation(k), self._heads(self.value(inputs))

    def asked(self, inputs: Array) -> Asked:
        """Keys and values of [B, M, C] inputs, for many more queries than there are inputs.

        One head's values are projected to the output channels here, once, where these are fewer.
        """
        keys, values = self.keys_values(inputs)
        kernel = self.output.kernel[...]
        plain = self.config.implementation == "plain"
        if plain or self.config.num_heads > 1 or kernel.shape[1] > kernel.shape[0]:
            return Asked(keys, values, projected=False)
        dtype = self.output.dtype or jnp.result_type(values, kernel)
        projected = jnp.einsum("bmhv,ve->bmhe", values.astype(dtype), kernel.astype(dtype))
        return Asked(keys, projected, projected=True)

    def answer(
        self,
        queries: Array,
        asked: Asked,
        query_mask: Array | None = None,
        *,
        key: Key | None = None,
    ) -> Array:
        """The call's result from inputs made ready before."""
        attended = self._attend(self.queries(queries), asked.keys, asked.values, key=key)
        return self._output(attended, query_mask, projected=asked.projected)

    def answer_sequence(
        self,
        queries: Array,
        keys: Array,
        values: Array,
        attention_mask: Array | None,
        *,
        causal: bool,
        rotation: Rotation | None,
    ) -> Array:
        """The call's result for a sequence, from turned keys and values; no dropout."""
        q = self.queries(queries, rotation)
        return self.output(self._attend(q, keys, values, attention_mask, causal=causal))

    def _attend(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: Array | None = None,
        *,
        causal: bool = False,
        inverted: bool = False,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        if not self._free(inverted, key, tape):
            return attend(
                q,
                k,
                v,
                mask,
                causal=causal,
                masked_rows=self.config.masked_rows,
                inverted=inverted,
                dropout_rate=self.config.dropout,
                key=key,
                tape=tape,
            )
        form = fastest_form(q, k, v)
        return form(q, k, v, mask, causal=causal, masked_rows=self.config.masked_rows)

    def _free(self, inverted: bool, key: Key | None, tape: Tape) -> bool:
        """Whether any form may be taken: nobody asks for the weights or changes them."""
        drops = key is not None and self.config.dropout > 0.0
        return self.config.implementation == "auto" and not (inverted or drops or tape.recording)

    def attend_to_tokens(
        self,
        queries: Array,
        tokens: Tokens,
        norm: nnx.LayerNorm | None,
        query_mask: Array | None = None,
    ) -> Array:
        """Attends to normed dense tokens under their mask, by their structure.

        Args:
            queries: [B or 1, N, D] queries.
            tokens: what keys and values are made of.
            norm: layer norm of the tokens, or None.
            query_mask: as in the call.

        Returns:
            [B, N, num_output_channels].
        """
        attended = attend_to_tokens(
            self._heads(self.query(queries)),
            tokens,
            norm=None if norm is None else Norm.of(norm),
            masked_rows=self.config.masked_rows,
            **self._kernels(),
        )
        return self._output(attended, query_mask)

    def uses_structure(
        self,
        tokens: Tokens,
        num_queries: int,
        *,
        inverted: bool = False,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> bool:
        """Whether `attend_to_tokens` can stand for the call, and is cheaper."""
        return self._free(inverted, key, tape) and structured.is_cheaper(
            tokens, num_queries=num_queries, **self._sizes()
        )

    def answer_tokens(
        self,
        tokens: Tokens,
        norm: nnx.LayerNorm | None,
        asked: Asked,
        query_mask: Array | None = None,
    ) -> Array:
        """What `answer` gives for normed dense tokens as queries, by their structure."""
        bias = self.query.bias
        attended = attend_from_tokens(
            tokens,
            asked.keys,
            asked.values,
            query_kernel=self.query.kernel[...],
            query_bias=None if bias is None else bias[...],
            norm=None if norm is None else Norm.of(norm),
        )
        return self._output(attended, query_mask, projected=asked.projected)

    def asks_by_structure(self, tokens: Tokens, keys: Array, key: Key | None) -> bool:
        """Whether `answer_tokens` is allowed and cheaper than `answer`."""
        return self._free(False, key, SILENT) and structured.asking_is_cheaper(
            tokens,
            num_keys=keys.shape[1],
            num_heads=self.config.num_heads,
            num_qk_channels=self.query.out_features,
        )

    def _folds(self, num_queries: int, num_inputs: int) -> bool:
        return folded.is_cheaper(
            num_queries=num_queries,
            num_inputs=num_inputs,
            num_channels=self.key.in_features,
            **self._sizes(),
        )

    def _sizes(self) -> dict[str, int]:
        return {
            "num_heads": self.config.num_heads,
            "num_qk_channels": self.key.out_features,
            "num_v_channels": self.value.out_features,
        }

    def _kernels(self) -> dict[str, Any]:
        bias = self.value.bias
        return {
            "key_kernel": self.key.kernel[...],
            "value_kernel": self.value.kernel[...],
            "value_bias": None if bias is None else bias[...],
        }

    def _heads(self, x: Array) -> Array:
        return rearrange(x, "b n (h c) -> b n h c", h=self.config.num_heads)

    def _output(
        self, attended: Array, query_mask: Array | None, *, projected: bool = False
    ) -> Array:
        if query_mask is not None:
            attended = jnp.where(query_mask[:, :, None], attended, 0.0)
        if not projected:
            return self.output(attended)
        bias = self.output.bias
        result = attended if bias is None else attended + bias[...][None, None]
        return result.astype(self.output.dtype or result.dtype)
