"""Cross-attention from latents at the last positions of a sequence to all of it."""

from typing import Any

import jax.numpy as jnp

from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.core.dropout import split
from perceiver_jax.core.perceiver_ar_config import CrossAttentionKeys
from perceiver_jax.core.position import Rotation
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key


class CausalCrossAttentionLayer(CrossAttentionLayer):
    """Latents attend to a sequence of which they stand at the end.

    Args:
        keys: what is attended to where latents stand: "latents", normed as queries are, or the
            "inputs" there, normed as all others are.
        args: as of a `CrossAttentionLayer`.
        kwargs: likewise.

    Source: Perceiver AR §3.1; krasserm `CrossAttentionLayer` with `x_kv_prefix` and lucidrains
    `CausalPrefixAttention` ("latents"); perceiver-ar `CrossAttention` ("inputs").
    """

    def __init__(self, *args: Any, keys: CrossAttentionKeys, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.keys = keys

    def __call__(
        self,
        latents: Array,
        content: Array,
        attention_mask: Array | None = None,
        *,
        causal: bool = True,
        rotation: Rotation | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Attends.

        Args:
            latents: [B, N, D].
            content: [B, M, C] embedded tokens, those where latents stand included.
            attention_mask: as in `attend`.
            causal: whether the latents stand at the last N places, and see none after their own; if
                not, the mask has to say what they see.
            rotation: of the M keys and the N queries.
            key: random key for dropout; None means inference.
            tape: records `attention`, `mlp` and the attention weights.

        Returns:
            [B, N, D].
        """
        weights_key, residual_key = split(key, 2)
        queries = self.q_norm(latents)
        attended = self.attention(
            queries,
            self.attended(queries, content),
            attention_mask,
            causal=causal,
            rotation=rotation,
            key=weights_key,
            tape=tape,
        )
        return self.residual(latents, attended, residual_key, tape)

    def attended(self, queries: Array, content: Array) -> Array:
        """[B, N, D] normed latents, [B, M, C] tokens → [B, M, C] what keys and values are of."""
        if self.keys == "inputs":
            return self.kv_norm(content)
        prefix = content[:, : content.shape[1] - queries.shape[1]]
        return jnp.concatenate([self.kv_norm(prefix), queries], axis=1)
