"""Perceiver AR: the last positions of a sequence, as latents, attend to all before them.

- Latents stand at the last positions; the tokens before them are the prefix, which is only attended
  to. Every position with latents predicts the token that follows it.
- Padding is masked in the cross-attention and in the self-attention, so that no token ever sees a
  later one. Positions count tokens, so padding may lie anywhere.
- `prefill` and `step` compute what the call computes, token by token.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.core.arguments import as_mask, known_arguments
from perceiver_jax.core.cache import Cache, KeysValues
from perceiver_jax.core.causal_cross_attention import CausalCrossAttentionLayer
from perceiver_jax.core.causal_masks import mask_of_inputs, mask_of_latents, repeated
from perceiver_jax.core.dropout import split
from perceiver_jax.core.initial_queries import InitialQueries
from perceiver_jax.core.linear import make_norm
from perceiver_jax.core.perceiver import Recordable
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig
from perceiver_jax.core.position import Rotation, rotary_frequencies
from perceiver_jax.core.self_attention import SelfAttentionBlock
from perceiver_jax.core.sequence import EmbeddedSequence, draw_inputs, drop_prefix, hide_inputs
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.typing import Array, Key


class PerceiverAR(Recordable):
    """Tokens to what follows them.

    Args:
        config: see `PerceiverARConfig`.
        input_adapter: embeds tokens at their positions.
        output_adapter: makes logits of latents, with the embedding of the input adapter if tied.
        rngs: where initial values come from.

    Source: Perceiver AR §3; krasserm, lucidrains and perceiver-ar `PerceiverAR`.
    Differs: padding is masked in the self-attention as well. Without that (krasserm), latents that
    are padding attend to later tokens and are attended to by earlier ones. A latent of which
    training hides all that it may see attends to nothing (`masked_rows="zero"`); perceiver-ar lets
    it attend to everything, later tokens as well.
    """

    def __init__(
        self, config: PerceiverARConfig, *, input_adapter: Any, output_adapter: Any, rngs: nnx.Rngs
    ):
        self.settings = config
        self.input_adapter = input_adapter
        self.initial_queries = InitialQueries(config, rngs=rngs)
        self.cross_attention = nnx.List(
            [
                CausalCrossAttentionLayer(
                    config.cross_attention(),
                    config.mlp_config(config.cross_attention_widening_factor),
                    num_query_channels=config.num_channels,
                    num_input_channels=config.input_channels,
                    keys=config.cross_attention_keys,
                    rngs=rngs,
                )
                for _ in range(config.num_cross_attentions)
            ]
        )
        self.block = SelfAttentionBlock(
            config.self_attention(),
            config.mlp_config(config.self_attention_widening_factor),
            num_layers=config.num_self_attention_layers,
            num_channels=config.num_channels,
            remat=config.remat,
            rngs=rngs,
        )
        if config.output_norm:
            self.output_norm = make_norm(
                config.norm,
                config.num_channels,
                epsilon=config.layer_norm_epsilon,
                implementation=config.implementation,
                rngs=rngs,
            )
        self.output_adapter = output_adapter

    @known_arguments()
    def __call__(
        self,
        inputs: Array,
        input_mask: Array | None = None,
        positions: Array | None = None,
        *,
        num_latents: int | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Predicts what follows each of the last tokens.

        Args:
            inputs: [B, M] token ids.
            input_mask: [B, M] bool, True = a token, False = padding, wherever it lies; None: all
                are tokens.
            positions: [B or 1, M] or [B or 1, M, L], for each of L tables of positions; None:
                tokens are counted.
            num_latents: how many of the last positions predict; None: as many as may.
            key: random key for dropout; None means inference.
            tape: records intermediates.

        Returns:
            [B, num_latents, vocab_size] logits. Those at padding mean nothing.

        Raises:
            ValueError: more latents than the model has or positions are given, a prefix longer than
                its context leaves room for, or a mask or positions that do not go with the inputs.
        """
        ids = self.input_adapter.checked(inputs)
        input_mask = as_mask(input_mask)
        num_latents = self._check(ids, input_mask, num_latents)
        num_segments = len(self.settings.segments())
        draw_key, hide_key, latent_key, *keys = split(key, 3 + num_segments)
        sequence = self._embed(ids, input_mask, positions)
        tape.stage("inputs", sequence.content)
        z = self.initial_queries(sequence.content[:, ids.shape[1] - num_latents :])
        mask, causal = self._mask_of_latents(sequence, num_latents, latent_key)
        at = self._repeated(sequence.positions[:, ids.shape[1] - num_latents :])
        seen = draw_inputs(sequence, self.settings.num_training_inputs, draw_key)
        seen = hide_inputs(seen, self.settings.encoder_dropout, hide_key)
        for (kind, first, end), layer_key in zip(self.settings.segments(), keys, strict=True):
            if kind == "cross_attention":
                name = f"cross_attention/{first}"
                prefix_key, layer_key = split(layer_key, 2)
                rate = self.settings.cross_attention_dropout
                some = drop_prefix(seen, num_latents, rate, prefix_key)
                z = self.cross_attention[first](
                    z,
                    some.content,
                    self._mask_of_inputs(some, ids.shape[1], num_latents),
                    causal=self._one_per_position and some.places is None,
                    rotation=self._cross_rotation(some.positions, at),
                    key=layer_key,
                    tape=tape.at(name),
                )
            else:
                z = self.block(
                    z,
                    mask,
                    causal=causal,
                    rotation=self._rotation(at)
                    if first < self.settings.num_rotary_layers
                    else None,
                    layers=range(first, end),
                    key=layer_key,
                    tape=tape.at("block"),
                )
        logits = self._predict(self._finished(z))
        tape.stage("outputs", logits)
        return logits

    def prefill(
        self,
        inputs: Array,
        input_mask: Array,
        positions: Array | None = None,
        *,
        num_latents: int,
        num_steps: int,
    ) -> tuple[Array, Array, Cache]:
        """The call at the last position, remembered for further tokens.

        Args:
            inputs: [B, M] token ids.
            input_mask: [B, M] bool, True = a token.
            positions: as in the call.
            num_latents: how many of the last positions have latents.
            num_steps: how many tokens may follow.

        Returns:
            [B, vocab_size] logits, [B, num_latents, D] what those of all latents are made of, and
            the cache.

        Raises:
            ValueError: there are more latents than the model has, or than positions, steps
                included; steps are asked of a model in which a further token changes what came
                before; or arrays do not go together. That the prefix fits, its padding left out,
                is up to the caller.
        """
        inputs = self.input_adapter.checked(inputs)
        input_mask = self._checked_mask(inputs, input_mask)
        self._check_latents(inputs.shape[-1], num_latents)
        if num_latents + num_steps > self.settings.max_latents:
            raise ValueError(
                f"num_steps={num_steps} after num_latents={num_latents} are more latents than "
                f"max_latents={self.settings.max_latents:,}; fill the cache anew before"
            )
        why = self.settings.why_no_steps(embedded=self.input_adapter.abs_pos_emb)
        if num_steps and why:
            raise ValueError(f"{why}, so it has no cached steps; take num_steps=0")
        sequence = self._embed(inputs, input_mask, positions)
        first_latent = inputs.shape[1] - num_latents
        z = self.initial_queries(sequence.content[:, first_latent:])
        mask, causal = self._mask_of_latents(sequence, num_latents, None)
        at = self._repeated(sequence.positions[:, first_latent:])
        rotation = self._cross_rotation(sequence.positions, at)
        seen = self._mask_of_inputs(sequence, inputs.shape[1], num_latents)
        crosses, layers = [], []
        for kind, i in self._applications():
            if kind == "cross_attention":
                cross = self.cross_attention[i]
                queries = cross.q_norm(z)
                inputs_seen = cross.attended(queries, sequence.content)
                k, v = cross.attention.keys_values(inputs_seen, rotation)
                how = {"causal": self._one_per_position, "rotation": rotation}
                attended = cross.attention.answer_sequence(queries, k, v, seen, **how)
                z = cross.residual(z, attended, None, SILENT)
                crosses.append(KeysValues.filled(k, v, inputs.shape[1] + num_steps))
            else:
                layer, turn = self.block.layer[i], self._turn(i, at)
                normed = layer.normed(z)
                k, v = layer.attention.keys_values(normed, turn)
                how = {"causal": causal, "rotation": turn}
                z = layer.residual(z, layer.attention.answer_sequence(normed, k, v, mask, **how))
                num_cells = self._num_per_position * (num_latents + num_steps)
                layers.append(KeysValues.filled(k, v, num_cells))
        hidden = self._finished(z)
        latent_mask = input_mask[:, first_latent:]
        cache = Cache(
            cross=tuple(crosses),
            layers=tuple(layers),
            mask=jnp.pad(input_mask, ((0, 0), (0, num_steps))),
            latent_mask=jnp.pad(latent_mask, ((0, 0), (0, num_steps))),
            num_tokens=jnp.asarray(inputs.shape[1], jnp.int32),
            num_latents=jnp.asarray(num_latents, jnp.int32),
        )
        return self._predict(hidden[:, -1:])[:, 0], hidden, cache

    def step(
        self, ids: Array, cache: Cache, positions: Array | None = None
    ) -> tuple[Array, Array, Cache]:
        """The prediction after one more token, itself a latent.

        Args:
            ids: [B] token ids.
            cache: of what came before; it must have room.
            positions: [B or 1, 1] or [B or 1, 1, L]; None: tokens are counted.

        Returns:
            [B, vocab_size] logits, [B, 1, D] what they are made of, and the cache with the token.
        """
        count = cache.mask.sum(1, keepdims=True)
        tables, turned = self._positions(count, count, positions, len(ids))
        x = self.input_adapter.embed(ids[:, None], tables)
        z, at = self.initial_queries(x), self._repeated(turned)
        rotation = self._cross_rotation(turned, at)
        mask = cache.mask.at[:, cache.num_tokens].set(True)
        latent_mask = cache.latent_mask.at[:, cache.num_latents].set(True)
        of_latents = self._repeated(latent_mask)
        cell = cache.num_latents * self._num_per_position
        crosses, layers = list(cache.cross), list(cache.layers)
        for kind, i in self._applications():
            if kind == "cross_attention":
                cross = self.cross_attention[i]
                queries = cross.q_norm(z)
                k, v = cross.attention.keys_values(cross.attended(queries, x), rotation)
                crosses[i] = crosses[i].put(k, v, cache.num_tokens)
                attended = crosses[i].attend(cross.attention.queries(queries, rotation), mask)
                z = cross.residual(z, cross.attention.output(attended), None, SILENT)
            else:
                layer, turn = self.block.layer[i], self._turn(i, at)
                normed = layer.normed(z)
                layers[i] = layers[i].put(*layer.attention.keys_values(normed, turn), cell)
                attended = layers[i].attend(layer.attention.queries(normed, turn), of_latents)
                z = layer.residual(z, layer.attention.output(attended))
        hidden = self._finished(z)
        cache = Cache(
            cross=tuple(crosses),
            layers=tuple(layers),
            mask=mask,
            latent_mask=latent_mask,
            num_tokens=cache.num_tokens + 1,
            num_latents=cache.num_latents + 1,
        )
        return self._predict(hidden)[:, 0], hidden, cache

    @property
    def _num_per_position(self) -> int:
        return self.settings.num_latents_per_position

    @property
    def _one_per_position(self) -> bool:
        return self._num_per_position == 1

    def _applications(self) -> Iterator[tuple[str, int]]:
        """The layers one by one, in order."""
        for kind, first, end in self.settings.segments():
            for i in range(first, end):
                yield kind, i

    def _check(self, ids: Array, input_mask: Array | None, num_latents: int | None) -> int:
        """How many positions have latents, if they and the prefix fit."""
        if not ids.shape[1]:
            raise ValueError("there is no token to predict from; give at least one")
        if input_mask is not None:
            self._checked_mask(ids, input_mask)
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

    def _checked_mask(self, ids: Array, mask: Any) -> Array:
        """The mask of every row."""
        mask = jnp.ones(ids.shape, bool) if (given := as_mask(mask)) is None else given
        if mask.shape not in (ids.shape, (1, ids.shape[1])):
            raise ValueError(
                f"input_mask of shape {tuple(mask.shape)} does not go with inputs of shape "
                f"{tuple(ids.shape)}; give bools of the same shape, True on tokens"
            )
        return jnp.broadcast_to(mask, ids.shape)

    def _check_latents(self, num_tokens: int, num_latents: int) -> None:
        most = self.settings.max_latents
        if not 1 <= num_latents <= min(most, num_tokens):
            raise ValueError(
                f"num_latents={num_latents} is not between 1 and {min(most, num_tokens):,}: the "
                f"model has max_latents={most:,}, and {num_tokens:,} positions are given"
            )

    def _embed(
        self, ids: Array, input_mask: Array | None, positions: Array | None
    ) -> EmbeddedSequence:
        """Tokens embedded at their positions."""
        if input_mask is None:
            count = jnp.arange(ids.shape[1])[None]
        else:
            count = jnp.maximum(jnp.cumsum(input_mask, axis=1) - 1, 0)
        last = count[:, -1:]
        tables, turned = self._positions(count, last, positions, len(ids), input_mask)
        content = self.input_adapter.embed(ids, tables, input_mask)
        return EmbeddedSequence(content=content, positions=turned, mask=input_mask)

    def _positions(
        self,
        count: Array,
        last: Array,
        positions: Array | None,
        batch: int,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """Positions [B or 1, n, L] in tables, and those [B or 1, n] by which is turned.

        Args:
            count: [B or 1, n] place of each token among all, from 0.
            last: [B or 1, 1] place of the last token.
            positions: those given, if any.
            batch: rows of tokens.
            mask: [B or 1, n] bool, False where positions are of padding.
        """
        if positions is not None:
            given = self.input_adapter.checked_positions(
                jnp.asarray(positions), batch, count.shape[1], mask
            )
            return given, given[:, :, 0]
        self.input_adapter.check_counted()
        first = self.settings.first_position
        if self.settings.position_origin == "first":
            return (count + first)[:, :, None], count
        # Only differences turn: counting down from 0 needs no length, which steps would change.
        return (last - count + first)[:, :, None], -count

    def _repeated(self, x: Array) -> Array:
        return repeated(x, self._num_per_position)

    def _mask_of_inputs(
        self, seen: EmbeddedSequence, num_positions: int, num_latents: int
    ) -> Array | None:
        return mask_of_inputs(
            seen,
            num_positions=num_positions,
            num_latents=num_latents,
            per_position=self._num_per_position,
        )

    def _mask_of_latents(
        self, sequence: EmbeddedSequence, num_latents: int, key: Key | None
    ) -> tuple[Array | None, bool]:
        return mask_of_latents(
            sequence,
            num_latents=num_latents,
            per_position=self._num_per_position,
            rate=self.settings.latent_dropout,
            key=key,
        )

    def _turn(self, layer: int, at: Array) -> Rotation | None:
        """The rotation of a self-attention layer."""
        return self._rotation(at) if layer < self.settings.num_rotary_layers else None

    def _rotation(self, positions: Array, which: str = "self") -> Rotation | None:
        """That of queries and keys of a "self"- or "cross"-attention at the same positions."""
        settings = self.settings
        num_heads = settings.cross_heads if which == "cross" else settings.num_heads
        per_head = settings.qk_channels(which) // num_heads
        turned = settings.num_turned(per_head, embedded=self.input_adapter.abs_pos_emb)
        if not turned:
            return None
        frequencies = rotary_frequencies(
            turned,
            max_wavelength=settings.rotary_max_wavelength,
            spacing=settings.rotary_frequencies,
        )
        fraction = settings.rotary_heads_fraction
        return Rotation.of(
            positions,
            frequencies,
            pairs=settings.rotary_pairs,
            num_heads=None if fraction == 1.0 else int(fraction * num_heads),
        )

    def _cross_rotation(self, positions: Array, of_queries: Array) -> Rotation | None:
        rotation = self._rotation(positions, "cross")
        if rotation is None:
            return None
        ahead = of_queries + self.settings.query_position_offset
        queries = self._rotation(ahead, "cross")
        return rotation.with_queries(queries)

    def _finished(self, z: Array) -> Array:
        """[B, N, D] latents → [B, n, D] what the logits of their positions are made of."""
        z = self.output_norm(z) if self.settings.output_norm else z
        if self._one_per_position:
            return z
        return z.reshape(len(z), -1, self._num_per_position, z.shape[2]).mean(2)

    def _predict(self, z: Array) -> Array:
        tied = self.output_adapter.tied
        embedding = self.input_adapter.token_embedding[...] if tied else None
        return self.output_adapter(z, embedding=embedding)
