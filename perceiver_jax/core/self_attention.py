"""Self-attention followed by an MLP, both pre-normed and residual; and blocks of such layers.

- `x + attention(norm(x))`, then `x + mlp(norm(x))`; the skip carries the un-normalised input.
- The skip stays in float32 when projections compute in bfloat16.
- In training a deep block of distinct layers is scanned, and so is a small one where that is
  faster, by stacking its parameters inside the compiled function; what is stored stays one entry
  per layer.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.attention import MultiHeadAttention
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.dropout import dropout, split
from perceiver_jax.core.gradients import prefers_loop
from perceiver_jax.core.mlp import MLP, MLPConfig
from perceiver_jax.core.position import Rotation
from perceiver_jax.core.remat import Remat, recomputed
from perceiver_jax.core.residual import norm_before, skip
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key

SCANNED_FROM = 8
"""Blocks of at least this many layers are scanned: compile time no longer grows with depth."""
SCANNED_FROM_IN_INFERENCE = 64
"""The same without a key on CPU, where the copies that stack the parameters cost more at every call
than the compiler takes once for layers that have no gradient."""


class SelfAttentionLayer(nnx.Module):
    """Latents attend to each other, then pass through an MLP.

    Args:
        attention: see `AttentionConfig`; `kv_norm` has no meaning here.
        mlp: see `MLPConfig`.
        num_channels: channels in and out.
        rngs: where initial values come from.

    Source: Perceiver §3.1 and appendix C; deepmind `perceiver.SelfAttention`, krasserm
    `SelfAttentionLayer`.
    """

    def __init__(
        self, attention: AttentionConfig, mlp: MLPConfig, *, num_channels: int, rngs: nnx.Rngs
    ):
        self.attention_config, self.mlp_config = attention, mlp
        if attention.q_norm:
            self.norm = norm_before(attention, num_channels, rngs=rngs)
        self.attention = MultiHeadAttention(
            attention, num_query_channels=num_channels, num_input_channels=num_channels, rngs=rngs
        )
        self.mlp_norm = norm_before(mlp, num_channels, rngs=rngs)
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
        x = skip(config, x, dropout(attended, config.residual_dropout, attention_key))
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
