"""From latents to outputs: the query decoder of Perceiver IO and the pooling head of Perceiver.

- Queries come from the output adapter (learned, or made of the inputs) or from the caller.
- `decode` is attention alone; calling the decoder also applies the output adapter.
- Few queries fold the projections of the latents away (in the attention); many are answered in
  blocks, predictions included where the adapter makes them one by one.
- Latents can be projected once (`prepare`), and asked again and again (`ask`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import check_size, setting
from perceiver_jax.core.adapter_checks import check_output_adapter
from perceiver_jax.core.arguments import as_mask, check_rngs, known_arguments
from perceiver_jax.core.attention_config import AttentionConfig, errors_of
from perceiver_jax.core.cross_attention import CrossAttentionLayer, Prepared
from perceiver_jax.core.linear import InitConfig, LayerNorm, linear
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.time_options import TimeOptions
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

SCORES_AT_ONCE = 2**22
"""Attention scores of all examples and heads that a block of output queries may have."""
LEAST_QUERIES = 128
"""Output queries that a block has at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig(TimeOptions):
    """The part of a decoder that does not depend on the task.

    Source: krasserm `DecoderConfig`; fields beyond it name theirs.
    """

    num_cross_attention_heads: int = setting(8, "heads of the cross-attention")
    num_cross_attention_kv_heads: int | None = setting(
        None, "heads of its keys and values, each for several heads of queries; None: as many"
    )
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
            rotary=self.rotary_time,
            num_heads=self.num_cross_attention_heads,
            num_kv_heads=self.num_cross_attention_kv_heads,
            num_qk_channels=self.num_cross_attention_qk_channels,
            num_v_channels=self.num_cross_attention_v_channels,
            residual=self.cross_attention_residual,
        )


@runtime_checkable
class LooksAhead(Protocol):
    """A query adapter that sees all that is asked before it is divided into blocks."""

    def check(self, queries: Array) -> None:
        """Raises or warns of what cannot be asked; `queries` are [B or 1, O, d], as given."""
        ...


