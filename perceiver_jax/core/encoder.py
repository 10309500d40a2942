"""The Perceiver encoder: latents cross-attend to the input and process what they found.

- A schedule says which cross-attention and which self-attention block each step applies; sharing
  weights is applying the same one again. Forward pass, scan and weight maps all read it.
- Repeated steps are scanned, so that compile time does not grow with the number of blocks.
- Learned latents are not repeated over the batch before they meet an input.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import check_size
from perceiver_jax.core.adapter_checks import check_input_adapter, check_tokens
from perceiver_jax.core.arguments import as_mask, check_mask, check_rngs, known_arguments
from perceiver_jax.core.attention_config import errors_of
from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.core.dropout import drop_inputs, drop_latents, split
from perceiver_jax.core.encoder_config import EncoderConfig, Schedule
from perceiver_jax.core.relations import relate
from perceiver_jax.core.remat import recomputed
from perceiver_jax.core.self_attention import SelfAttentionBlock
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


class PerceiverEncoder(nnx.Module):
    """Maps inputs of any size to latents of a fixed size.

    Args:
        input_adapter: turns inputs into `Tokens`, see `adapters.base.InputAdapter`.
        num_latents: learned latents N; None if the caller gives latents at every call, or
            `latent_adapter` makes them.
        num_latent_channels: latent channels D.
        latent_adapter: makes latents [B, N, D], or tokens of that, of the inputs' `Tokens`, see
            `core.computed_latents`; None: latents are learned or given.
        rngs: where initial values come from.
        **fields: the fields of `EncoderConfig`.

    Raises:
        TypeError: an unknown field, `rngs` that give no values, or what is no input adapter.
        ValueError: fields or sizes that cannot be, or do not go together.

    Source: Perceiver IO §3.1; deepmind `PerceiverEncoder`, krasserm `PerceiverEncoder`.
    """

    @known_arguments(EncoderConfig)
    def __init__(
        self,
        *,
        input_adapter: Any,
        num_latents: int | None,
        num_latent_channels: int,
        latent_adapter: Callable[[Tokens], Array | Tokens] | None = None,
        rngs: nnx.Rngs,
        **fields: Any,
    ):
        config = EncoderConfig(**fields)
        check_rngs(rngs)
        if num_latents is not None:
            check_size("num_latents", num_latents)
        check_size("num_latent_channels", num_latent_channels)
        if num_latents is not None and latent_adapter is not None:
            raise ValueError(
                f"num_latents={num_latents} asks for learned latents, and latent_adapter makes "
                "them of the inputs; give one of the two"
            )
        check_input_adapter(input_adapter)
        self.config = config
        self.input_adapter = input_adapter
        self.num_latent_channels = num_latent_channels
        self.computed_latents = latent_adapter is not None
        if latent_adapter is not None:
            self.latent_adapter = latent_adapter
        self.learned_latents = num_latents is not None
        if num_latents is not None:
            initial = config.init.table(config.latent_init_scale)
            shape = (num_latents, num_latent_channels)
            self.latents = nnx.Param(initial(rngs.params(), shape, jnp.float32))
        crosses = {cross for cross, _ in config.schedule if cross is not None}
        blocks = {block for _, block in config.schedule}
        with errors_of("cross-attention of the encoder"):
            self.cross_attention = nnx.List(
                [
                    CrossAttentionLayer(
                        config.cross_attention,
                        config.mlp_config(config.cross_attention_widening_factor),
                        num_query_channels=num_latent_channels,
                        num_input_channels=input_adapter.num_input_channels,
                        rngs=rngs,
                    )
                    for _ in crosses
                ]
            )
        with errors_of("self-attention of the encoder"):
            self.block = nnx.List(
                [
                    SelfAttentionBlock(
                        config.self_attention,
                        config.mlp_config(config.self_attention_widening_factor),
                        num_layers=config.num_self_attention_layers_per_block,
                        num_channels=num_latent_channels,
                        remat=config.remat,
                        unroll=config.unroll,
                        rngs=rngs,
                    )
                    for _ in blocks
                ]
            )

    @known_arguments()
    def __call__(
        self,
        inputs: Any,
        input_mask: Array | None = None,
        *,
        latents: Array | Tokens | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Encodes inputs.

        Args:
            inputs: whatever the input adapter takes.
            input_mask: [B, M] bool, True = an element, False = padding.
            latents: [N, D] or [B, N, D] initial latents in place of the learned or computed ones,
                or tokens of these: with moments, segments, or a mask, as where examples have
                different numbers of latents.
            key: random key for dropout; None means inference.
            tape: records `inputs` and the latents after each layer.

        Returns:
            [B, N, D] latents.

        Raises:
            ValueError: there are neither learned nor given latents.
        """
        adapter_key, encode_key = split(key, 2)
        tokens = self.input_adapter(inputs, as_mask(input_mask), key=adapter_key)
        return self.encode(tokens, latents=latents, key=encode_key, tape=tape).content

    def encode(
        self,
        tokens: Tokens,
        *,
        latents: Array | Tokens | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Tokens:
        """Encodes what the input adapter made: `Tokens` → tokens of [B, N, D] latents.

        They have the moments, segments and mask of the initial latents.
        """
        input_key, latent_key, cross_key, block_key = split(key, 4)
        check_tokens(tokens, self.input_adapter)
        tokens = self._with_input_dropout(tokens, input_key)
        if tape.recording:
            tape.stage("inputs", tokens.dense())
        initial = self._initial(tokens, latents, latent_key)
        z = initial.content
        if len(z) != len(tokens.content) and 1 not in (len(z), len(tokens.content)):
            raise ValueError(
                f"latents for {len(z)} examples do not fit {len(tokens.content)} inputs; give "
                "[N, D] latents for all, or one set for each input"
            )

        num_steps = len(self.config.schedule)
        cross_keys, block_keys = split(cross_key, num_steps), split(block_key, num_steps)

        inverted_steps = self.config.inverted_cross_attention

        among = relate(initial, initial, self.config.rotary_time)

        def cross_attend(j, inverted, z, key, tape=SILENT):
            asking = dataclasses.replace(initial, content=z)
            return self.cross_attention[j](asking, tokens, inverted=inverted, key=key, tape=tape)

        def process(j, z, key, tape=SILENT):
            return self.block[j](z, among.mask, rotation=among.rotation, key=key, tape=tape)

        if tape.recording or self.config.unroll:
            for i, (cross, block) in enumerate(self.config.schedule):
                step_tape = tape.at(f"step/{i}")
                if cross is not None:
                    cross_tape = step_tape.at("cross_attention")
                    z = cross_attend(cross, i in inverted_steps, z, cross_keys[i], cross_tape)
                z = process(block, z, block_keys[i], step_tape.at("block"))
            return dataclasses.replace(initial, content=z)

        cross_attend = recomputed(cross_attend, self.config.remat, static_argnums=(0, 1))
        for cross, block, steps in runs(self.config.schedule, inverted_steps):
            inverted = steps.start in inverted_steps

            def apply(z, keys, cross=cross, block=block, inverted=inverted):
                cross_key, block_key = (None, None) if keys is None else keys
                if cross is not None:
                    z = cross_attend(cross, inverted, z, cross_key)
                if block is not None:
                    z = process(block, z, block_key)
                return z, None

            keys = None if key is None else (cross_keys[steps], block_keys[steps])
            num_applied = steps.stop - steps.start
            if num_applied == 1:
                z, _ = apply(z, jax.tree.map(lambda k: k[0], keys))
            else:
                z, _ = jax.lax.scan(apply, z, keys, length=num_applied)
        return dataclasses.replace(initial, content=z)

    def _with_input_dropout(self, tokens: Tokens, key: Key | None) -> Tokens:
        """The tokens with a random part of them masked.

        Raises:
            ValueError: the mask does not fit the tokens.
        """
        shape = (len(tokens.content), tokens.num_tokens)
        given = as_mask(tokens.mask)
        check_mask(given, shape)
        mask = drop_inputs(given, shape, self.config.input_dropout, key)
        return dataclasses.replace(tokens, mask=mask)

    def _initial(self, tokens: Tokens, latents: Array | Tokens | None, key: Key | None) -> Tokens:
        """[1 or B, N, D] latents to start from: given, computed or learned."""
        if latents is None and self.computed_latents:
            latents = self.latent_adapter(tokens)
        if latents is None:
            if not self.learned_latents:
                raise ValueError(
                    "this encoder has no learned latents (num_latents=None); pass latents=[N, D] "
                    "or [B, N, D] at the call"
                )
            latents = self.latents[...]
        latents = Tokens.of(latents)
        if latents.positions or len(latents.grid) > 1:
            dense = latents.dense()
            latents = dataclasses.replace(latents, content=dense, positions=(), order=None)
        if latents.num_channels != self.num_latent_channels or latents.content.ndim != 3:
            raise ValueError(
                f"latents of shape {latents.content.shape} do not fit this encoder, which takes "
                f"[N, {self.num_latent_channels}] or [B, N, {self.num_latent_channels}]"
            )
        return jax.tree.map(lambda x: drop_latents(x, self.config.latent_dropout, key), latents)


def runs(
    schedule: Schedule, inverted_steps: Collection[int] = ()
) -> list[tuple[int | None, int | None, slice]]:
    """Groups equal steps that follow each other: [(cross-attention, block, which steps)].

    The first cross-attention stands alone, because it is where the batch enters. A step whose
    cross-attention is inverted does not equal one whose is not.
    """
    cross, block = schedule[0]
    result: list[tuple[int | None, int | None, slice]] = [
        (cross, None, slice(0, 1)),
        (None, block, slice(0, 1)),
    ]
    for i, (cross, block) in enumerate(schedule[1:], start=1):
        last_cross, last_block, steps = result[-1]
        turns = cross is not None and (i in inverted_steps) != (steps.start in inverted_steps)
        if (cross, block) == (last_cross, last_block) and not turns:
            result[-1] = (cross, block, slice(steps.start, i + 1))
        else:
            result.append((cross, block, slice(i, i + 1)))
    return result
