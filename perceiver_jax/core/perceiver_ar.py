"""Perceiver AR: the last positions of a sequence, as latents, attend to all before them.

- Latents stand at the last positions; the tokens before them are the prefix, which is only attended
  to. Every latent predicts the token that follows it.
- Padding is masked in the cross-attention and in the self-attention, so that no token ever sees a
  later one. Positions count tokens, so padding may lie anywhere.
- `prefill` and `step` compute what the call computes, token by token.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.attention import AttentionConfig
from perceiver_jax.core.cache import Cache, KeysValues
from perceiver_jax.core.dropout import split
from perceiver_jax.core.layers import CrossAttentionLayer, SelfAttentionBlock
from perceiver_jax.core.linear import LayerNorm
from perceiver_jax.core.perceiver import Recordable
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.core.position import Rotation, rotary_frequencies
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key


class CausalCrossAttentionLayer(CrossAttentionLayer):
    """Latents attend to the prefix and to themselves, causally.

    The prefix is normed as inputs are, latents as queries are, also where they are attended to.

    Source: Perceiver AR §3.1; krasserm `CrossAttentionLayer` with `x_kv_prefix`.
    """

    def __call__(
        self,
        latents: Array,
        prefix: Array,
        attention_mask: Array | None = None,
        *,
        rotation: Rotation | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Attends.

        Args:
            latents: [B, N, D].
            prefix: [B, P, D].
            attention_mask: as in `attend`, for P + N positions.
            rotation: of P + N positions.
            key: random key for dropout; None means inference.
            tape: records `attention`, `mlp` and the attention weights.

        Returns:
            [B, N, D].
        """
        weights_key, residual_key = split(key, 2)
        queries = self.q_norm(latents)
        attended = self.attention(
            queries,
            jnp.concatenate([self.kv_norm(prefix), queries], axis=1),
            attention_mask,
            causal=True,
            rotation=rotation,
            key=weights_key,
            tape=tape,
        )
        return self.residual(latents, attended, residual_key, tape)


