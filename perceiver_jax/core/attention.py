"""Multi-head attention, in whatever form is fastest of those that are exact.

- The definition is `dense.attend`; other forms re-associate or re-order its sums.
- Query/key, value and output channels are independent of each other and of the inputs' channels,
  and stand for all heads together: a head has `num_qk_channels / num_heads`.
- Operands of batch size 1 (learned latents and queries) stay that size until they meet a batch.
- Masks are True where attention may go.
- Several heads of queries may share one head of keys and values (grouped-query attention).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from perceiver_jax.core import folded, structured
from perceiver_jax.core.attention_config import AttentionConfig, check_heads
from perceiver_jax.core.blockwise import attend_blockwise, worthwhile
from perceiver_jax.core.dense import attend
from perceiver_jax.core.folded import attend_folded
from perceiver_jax.core.fused import attend_fused, cuda_capability, fused_possible
from perceiver_jax.core.linear import linear, make_norm
from perceiver_jax.core.position import Rotation
from perceiver_jax.core.structured import Norm, attend_from_tokens, attend_to_tokens
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


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


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("keys", "values"),
    meta_fields=("projected",),
)
@dataclasses.dataclass(frozen=True)
class Asked:
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
        ValueError: the heads do not divide the query/key or value channels, or the heads of keys
            and values do not divide the heads, or fewer channels than are to be turned.

    Source: Perceiver §3.1 and appendix C; deepmind `perceiver.Attention`, krasserm
    `MultiHeadAttention`; transformers `Idefics2PerceiverAttention` (fewer heads of keys) and
    `IdeficsPerceiverAttention` (normed heads).
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
        check_heads(config, num_qk_channels=num_qk_channels, num_v_channels=num_v_channels)
        self.config = config
        self.num_kv_heads = config.num_kv_heads or config.num_heads

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
        share = config.num_heads // self.num_kv_heads
        self.key = projection(num_input_channels, num_qk_channels // share, config.k_bias)
        self.value = projection(num_input_channels, num_v_channels // share, config.v_bias)
        self.output = projection(num_v_channels, num_output_channels, config.out_bias)
        if config.qk_norm:
            self.query_norm, self.key_norm = (
                make_norm(
                    config.norm,
                    num_qk_channels // config.num_heads,
                    epsilon=config.layer_norm_epsilon,
                    rngs=rngs,
                )
                for _ in range(2)
            )

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
                does not say otherwise; values and results where it says so.
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
        return self._output(self._turned_back(attended, rotation), query_mask)

    def queries(self, x: Array, rotation: Rotation | None = None) -> Array:
        """[B or 1, N, D] → [B or 1, N, H, K] queries, turned."""
        q = self._heads(self.query(x))
        if self.config.qk_norm:
            q = self.query_norm(q).astype(q.dtype)
        return q if rotation is None else rotation.of_queries(q.shape[1])(q)

    def keys_values(self, inputs: Array, rotation: Rotation | None = None) -> tuple[Array, Array]:
        """[B or 1, M, C] inputs → [B or 1, M, H, K] keys, turned, and [B or 1, M, H, V] values.

        Of heads of keys and values there are `num_kv_heads`.
        """
        k, v = (
            rearrange(projection(inputs), "b m (h c) -> b m h c", h=self.num_kv_heads)
            for projection in (self.key, self.value)
        )
        if self.config.qk_norm:
            k = self.key_norm(k).astype(k.dtype)
        if rotation is None:
            return k, v
        return rotation(k), rotation(v) if rotation.values else v

    def asked(self, inputs: Array, rotation: Rotation | None = None) -> Asked:
        """Keys and values of [B, M, C] inputs, for many more queries than there are inputs.

        One head's values are projected to the output channels here, once, where these are fewer.
        """
        keys, values = self.keys_values(inputs, rotation)
        kernel = self.output.kernel[...]
        plain = self.config.implementation == "plain"
        turned = rotation is not None and rotation.values
        if plain or turned or self.config.num_heads > 1 or kernel.shape[1] > kernel.shape[0]:
            return Asked(keys, values, projected=False)
        dtype = self.output.dtype or jnp.result_type(values, kernel)
        projected = jnp.einsum("bmhv,ve->bmhe", values.astype(dtype), kernel.astype(dtype))
        return Asked(keys, projected, projected=True)

    def answer(
        self,
        queries: Array,
        asked: Asked,
        attention_mask: Array | None = None,
        query_mask: Array | None = None,
        *,
        rotation: Rotation | None = None,
        key: Key | None = None,
    ) -> Array:
        """The call's result from inputs made ready before; of the rotation, that of queries."""
        q = self.queries(queries, rotation)
        attended = self._attend(q, asked.keys, asked.values, attention_mask, key=key)
        attended = self._turned_back(attended, rotation)
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
        if self.num_kv_heads < self.config.num_heads:
            k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (k, v))
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
        possible = self._reassociates() and self.config.norm == "layer_norm"
        return (
            possible
            and self._free(inverted, key, tape)
            and structured.is_cheaper(tokens, num_queries=num_queries, **self._sizes())
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
        possible = self._reassociates() and self.config.norm == "layer_norm"
        return (
            possible
            and self._free(False, key, SILENT)
            and structured.asking_is_cheaper(
                tokens,
                num_keys=keys.shape[1],
                num_heads=self.config.num_heads,
                num_qk_channels=self.query.out_features,
            )
        )

    def _folds(self, num_queries: int, num_inputs: int) -> bool:
        return self._reassociates() and folded.is_cheaper(
            num_queries=num_queries,
            num_inputs=num_inputs,
            num_channels=self.key.in_features,
            **self._sizes(),
        )

    def _reassociates(self) -> bool:
        """Whether scores are a product of projections, head by head, with nothing in between."""
        return not self.config.qk_norm and self.num_kv_heads == self.config.num_heads

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

    def _turned_back(self, attended: Array, rotation: Rotation | None) -> Array:
        """[B, N, H * V] results, turned back by their queries' positions if values were turned."""
        if rotation is None or not rotation.values:
            return attended
        back = rotation.of_queries(attended.shape[1]).back()
        return rearrange(back(self._heads(attended)), "b n h v -> b n (h v)")

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
