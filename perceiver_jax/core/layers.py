"""Attention followed by an MLP, both pre-normed and residual; and blocks of such layers.

- `x + attention(norm(x))`, then `x + mlp(norm(x))`; the skip carries the un-normalised input.
- The skip stays in float32 when projections compute in bfloat16.
- In training a deep block of distinct layers is scanned, and so is a small one where that is
  faster, by stacking its parameters inside the compiled function; what is stored stays one entry
  per layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.attention import AttentionConfig, MultiHeadAttention
from perceiver_jax.core.dropout import dropout, split
from perceiver_jax.core.gradients import prefers_loop
from perceiver_jax.core.linear import LayerNorm
from perceiver_jax.core.mlp import MLP, MLPConfig
from perceiver_jax.core.position import Rotation
from perceiver_jax.core.query_blocks import map_blocks
from perceiver_jax.core.remat import Remat, recomputed
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

SCANNED_FROM = 8
"""Blocks of at least this many layers are scanned: compile time no longer grows with depth."""
SCANNED_FROM_IN_INFERENCE = 64
"""The same without a key on CPU, where the copies that stack the parameters cost more at every call
than the compiler takes once for layers that have no gradient."""


class CrossAttentionLayer(nnx.Module):
    """Queries attend to inputs, then pass through an MLP.

    Args:
        attention: see `AttentionConfig`.
        mlp: see `MLPConfig`; None leaves the MLP out.
        num_query_channels: channels of the queries and of the result.
        num_input_channels: channels of the inputs.
        rngs: where initial values come from.

    Source: Perceiver IO §3.1; deepmind `perceiver.CrossAttention`, krasserm `CrossAttentionLayer`.
    """

    def __init__(
        self,
        attention: AttentionConfig,
        mlp: MLPConfig | None,
        *,
        num_query_channels: int,
        num_input_channels: int,
        rngs: nnx.Rngs,
    ):
        self.attention_config, self.mlp_config = attention, mlp
        norm = _norm_options(attention)
        if attention.q_norm:
            self.q_norm = LayerNorm(num_query_channels, **norm, rngs=rngs)
        if attention.kv_norm:
            self.kv_norm = LayerNorm(num_input_channels, **norm, rngs=rngs)
        self.attention = MultiHeadAttention(
            attention,
            num_query_channels=num_query_channels,
            num_input_channels=num_input_channels,
            rngs=rngs,
        )
        if mlp is not None:
            self.mlp_norm = LayerNorm(num_query_channels, **_norm_options(mlp), rngs=rngs)
            self.mlp = MLP(mlp, num_channels=num_query_channels, rngs=rngs)

    def __call__(
        self,
        queries: Array,
        inputs: Array | Tokens,
        attention_mask: Array | None = None,
        query_mask: Array | None = None,
        *,
        inverted: bool = False,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Attends.

        Args:
            queries: [B or 1, N, D].
            inputs: [B or 1, M, C], or tokens, whose structure is used where it can be.
            attention_mask: as in `attend`; tokens bring their own instead.
            query_mask: [B, N] bool; where False the attention result is zero.
            inverted: see `attend`.
            key: random key for dropout; None means inference.
            tape: records `attention`, `mlp` and the attention weights.

        Returns:
            [B, N, D].
        """
        weights_key, residual_key = split(key, 2)
        config = self.attention_config
        normed = self.q_norm(queries) if config.q_norm else queries
        if isinstance(inputs, Tokens) and attention_mask is not None:
            raise ValueError("tokens bring their own mask: attention_mask goes with arrays")
        if isinstance(inputs, Tokens) and self.attention.uses_structure(
            inputs, queries.shape[1], inverted=inverted, key=weights_key, tape=tape
        ):
            norm = self.kv_norm if config.kv_norm else None
            attended = self.attention.attend_to_tokens(normed, inputs, norm, query_mask)
        else:
            if isinstance(inputs, Tokens):
                mask, inputs = inputs.mask, inputs.dense()
                attention_mask = None if mask is None else mask[:, None, None, :]
            attended = self.attention(
                normed,
                self.kv_norm(inputs) if config.kv_norm else inputs,
                attention_mask,
                query_mask,
                inverted=inverted,
                key=weights_key,
                tape=tape,
            )
        return self.residual(queries, attended, residual_key, tape)

    def answer_in_blocks(
        self,
        queries: Array | Tokens,
        inputs: Array,
        query_mask: Array | None = None,
        *,
        at_once: int,
        finish: Callable[[Array], Any],
        key: Key | None = None,
    ) -> Any:
        """Many queries to few inputs, in memory that does not grow with the queries.

        Args:
            queries: [B or 1, O, E], or tokens that are so when dense.
            inputs: [B, M, C], projected once.
            query_mask: as in the call.
            at_once: queries of a block, about.
            finish: applied to the result [B, o, E] of each block.
            key: random key for dropout; None means inference.

        Returns:
            What `finish` makes of [B, O, E].
        """
        config = self.attention_config
        asked = self.attention.asked(self.kv_norm(inputs) if config.kv_norm else inputs)

        def answer(tokens, query_mask, key):
            weights_key, residual_key = split(key, 2)
            queries = tokens.dense()
            norm = self.q_norm if config.q_norm else None
            if self.attention.asks_by_structure(tokens, asked.keys, weights_key):
                attended = self.attention.answer_tokens(tokens, norm, asked, query_mask)
            else:
                normed = queries if norm is None else norm(queries)
                attended = self.attention.answer(normed, asked, query_mask, key=weights_key)
            return finish(self.residual(queries, attended, residual_key, SILENT))

        return map_blocks(answer, queries, query_mask, at_once=at_once, key=key)

    def residual(self, queries: Array, attended: Array, key: Key | None, tape: Tape) -> Array:
        """What follows the attention: skip and MLP."""
        attention_key, mlp_key = split(key, 2)
        rate = self.attention_config.residual_dropout
        x = _skip(self.attention_config, queries, dropout(attended, rate, attention_key))
        tape.stage("attention", x)
        if self.mlp_config is not None:
            x = x + dropout(self.mlp(self.mlp_norm(x)), self.mlp_config.residual_dropout, mlp_key)
            tape.stage("mlp", x)
        return x