class PerceiverAR(Recordable):
    """Token ids to what follows them.

    Args:
        config: see `PerceiverARConfig`.
        input_adapter: embeds tokens at their positions.
        output_adapter: makes logits of latents, with the embedding of the input adapter.
        rngs: where initial values come from.

    Source: Perceiver AR §3; krasserm `PerceiverAR`.
    Differs: padding is masked in the self-attention as well. Without that, latents that are padding
    attend to later tokens and are attended to by earlier ones.
    """

    def __init__(
        self, config: PerceiverARConfig, *, input_adapter: Any, output_adapter: Any, rngs: nnx.Rngs
    ):
        channels = config.num_channels
        attention = config.attention_config(num_heads=config.num_heads)
        self.settings = config
        self.input_adapter = input_adapter
        self.cross_attention = CausalCrossAttentionLayer(
            attention,
            config.mlp_config(config.cross_attention_widening_factor),
            num_query_channels=channels,
            num_input_channels=channels,
            rngs=rngs,
        )
        self.block = SelfAttentionBlock(
            _self_attention(config, attention),
            config.mlp_config(config.self_attention_widening_factor),
            num_layers=config.num_self_attention_layers,
            num_channels=channels,
            remat=config.remat,
            rngs=rngs,
        )
        if config.output_norm:
            self.output_norm = LayerNorm(
                channels,
                epsilon=config.layer_norm_epsilon,
                implementation=config.implementation,
                rngs=rngs,
            )
        self.output_adapter = output_adapter

    def __call__(
        self,
        ids: Array,
        input_mask: Array | None = None,
        *,
        num_latents: int | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Predicts what follows each of the last tokens.

        Args:
            ids: [B, M] token ids.
            input_mask: [B, M] bool, True = a token, False = padding, wherever it lies; None: all
                are tokens.
            num_latents: how many of the last positions predict; None: as many as may.
            key: random key for dropout; None means inference.
            tape: records intermediates.

        Returns:
            [B, num_latents, vocab_size] logits. Those at padding mean nothing.

        Raises:
            ValueError: more latents than the model has or positions are given, a prefix longer than
                its context leaves room for, or a mask that does not go with the ids.
        """
        ids = self.input_adapter.checked(ids)
        input_mask = None if input_mask is None else jnp.asarray(input_mask)
        num_latents = self._check(ids, input_mask, num_latents)
        prefix_key, cross_key, block_key = split(key, 3)
        x, positions, mask = self._embed(ids, input_mask)
        tape.stage("inputs", x)
        first = x.shape[1] - num_latents
        latents, latent_mask = x[:, first:], None if mask is None else mask[:, first:]
        prefix = (x[:, :first], positions[:, :first], None if mask is None else mask[:, :first])
        latent_positions = positions[:, first:]
        prefix = _drop_prefix(prefix, len(x), self.settings.cross_attention_dropout, prefix_key)
        seen = _concatenate(prefix[1], latent_positions)
        z = self.cross_attention(
            latents,
            prefix[0],
            None if mask is None else _concatenate(prefix[2], latent_mask)[:, None, None],
            rotation=self._rotation(seen),
            key=cross_key,
            tape=tape.at("cross_attention"),
        )
        z = self._process(z, latent_positions, latent_mask, block_key, tape.at("block"))
        logits = self._logits(z)
        tape.stage("outputs", logits)
        return logits

    def prefill(
        self,
        ids: Array,
        input_mask: Array,
        *,
        num_latents: int,
        num_steps: int,
    ) -> tuple[Array, Array, Cache]:
        """The call at the last position, remembered for further tokens.

        Args:
            ids: [B, M] token ids, padded on the left.
            input_mask: [B, M] bool, True = a token.
            num_latents: how many of the last positions are latents.
            num_steps: how many tokens may follow.

        Returns:
            [B, vocab_size] logits, [B, num_latents, D] what those of all latents are made of, and
            the cache.

        Raises:
            ValueError: there are more latents than the model has, or than positions.
        """
        self._check_latents(ids.shape[-1], num_latents)
        x, positions, _ = self._embed(ids, input_mask)
        first = x.shape[1] - num_latents
        latents, latent_mask = x[:, first:], input_mask[:, first:]
        cross = self.cross_attention
        queries = cross.q_norm(latents)
        inputs = jnp.concatenate([cross.kv_norm(x[:, :first]), queries], axis=1)
        rotation = self._rotation(positions)
        keys, values = cross.attention.keys_values(inputs, rotation)
        attended = cross.attention.answer_causally(
            queries, keys, values, input_mask[:, None, None], rotation
        )
        z = cross.residual(latents, attended, None, SILENT)
        rotation = self._rotation(positions[:, first:])
        layers = []
        for i, layer in enumerate(self.block.layer):
            turn = rotation if i < self.settings.num_rotary_layers else None
            normed = layer.normed(z)
            k, v = layer.attention.keys_values(normed, turn)
            attended = layer.attention.answer_causally(
                normed, k, v, latent_mask[:, None, None], turn
            )
            z = layer.residual(z, attended)
            layers.append(KeysValues.filled(k, v, num_latents + num_steps))
        hidden = self._normed(z)
        cache = Cache(
            cross=KeysValues.filled(keys, values, ids.shape[1] + num_steps),
            layers=tuple(layers),
            mask=jnp.pad(input_mask, ((0, 0), (0, num_steps))),
            latent_mask=jnp.pad(latent_mask, ((0, 0), (0, num_steps))),
            num_tokens=jnp.asarray(ids.shape[1], jnp.int32),
            num_latents=jnp.asarray(num_latents, jnp.int32),
        )
        return self._predict(hidden[:, -1:])[:, 0], hidden, cache

    def step(self, ids: Array, cache: Cache) -> tuple[Array, Array, Cache]:
        """The prediction after one more token, itself a latent.

        Args:
            ids: [B] token ids.
            cache: of what came before; it must have room.

        Returns:
            [B, vocab_size] logits, [B, 1, D] what they are made of, and the cache with the token.
        """
        positions = cache.mask.sum(1, keepdims=True)
        x = self.input_adapter.embed(ids[:, None], positions)
        rotation = self._rotation(positions)
        mask = cache.mask.at[:, cache.num_tokens].set(True)
        latent_mask = cache.latent_mask.at[:, cache.num_latents].set(True)
        cross = self.cross_attention
        normed = cross.q_norm(x)
        seen = cache.cross.put(*cross.attention.keys_values(normed, rotation), cache.num_tokens)
        attended = seen.attend(cross.attention.queries(normed, rotation), mask)
        z = cross.residual(x, cross.attention.output(attended), None, SILENT)
        layers = []
        for i, (layer, before) in enumerate(zip(self.block.layer, cache.layers, strict=True)):
            turn = rotation if i < self.settings.num_rotary_layers else None
            normed = layer.normed(z)
            after = before.put(*layer.attention.keys_values(normed, turn), cache.num_latents)
            attended = after.attend(layer.attention.queries(normed, turn), latent_mask)
            z = layer.residual(z, layer.attention.output(attended))
            layers.append(after)
        hidden = self._normed(z)
        cache = Cache(
            seen, tuple(layers), mask, latent_mask, cache.num_tokens + 1, cache.num_latents + 1
        )
        return self._predict(hidden)[:, 0], hidden, cache

    def _check(self, ids: Array, input_mask: Array | None, num_latents: int | None) -> int:
        """How many latents there are, if they and the prefix fit."""
        if not ids.shape[1]:
            raise ValueError("there is no token to predict from; give at least one")
        if input_mask is not None and (
            input_mask.dtype != bool or input_mask.shape not in (ids.shape, (1, ids.shape[1]))
        ):
            raise ValueError(
                f"input_mask of shape {tuple(input_mask.shape)} and type {input_mask.dtype} does "
                f"not go with ids of shape {tuple(ids.shape)}; give bool of the same shape, True "
                "on tokens"
            )
        most, context = self.settings.max_latents, self.input_adapter.max_seq_len
        num_tokens = ids.shape[-1]
        if num_latents is None:
            num_latents = min(most, num_tokens)
        self._check_latents(num_tokens, num_latents)
        prefix = num_tokens - num_latents
        if prefix > context - most:
            raise ValueError(
                f"a prefix of {prefix:,} positions is longer than {context - most:,}, which is "
                f"max_seq_len={context:,} less max_latents={most:,}; give num_latents="
                f"{num_tokens - (context - most):,} or more, or fewer tokens"
            )
        return num_latents

    def _check_latents(self, num_tokens: int, num_latents: int) -> None:
        most = self.settings.max_latents
        if not 1 <= num_latents <= min(most, num_tokens):
            raise ValueError(
                f"num_latents={num_latents} is not between 1 and {min(most, num_tokens):,}: the "
                f"model has max_latents={most:,}, and {num_tokens:,} positions are given"
            )

    def _embed(self, ids: Array, input_mask: Array | None) -> tuple[Array, Array, Array | None]:
        """Embedded tokens [B, M, D], their positions [B or 1, M], and their mask."""
        if input_mask is None:
            positions = jnp.arange(ids.shape[1])[None]
        else:
            positions = jnp.maximum(jnp.cumsum(input_mask, axis=1) - 1, 0)
        return self.input_adapter.embed(ids, positions), positions, input_mask

    def _rotation(self, positions: Array) -> Rotation | None:
        turned = self.settings.num_turned(embedded=self.input_adapter.abs_pos_emb)
        return Rotation.of(positions, rotary_frequencies(turned)) if turned else None

    def _process(
        self, z: Array, positions: Array, mask: Array | None, key: Key | None, tape: Tape
    ) -> Array:
        """The self-attention layers, the first of them with rotary positions."""
        rotary, total = self.settings.num_rotary_layers, len(self.block.layer)
        attention_mask = None if mask is None else mask[:, None, None]
        keys = split(key, 2)
        for layers, rotation, group_key in (
            (range(rotary), self._rotation(positions), keys[0]),
            (range(rotary, total), None, keys[1]),
        ):
            if layers:
                z = self.block(
                    z,
                    attention_mask,
                    causal=True,
                    rotation=rotation,
                    layers=layers,
                    key=group_key,
                    tape=tape,
                )
        return z

    def _normed(self, z: Array) -> Array:
        return self.output_norm(z) if self.settings.output_norm else z

    def _predict(self, z: Array) -> Array:
        return self.output_adapter(z, embedding=self.input_adapter.token_embedding[...])

    def _logits(self, z: Array) -> Array:
        return self._predict(self._normed(z))


def _self_attention(config: PerceiverARConfig, attention: AttentionConfig) -> AttentionConfig:
    return dataclasses.replace(attention, out_bias=config.self_attention_out_bias)


def _concatenate(prefix: Any, latents: Any) -> Array:
    """[B or 1, P] and [B or 1, N] → [B or 1, P + N]."""
    batch = max(len(prefix), len(latents))
    parts = [jnp.broadcast_to(x, (batch, x.shape[1])) for x in (prefix, latents)]
    return jnp.concatenate(parts, axis=1)


def _drop_prefix(
    prefix: tuple[Array, Array, Array | None], batch: int, rate: float, key: Key | None
) -> tuple[Array, Array, Array | None]:
    """Leaves `int(rate * P)` random positions of each example out, and the others in order.

    Source: Perceiver AR §4.1 (memory of training); krasserm and lucidrains `cross_attn_dropout`.
    """
    x, positions, mask = prefix
    num_positions = x.shape[1]
    num_dropped = int(rate * num_positions)
    if key is None or num_dropped == 0:
        return prefix
    noise = jax.random.uniform(key, (batch, num_positions))
    kept = jnp.sort(jnp.argsort(noise, axis=1)[:, num_dropped:], axis=1)
    positions = jnp.broadcast_to(positions, (batch, num_positions))
    return (
        jnp.take_along_axis(x, kept[:, :, None], axis=1),
        jnp.take_along_axis(positions, kept, axis=1),
        None if mask is None else jnp.take_along_axis(mask, kept, axis=1),
    )
