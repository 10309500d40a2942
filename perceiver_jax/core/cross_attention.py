"""Cross-attention followed by an MLP: queries ask inputs, at once or block by block.

- `x + attention(norm(x), norm(inputs))`, then `x + mlp(norm(x))`; the skip carries the un-normed x.
- Queries and inputs are arrays, or tokens: these bring masks, segments and moments of their own.
- Inputs can be made ready once (`prepare`) and asked by any number of queries, in chunks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.attention import Asked, MultiHeadAttention
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.dropout import dropout, split
from perceiver_jax.core.linear import LayerNorm
from perceiver_jax.core.mlp import MLP, MLPConfig
from perceiver_jax.core.query_blocks import map_blocks
from perceiver_jax.core.relations import followed_by, relate
from perceiver_jax.core.residual import norm_before, skip
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prepared:
    """Inputs of a cross-attention, normed and projected, to be asked by any number of queries.

    Attributes:
        asked: keys and values.
        inputs: what else is known of the inputs; their content is left out.
    """

    asked: Asked
    inputs: Tokens


class CrossAttentionLayer(nnx.Module):
    """Queries attend to inputs, then pass through an MLP.

    Args:
        attention: see `AttentionConfig`.
        mlp: see `MLPConfig`; None leaves the MLP out.
        num_query_channels: channels of the queries and of the result.
        num_input_channels: channels of the inputs.
        rngs: where initial values come from.

    Raises:
        ValueError: queries are to contribute keys, and have other channels than the inputs.

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
        if attention.queries_contribute_kv and num_query_channels != num_input_channels:
            raise ValueError(
                f"queries of {num_query_channels} channels cannot contribute keys to inputs of "
                f"{num_input_channels}; project the inputs to the queries' channels first"
            )
        self.attention_config, self.mlp_config = attention, mlp
        if attention.q_norm:
            self.q_norm = norm_before(attention, num_query_channels, rngs=rngs)
        if attention.kv_norm:
            self.kv_norm = norm_before(attention, num_input_channels, rngs=rngs)
        self.attention = MultiHeadAttention(
            attention,
            num_query_channels=num_query_channels,
            num_input_channels=num_input_channels,
            rngs=rngs,
        )
        if mlp is not None:
            self.mlp_norm = norm_before(mlp, num_query_channels, rngs=rngs)
            self.mlp = MLP(mlp, num_channels=num_query_channels, rngs=rngs)

    def __call__(
        self,
        queries: Array | Tokens,
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
            queries: [B or 1, N, D], or tokens with moments or segments; their mask says which of
                them contribute keys, where queries do.
            inputs: [B or 1, M, C], or tokens, whose structure is used where it can be.
            attention_mask: as in `attend`; tokens bring their own instead.
            query_mask: [B, N] bool; where False the attention result is zero.
            inverted: see `attend`.
            key: random key for dropout; None means inference.
            tape: records `attention`, `mlp` and the attention weights.

        Returns:
            [B, N, D].

        Raises:
            ValueError: tokens and a mask besides, or tokens that do not go together, see `relate`.
        """
        weights_key, residual_key = split(key, 2)
        config = self.attention_config
        if isinstance(inputs, Tokens) and attention_mask is not None:
            raise ValueError("tokens bring their own mask: attention_mask goes with arrays")
        asking, x = Tokens.of(queries), _array(queries)
        normed = self.q_norm(x) if config.q_norm else x
        how: dict[str, Any] = {"inverted": inverted, "key": weights_key, "tape": tape}
        if isinstance(inputs, Tokens) and self._uses_structure(inputs, asking, **how):
            norm = cast(LayerNorm, self.kv_norm) if config.kv_norm else None
            attended = self.attention.attend_to_tokens(normed, inputs, norm, query_mask)
        else:
            asked = self._normed(inputs)
            if config.queries_contribute_kv:
                asked = followed_by(asked, dataclasses.replace(asking, content=normed))
                attention_mask = _attending_to_queries_too(attention_mask, asking)
            relation = relate(asking, asked, config.rotary)
            attended = self.attention(
                normed,
                asked.content,
                relation.mask if attention_mask is None else attention_mask,
                query_mask,
                rotation=relation.rotation,
                **how,
            )
        return self.residual(x, attended, residual_key, tape)

    def prepare(self, inputs: Array | Tokens) -> Prepared:
        """Norms and projects [B, M, C] inputs once, for queries to come.

        Raises:
            ValueError: queries contribute keys of their own, so that there is nothing to prepare.
        """
        if self.attention_config.queries_contribute_kv:
            raise ValueError(
                "inputs cannot be made ready for queries that contribute keys of their own"
            )
        inputs = self._normed(inputs)
        rotation = relate(inputs, inputs, self.attention_config.rotary).rotation
        asked = self.attention.asked(inputs.content, rotation)
        return Prepared(asked, dataclasses.replace(inputs, content=inputs.content[..., :0]))

    def answer(
        self,
        queries: Array | Tokens,
        prepared: Prepared,
        query_mask: Array | None = None,
        *,
        at_once: int,
        embed: Callable[[Array], Array] | None = None,
        finish: Callable[[Array], Any],
        key: Key | None = None,
    ) -> Any:
        """Many queries to few inputs, in memory that does not grow with the queries.

        Args:
            queries: [B or 1, O, E], or tokens that are so when dense.
            prepared: the inputs, see `prepare`.
            query_mask: as in the call.
            at_once: queries of a block, about.
            embed: makes queries [B, o, E] of the given ones of each block; None: they are.
            finish: applied to the result [B, o, E] of each block.
            key: random key for dropout; None means inference.

        Returns:
            What `finish` makes of [B, O, E].
        """
        config, asked = self.attention_config, prepared.asked

        def answer(tokens, query_mask, key):
            weights_key, residual_key = split(key, 2)
            queries = tokens.dense()
            of_inputs = (prepared.inputs.mask, prepared.inputs.segments, tokens.segments)
            related = any(x is not None for x in of_inputs) or config.rotary is not None
            structured = not related and embed is None
            if structured and self.attention.asks_by_structure(tokens, asked.keys, weights_key):
                norm = cast(LayerNorm, self.q_norm) if config.q_norm else None
                attended = self.attention.answer_tokens(tokens, norm, asked, query_mask)
            else:
                queries = queries if embed is None else embed(queries)
                relation = relate(tokens, prepared.inputs, config.rotary)
                attended = self.attention.answer(
                    self.q_norm(queries) if config.q_norm else queries,
                    asked,
                    relation.mask,
                    query_mask,
                    rotation=relation.rotation,
                    key=weights_key,
                )
            return finish(self.residual(queries, attended, residual_key, SILENT))

        return map_blocks(answer, queries, query_mask, at_once=at_once, key=key)

    def residual(self, queries: Array, attended: Array, key: Key | None, tape: Tape) -> Array:
        """What follows the attention: skip and MLP."""
        attention_key, mlp_key = split(key, 2)
        rate = self.attention_config.residual_dropout
        x = skip(self.attention_config, queries, dropout(attended, rate, attention_key))
        tape.stage("attention", x)
        if self.mlp_config is not None:
            x = x + dropout(self.mlp(self.mlp_norm(x)), self.mlp_config.residual_dropout, mlp_key)
            tape.stage("mlp", x)
        return x

    def _normed(self, inputs: Array | Tokens) -> Tokens:
        """The inputs, dense and normed."""
        dense = _array(inputs)
        normed = self.kv_norm(dense) if self.attention_config.kv_norm else dense
        return dataclasses.replace(Tokens.of(inputs), content=normed, positions=(), order=None)

    def _uses_structure(self, inputs: Tokens, queries: Tokens, **how: Any) -> bool:
        """Whether nothing but a mask relates inputs to queries, and their structure pays."""
        config = self.attention_config
        return (
            inputs.segments is None
            and queries.segments is None
            and config.rotary is None
            and not config.queries_contribute_kv
            and self.attention.uses_structure(inputs, queries.num_tokens, **how)
        )


def _array(x: Array | Tokens) -> Array:
    return x.dense() if isinstance(x, Tokens) else x


def _attending_to_queries_too(mask: Array | None, queries: Tokens) -> Array | None:
    """A mask over the inputs with the queries behind them, but for those that are padding."""
    if mask is None:
        return None
    of_queries = jnp.ones((1, queries.num_tokens), bool) if queries.mask is None else queries.mask
    batch = max(len(mask), len(of_queries))
    of_queries = jnp.broadcast_to(
        of_queries[:, None, None, :], (batch, *mask.shape[1:3], queries.num_tokens)
    )
    mask = jnp.broadcast_to(mask, (batch, *mask.shape[1:]))
    return jnp.concatenate([mask, of_queries], axis=-1)