class PerceiverDecoder(nnx.Module):
    """Output queries cross-attend to the latents; an output adapter makes predictions of them.

    Args:
        output_adapter: gives queries and makes predictions, see `adapters.base.OutputAdapter`.
        num_latent_channels: latent channels D.
        query_adapter: makes queries [B, o, E] of what is given in their place, such as coordinates,
            each of its own and block by block; it may be one that `LooksAhead`. None: queries are
            given as they are.
        rngs: where initial values come from.
        **fields: the fields of `DecoderConfig`.

    Raises:
        TypeError: an unknown field, `rngs` that give no values, or what is no output adapter.
        ValueError: fields or sizes that cannot be, or do not go together.

    Source: Perceiver IO §3.2; deepmind `BasicDecoder`, krasserm `PerceiverDecoder`.
    """

    @known_arguments(DecoderConfig)
    def __init__(
        self,
        *,
        output_adapter: Any,
        num_latent_channels: int,
        query_adapter: Callable[[Array], Array] | None = None,
        rngs: nnx.Rngs,
        **fields: Any,
    ):
        config = DecoderConfig(**fields)
        check_rngs(rngs)
        check_output_adapter(output_adapter)
        check_size("num_latent_channels", num_latent_channels)
        self.config = config
        self.output_adapter = output_adapter
        self.num_latent_channels = num_latent_channels
        self.adapts_queries = query_adapter is not None
        if query_adapter is not None:
            self.query_adapter = query_adapter
        with errors_of("cross-attention of the decoder"):
            self.cross_attention = CrossAttentionLayer(
                config.cross_attention,
                config.mlp_config(config.cross_attention_widening_factor)
                if config.cross_attention_mlp
                else None,
                num_query_channels=output_adapter.num_output_query_channels,
                num_input_channels=num_latent_channels,
                rngs=rngs,
            )

    @known_arguments()
    def __call__(
        self,
        latents: Array | Tokens,
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

    @known_arguments()
    def decode(
        self,
        latents: Array | Tokens,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Answers queries from latents; many of them in blocks, which changes no result.

        Args:
            latents: [B, N, D], or tokens of them: masked ones are not attended to.
            queries: [O, E] or [B, O, E], or what the query adapter takes in place of E channels,
                or tokens that are so when dense.
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
        latents: Array | Tokens,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        finish: Callable[[Array], Any],
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Any:
        """Answers queries and makes something of every answer, block by block.

        Args:
            latents: as in `decode`.
            queries: as in `decode`.
            query_mask: as in `decode`.
            finish: [B, o, E] answers → arrays [B, o, ...], each of its own answer alone.
            key: random key for dropout; None means inference.
            tape: as in `decode`.

        Returns:
            What `finish` makes of [B, O, E].
        """
        queries, query_mask = self._asked(queries, query_mask)
        latents = Tokens.of(latents)
        if 1 not in (len(queries.content), len(latents.content)) and len(queries.content) != len(
            latents.content
        ):
            raise ValueError(
                f"queries for {len(queries.content)} examples do not fit the latents of "
                f"{len(latents.content)}; give [O, E] queries for all, or one set for each"
            )
        at_once = self._at_once(len(latents.content), latents.num_tokens)
        plain = tape.recording or self.config.implementation == "plain"
        if queries.num_tokens > 2 * at_once and not plain:
            prepared = self.prepare(latents)
            return self._ask(prepared, queries, query_mask, at_once, finish, key)
        dense = queries.dense()
        if self.adapts_queries:
            dense = self.query_adapter(dense)
        tape.stage("queries", dense)
        answers = self.cross_attention(
            dataclasses.replace(queries, content=dense, positions=(), order=None),
            latents.content if latents.is_array else latents,
            query_mask=query_mask,
            key=key,
            tape=tape.at("cross_attention"),
        )
        return finish(answers)

    def prepare(self, latents: Array | Tokens) -> Prepared:
        """[B, N, D] latents, normed and projected once, for any number of calls of `ask`."""
        return self.cross_attention.prepare(Tokens.of(latents))

    @known_arguments()
    def ask(
        self,
        prepared: Prepared,
        queries: Array | Tokens,
        query_mask: Array | None = None,
        *,
        key: Key | None = None,
    ) -> Any:
        """What the call gives, from latents made ready before; in blocks where queries are many.

        Args:
            prepared: see `prepare`.
            queries: as in `decode`: a chunk of them, such as a layer of a grid.
            query_mask: as in `decode`.
            key: random key for dropout; None means inference.

        Raises:
            ValueError: the output adapter predicts with an embedding, or from all answers at once.
        """
        adapter = self.output_adapter
        if adapter.tied or not adapter.pointwise:
            raise ValueError(
                f"{type(adapter).__name__} does not make each prediction of its own answer alone, "
                "so that queries cannot be asked chunk by chunk; call the decoder"
            )
        if not isinstance(prepared, Prepared):
            raise TypeError(
                f"ask takes what prepare(latents) returned, not {type(prepared).__name__}; without "
                "it, call the decoder with latents and queries"
            )
        queries, query_mask = self._asked(queries, query_mask)
        batches = {len(prepared.asked.keys), len(queries.content)} - {1}
        if len(batches) > 1:
            raise ValueError(
                f"queries for {len(queries.content)} examples do not fit latents prepared of "
                f"{len(prepared.asked.keys)}; give [O, d] queries for all, or one set for each"
            )
        at_once = self._at_once(*prepared.asked.keys.shape[:2])
        return self._ask(prepared, queries, query_mask, at_once, adapter, key)

    def _asked(
        self, queries: Array | Tokens, query_mask: Array | None
    ) -> tuple[Tokens, Array | None]:
        """Queries and their mask, if the decoder takes them."""
        queries = Tokens.of(queries)
        channels = self.output_adapter.num_output_query_channels
        if self.adapts_queries:
            if isinstance(self.query_adapter, LooksAhead):
                self.query_adapter.check(queries.content)
        elif queries.num_channels != channels:
            raise ValueError(
                f"queries of {queries.num_channels} channels do not fit this decoder; it takes "
                f"[O, {channels}] or [B, O, {channels}]"
            )
        mask = queries.mask if query_mask is None else query_mask
        return queries, as_mask(mask, "query_mask")

    def _ask(
        self,
        prepared: Prepared,
        queries: Tokens,
        query_mask: Array | None,
        at_once: int,
        finish: Callable[[Array], Any],
        key: Key | None,
    ) -> Any:
        embed = self.query_adapter if self.adapts_queries else None
        return self.cross_attention.answer(
            queries, prepared, query_mask, at_once=at_once, embed=embed, finish=finish, key=key
        )

    def _at_once(self, batch_size: int, num_latents: int) -> int:
        """Queries of a block."""
        scores = batch_size * num_latents * self.config.num_cross_attention_heads
        return max(LEAST_QUERIES, SCORES_AT_ONCE // scores)


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

    Source: Perceiver appendix C; deepmind `ProjectionDecoder`, lucidrains `Perceiver.to_logits`.
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

    def __call__(self, latents: Array, mask: Array | None = None) -> Array:
        """[B, N, D] latents → [B, num_classes]; with a [B or 1, N] mask those count that it has."""
        if mask is None:
            mean = latents.mean(axis=1)
        else:
            counted = jnp.where(mask[:, :, None], latents, 0.0)
            mean = counted.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)[:, None]
        return self.linear(self.norm(mean) if self.has_norm else mean)
