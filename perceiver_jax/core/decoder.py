"""From latents to outputs: the query decoder of Perceiver IO and the pooling head of Perceiver.

- Queries come from the output adapter (learned, or made of the inputs) or from the caller.
- `decode` is attention alone; calling the decoder also applies the output adapter.
- Few queries fold the projections of the latents away (in the attention); many are answered in
  blocks, predictions included where the adapter makes them one by one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from perceiver_jax.config import setting
from perceiver_jax.core.attention import AttentionConfig
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.core.layers import CrossAttentionLayer
from perceiver_jax.core.linear import InitConfig, LayerNorm, linear
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

SCORES_AT_ONCE = 2**22
"""Attention scores of all examples and heads that a block of output queries may have."""
LEAST_QUERIES = 128
"""Output queries that a block has at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(LayerOptions):
    """The part of a decoder that does not depend on the task.

    Source: krasserm `DecoderConfig`; fields beyond it name theirs.
    """

    num_cross_attention_heads: int = setting(8, "heads of the cross-attention")
    num_cross_attention_qk_channels: int | None = setting(
        None,
        "query and key channels of all heads together; None: the output query channels",
    )
    num_cross_attention_v_channels: int | None = setting(
        None,
        "value channels of all heads together; None: the query and key channels",
    )
    cross_attention_widening_factor: int = setting(1, "hidden over outer channels of the MLP")
    cross_attention_residual: bool = setting(
        True,
        "whether the output queries are added to what the cross-attention found",
    )
    cross_attention_mlp: bool = setting(
        True,
        "whether an MLP follows the cross-attention (lucidrains' decoder_ff=False has none)",
    )

    @property
    def cross_attention(self) -> AttentionConfig:
        """Attention of the cross-attention layer."""
        return self.attention_config(
            num_heads=self.num_cross_attention_heads,
            num_qk_channels=self.num_cross_attention_qk_channels,
            num_v_channels=self.num_cross_attention_v_channels,
            residual=self.cross_attention_residual,
        )


class PerceiverDecoder(nnx.Module):
    """Output queries cross-attend to the latents; an output adapter makes predictions of them.

    Args:
        output_adapter: gives queries and makes predictions, see `adapters.base.OutputAdapter`.
        num_latent_channels: latent channels D.
        rngs: where initial values come from.
        **fields: the fields of `DecoderConfig`.

    Raises:
        TypeError: an unknown field.
        ValueError: fields that do not go together.

    Source: Perceiver IO §3.2; deepmind `BasicDecoder`, krasserm `PerceiverDecoder`.
    """

    def __init__(
        self, *, output_adapter: Any, num_latent_channels: int, rngs: nnx.Rngs, **fields: Any
    ):
        config = DecoderConfig(**fields)
        self.config = config
        self.output_adapter = output_adapter
        self.cross_attention = CrossAttentionLayer(
            config.cross_attention,
            config.mlp_config(config.cross_attention_widening_factor)
            if config.cross_attention_mlp
            else None,
            num_query_channels=output_adapter.num_output_query_channels,
            num_input_channels=num_latent_channels,
            rngs=rngs,
        )

    def __call__(
        self,
        latents: Array,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        embedding: Array | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Any:
        """Decodes latents [B, N, D] into whatever the output adapter predicts.

        Arguments as in `decode`; `embedding` is the [V, E] table that a tied adapter predicts with.
        """
        adapter = self.output_adapter
        finish = functools.partial(adapter, embedding=embedding) if adapter.tied else adapter
        if adapter.pointwise:
            return self.answer(latents, queries, query_mask, finish=finish, key=key, tape=tape)
        return finish(self.decode(latents, queries, query_mask, key=key, tape=tape))

    def decode(
        self,
        latents: Array,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Answers queries from latents; many of them in blocks, which changes no result.

        Args:
            latents: [B, N, D].
            queries: [O, E] or [B, O, E], or tokens that are so when dense.
            query_mask: [B, O] bool; where False the attention result is zero; None: the mask of
                queries that are tokens.
            key: random key for dropout; None means inference.
            tape: records `queries` and `cross_attention`.

        Returns:
            [B, O, E].
        """
        return self.answer(latents, queries, query_mask, finish=_as_is, key=key, tape=tape)

    def answer(
        self,
        latents: Array,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        finish: Callable[[Array], Any],
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Any:
        """Answers queries and makes something of every answer, block by block.

        Args:
            latents: [B, N, D].
            queries: as in `decode`.
            query_mask: as in `decode`.
            finish: [B, o, E] answers → arrays [B, o, ...], each of its own answer alone.
            key: random key for dropout; None means inference.
            tape: as in `decode`.

        Returns:
            What `finish` makes of [B, O, E].
        """
        if not isinstance(queries, Tokens) and queries.ndim == 2:
            queries = queries[None]
        if isinstance(queries, Tokens) and query_mask is None:
            query_mask = queries.mask
        num_queries = queries.num_tokens if isinstance(queries, Tokens) else queries.shape[1]
        scores = len(latents) * latents.shape[1] * self.config.num_cross_attention_heads
        at_once = max(LEAST_QUERIES, SCORES_AT_ONCE // scores)
        plain = tape.recording or self.config.implementation == "plain"
        if num_queries > 2 * at_once and not plain:
            return self.cross_attention.answer_in_blocks(
                queries, latents, query_mask, at_once=at_once, finish=finish, key=key
            )
        queries = queries.dense() if isinstance(queries, Tokens) else queries
        tape.stage("queries", queries)
        answers = self.cross_attention(
            queries, latents, query_mask=query_mask, key=key, tape=tape.at("cross_attention")
        )
        return finish(answers)


def _as_is(answers: Array) -> Array:
    return answers


class MeanPoolHead(nnx.Module):
    """Latents averaged, then a linear layer: the head of the original Perceiver.

    Args:
        num_latent_channels: latent channels D.
        num_classes: classes.
        norm: whether the mean is layer-normalised (lucidrains) or not (DeepMind).
        layer_norm_epsilon: added to the variance in that norm.
        init: initial values of the linear layer; None: N(0, 0.02).
        rngs: where initial values come from.

    Source: Perceiver §3.1; deepmind `ProjectionDecoder`, lucidrains `Perceiver.to_logits`.
    """

    def __init__(
        self,
        *,
        num_latent_channels: int,
        num_classes: int,
        norm: bool = False,
        layer_norm_epsilon: float = 1e-5,
        init: InitConfig | None = None,
        rngs: nnx.Rngs,
    ):
        self.has_norm = norm
        if norm:
            self.norm = LayerNorm(num_latent_channels, epsilon=layer_norm_epsilon, rngs=rngs)
        self.linear = linear(num_latent_channels, num_classes, init=init or InitConfig(), rngs=rngs)

    def __call__(self, latents: Array) -> Array:
        """[B, N, D] → [B, num_classes]."""
        mean = latents.mean(axis=1)
        return self.linear(self.norm(mean) if self.has_norm else mean)