class SelfAttentionLayer(nnx.Module):
    """Latents attend to each other, then pass through an MLP.

    Args:
        attention: see `AttentionConfig`; `kv_norm` has no meaning here.
        mlp: see `MLPConfig`.
        num_channels: channels in and out.
        rngs: where initial values come from.

    Source: Perceiver §3.2; deepmind `perceiver.SelfAttention`, krasserm `SelfAttentionLayer`.
    """

    def __init__(
        self, attention: AttentionConfig, mlp: MLPConfig, *, num_channels: int, rngs: nnx.Rngs
    ):
        self.attention_config, self.mlp_config = attention, mlp
        if attention.q_norm:
            self.norm = LayerNorm(num_channels, **_norm_options(attention), rngs=rngs)
        self.attention = MultiHeadAttention(
            attention, num_query_channels=num_channels, num_input_channels=num_channels, rngs=rngs
        )
        self.mlp_norm = LayerNorm(num_channels, **_norm_options(mlp), rngs=rngs)
        self.mlp = MLP(mlp, num_channels=num_channels, rngs=rngs)

    def __call__(
        self,
        x: Array,
        attention_mask: Array | None = None,
        *,
        causal: bool = False,
        rotation: Rotation | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """[B, N, D] → [B, N, D]; mask, causality and rotation as in the attention."""
        weights_key, *residual_keys = split(key, 3)
        normed = self.normed(x)
        attended = self.attention(
            normed,
            normed,
            attention_mask,
            causal=causal,
            rotation=rotation,
            key=weights_key,
            tape=tape,
        )
        return self.residual(x, attended, residual_keys, tape=tape)

    def normed(self, x: Array) -> Array:
        """[B, N, D] → what the attention sees of it."""
        return self.norm(x) if self.attention_config.q_norm else x

    def residual(
        self,
        x: Array,
        attended: Array,
        keys: Sequence[Key | None] = (None, None),
        *,
        tape: Tape = SILENT,
    ) -> Array:
        """What follows the attention: skip and MLP, each with a key for dropout."""
        attention_key, mlp_key = keys
        config = self.attention_config
        x = _skip(config, x, dropout(attended, config.residual_dropout, attention_key))
        tape.stage("attention", x)
        x = x + dropout(self.mlp(self.mlp_norm(x)), self.mlp_config.residual_dropout, mlp_key)
        tape.stage("mlp", x)
        return x


class SelfAttentionBlock(nnx.Module):
    """Self-attention layers, one after the other, each with weights of its own.

    Args:
        attention: of every layer.
        mlp: of every layer.
        num_layers: layers L.
        num_channels: channels in and out.
        remat: what of each layer the backward pass computes again instead of keeping it.
        unroll: write the layers out instead of scanning, whatever their number.
        rngs: where initial values come from.
    """

    def __init__(
        self,
        attention: AttentionConfig,
        mlp: MLPConfig,
        *,
        num_layers: int,
        num_channels: int,
        remat: Remat = "none",
        unroll: bool = False,
        rngs: nnx.Rngs,
    ):
        self.layer = nnx.List(
            [
                SelfAttentionLayer(attention, mlp, num_channels=num_channels, rngs=rngs)
                for _ in range(num_layers)
            ]
        )
        self.remat: Remat = remat
        self.unroll = unroll

    def __call__(
        self,
        x: Array,
        attention_mask: Array | None = None,
        *,
        causal: bool = False,
        rotation: Rotation | None = None,
        layers: range | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """[B, N, D] → [B, N, D].

        Args:
            x: [B, N, D].
            attention_mask: as in the attention, of every layer.
            causal: whether no position sees a later one.
            rotation: turns queries and keys.
            layers: which layers, one after the other; None: all.
            key: random key for dropout; None means inference.
            tape: records by layer.
        """
        chosen = range(len(self.layer)) if layers is None else layers
        keys = split(key, len(chosen))
        if tape.recording:
            how: dict[str, Any] = {"causal": causal, "rotation": rotation}
            for i, layer_key in zip(chosen, keys, strict=True):
                at = tape.at(f"layer/{i}")
                x = self.layer[i](x, attention_mask, key=layer_key, tape=at, **how)
            return x

        def apply(layer: SelfAttentionLayer, x: Array, key: Key | None) -> Array:
            return layer(x, attention_mask, causal=causal, rotation=rotation, key=key)

        apply = recomputed(apply, self.remat)
        if self.unroll or not self._loops(x, len(chosen), inference=key is None):
            for i, layer_key in zip(chosen, keys, strict=True):
                x = apply(self.layer[i], x, layer_key)
            return x
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[self.layer[i] for i in chosen])
        scanned = (stacked, None if key is None else keys)
        return jax.lax.scan(lambda x, step: (apply(step[0], x, step[1]), None), x, scanned)[0]

    def _loops(self, x: Array, num_layers: int, *, inference: bool) -> bool:
        """Whether to loop over so many layers, for the compiler's sake or for speed."""
        num_parameters = sum(leaf.size for leaf in jax.tree.leaves(self.layer[0]))
        written_out = inference and jax.default_backend() == "cpu"
        if num_layers >= (SCANNED_FROM_IN_INFERENCE if written_out else SCANNED_FROM):
            return True
        auto = self.layer[0].attention_config.implementation == "auto"
        return auto and num_layers > 1 and prefers_loop(x, num_parameters)


def _norm_options(config: AttentionConfig | MLPConfig) -> dict[str, Any]:
    return {"epsilon": config.layer_norm_epsilon, "implementation": config.implementation}


def _skip(config: AttentionConfig, x: Array, attended: Array) -> Array:
    """What goes on after the attention: without a residual too, in the skip's type."""
    if config.residual:
        return x + attended
    return attended.astype(jnp.promote_types(x.dtype, attended.dtype))
