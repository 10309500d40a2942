"""The Perceiver encoder: latents cross-attend to the input and process what they found.

- A schedule says which cross-attention and which self-attention block each step applies; sharing
  weights is applying the same one again. Forward pass, scan and weight maps all read it.
- Repeated steps are scanned, so that compile time does not grow with the number of blocks.
- Learned latents are not repeated over the batch before they meet an input.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import setting
from perceiver_jax.core.attention import AttentionConfig
from perceiver_jax.core.dropout import drop_inputs, drop_latents, split
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.core.layers import CrossAttentionLayer, SelfAttentionBlock
from perceiver_jax.core.remat import Remat, named, recomputed
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key

MAX_BLOCKS = 10_000
Schedule = tuple[tuple[int | None, int], ...]
"""Steps of (which cross-attention or none, which self-attention block)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(LayerOptions):
    """The part of an encoder that does not depend on the modality.

    Source: krasserm `EncoderConfig`; fields beyond it name theirs.
    """

    num_cross_attention_heads: int = setting(8, "heads of the cross-attention")
    num_cross_attention_qk_channels: int | None = setting(
        None,
        "query and key channels of all heads together; None: the latent channels",
    )
    num_cross_attention_v_channels: int | None = setting(
        None,
        "value channels of all heads together; None: the query and key channels",
    )
    num_cross_attention_layers: int = setting(
        1,
        "steps that start with a cross-attention; at most num_self_attention_blocks",
    )
    first_cross_attention_layer_shared: bool = setting(
        False,
        "whether the first cross-attention has the weights of the repeated one",
    )
    cross_attention_widening_factor: int = setting(
        1,
        "hidden over outer channels of the cross-attention's MLP",
    )
    cross_attention_residual: bool = setting(
        True,
        "whether the latents are added to what the cross-attention found",
    )
    inverted_cross_attention: tuple[int, ...] = setting(
        (),
        "steps, counted from 0, whose cross-attention is inverted: latents compete for each input "
        "(lucidrains' inverted_cross_attn, Slot Attention)",
    )
    num_self_attention_heads: int = setting(8, "heads of the self-attentions")
    num_self_attention_qk_channels: int | None = setting(
        None,
        "query and key channels of all heads together; None: the latent channels",
    )
    num_self_attention_v_channels: int | None = setting(
        None,
        "value channels of all heads together; None: the query and key channels",
    )
    num_self_attention_layers_per_block: int = setting(
        8,
        "self-attention layers L of a block, each with weights of its own",
    )
    num_self_attention_blocks: int = setting(1, "how many blocks follow each other")
    first_self_attention_block_shared: bool = setting(
        True,
        "whether the first block has the weights of the repeated one",
    )
    self_attention_widening_factor: int = setting(
        1,
        "hidden over outer channels of the self-attention MLPs",
    )
    repeated_layers_shared: bool = setting(
        True,
        "whether the second and later cross-attentions share weights with each other, and "
        "likewise the blocks; False, with both first_..._shared False too, gives each its own "
        "(lucidrains' weight_tie_layers=False)",
    )
    input_dropout: float = setting(
        0.0,
        "fraction of input tokens hidden from each example in training (lucidrains' "
        "seq_dropout_prob)",
    )
    latent_dropout: float = setting(
        0.0,
        "fraction of latents left out in training, the same for the whole batch",
    )
    latent_init_scale: float | None = setting(
        None,
        "standard deviation of the initial latents; None: as the recipe has it",
    )
    remat: Remat = setting(
        "none",
        "what of each layer the backward pass computes again instead of keeping it: 'none', 'dots' "
        "(all but products with kernels) or 'full' (True)",
    )
    unroll: bool = setting(
        False,
        "write repeated and deep layers out instead of scanning them: slow to compile, for "
        "debugging and cost analysis",
    )

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "remat", named(self.remat))
        if self.num_cross_attention_layers > self.num_self_attention_blocks:
            raise ValueError(
                f"num_cross_attention_layers={self.num_cross_attention_layers} exceeds "
                f"num_self_attention_blocks={self.num_self_attention_blocks}; every "
                "cross-attention is followed by a block, so raise the blocks or lower the "
                "cross-attentions"
            )
        if self.num_self_attention_blocks > MAX_BLOCKS:
            raise ValueError(
                f"num_self_attention_blocks={self.num_self_attention_blocks} is more than "
                f"{MAX_BLOCKS:,}; is it meant?"
            )
        inverted = self.inverted_cross_attention
        if not set(inverted) <= set(range(self.num_cross_attention_layers)):
            raise ValueError(
                f"inverted_cross_attention={inverted} names steps without cross-attention; "
                f"those with one are 0 to {self.num_cross_attention_layers - 1}"
            )

    @property
    def schedule(self) -> Schedule:
        """Which cross-attention and which block each step applies."""

        def index(step: int, first_shared: bool) -> int:
            if step == 0:
                return 0
            return (0 if first_shared else 1) + (0 if self.repeated_layers_shared else step - 1)

        return tuple(
            (
                index(step, self.first_cross_attention_layer_shared)
                if step < self.num_cross_attention_layers
                else None,
                index(step, self.first_self_attention_block_shared),
            )
            for step in range(self.num_self_attention_blocks)
        )

    @property
    def cross_attention(self) -> AttentionConfig:
        """Attention of the cross-attention layers."""
        return self.attention_config(
            num_heads=self.num_cross_attention_heads,
            num_qk_channels=self.num_cross_attention_qk_channels,
            num_v_channels=self.num_cross_attention_v_channels,
            residual=self.cross_attention_residual,
        )

    @property
    def self_attention(self) -> AttentionConfig:
        """Attention of the self-attention layers."""
        return self.attention_config(
            num_heads=self.num_self_attention_heads,
            num_qk_channels=self.num_self_attention_qk_channels,
            num_v_channels=self.num_self_attention_v_channels,
        )


class PerceiverEncoder(nnx.Module):
    """Maps inputs of any size to latents of a fixed size.

    Args:
        input_adapter: turns inputs into `Tokens`, see `adapters.base.InputAdapter`.
        num_latents: learned latents N; None if the caller gives latents at every call.
        num_latent_channels: latent channels D.
        rngs: where initial values come from.
        **fields: the fields of `EncoderConfig`.

    Raises:
        TypeError: an unknown field.
        ValueError: fields that do not go together.

    Source: Perceiver IO §3.1; deepmind `PerceiverEncoder`, krasserm `PerceiverEncoder`.
    """

    def __init__(
        self,
        *,
        input_adapter: Any,
        num_latents: int | None,
        num_latent_channels: int,
        rngs: nnx.Rngs,
        **fields: Any,
    ):
        config = EncoderConfig(**fields)
        if num_latents is not None and num_latents < 1:
            raise ValueError(f"num_latents={num_latents} must be 1 or more, or None")
        self.config = config
        self.input_adapter = input_adapter
        self.learned_latents = num_latents is not None
        if num_latents is not None:
            initial = config.init.table(config.latent_init_scale)
            shape = (num_latents, num_latent_channels)
            self.latents = nnx.Param(initial(rngs.params(), shape, jnp.float32))
        crosses = {cross for cross, _ in config.schedule if cross is not None}
        blocks = {block for _, block in config.schedule}
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

    def __call__(
        self,
        inputs: Any,
        input_mask: Array | None = None,
        *,
        latents: Array | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Encodes inputs.

        Args:
            inputs: whatever the input adapter takes.
            input_mask: [B, M] bool, True = an element, False = padding.
            latents: [N, D] or [B, N, D] initial latents in place of the learned ones.
            key: random key for dropout; None means inference.
            tape: records `inputs` and the latents after each layer.

        Returns:
            [B, N, D] latents.

        Raises:
            ValueError: there are neither learned nor given latents.
        """
        adapter_key, encode_key = split(key, 2)
        tokens = self.input_adapter(inputs, input_mask, key=adapter_key)
        return self.encode(tokens, latents=latents, key=encode_key, tape=tape)

    def encode(
        self,
        tokens: Tokens,
        *,
        latents: Array | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Encodes what the input adapter made: `Tokens` → [B, N, D] latents."""
        input_key, latent_key, cross_key, block_key = split(key, 4)
        tokens = self._with_input_dropout(tokens, input_key)
        if tape.recording:
            tape.stage("inputs", tokens.dense())
        z = drop_latents(self._initial(latents), self.config.latent_dropout, latent_key)
        if len(z) != len(tokens.content) and 1 not in (len(z), len(tokens.content)):
            raise ValueError(
                f"latents for {len(z)} examples do not fit {len(tokens.content)} inputs; give "
                "[N, D] latents for all, or one set for each input"
            )

        num_steps = len(self.config.schedule)
        cross_keys, block_keys = split(cross_key, num_steps), split(block_key, num_steps)

        inverted_steps = self.config.inverted_cross_attention

        def cross_attend(j, inverted, z, key, tape=SILENT):
            return self.cross_attention[j](z, tokens, inverted=inverted, key=key, tape=tape)

        if tape.recording or self.config.unroll:
            for i, (cross, block) in enumerate(self.config.schedule):
                step_tape = tape.at(f"step/{i}")
                if cross is not None:
                    cross_tape = step_tape.at("cross_attention")
                    z = cross_attend(cross, i in inverted_steps, z, cross_keys[i], cross_tape)
                z = self.block[block](z, key=block_keys[i], tape=step_tape.at("block"))
            return z

        cross_attend = recomputed(cross_attend, self.config.remat, static_argnums=(0, 1))
        for cross, block, steps in runs(self.config.schedule, inverted_steps):
            inverted = steps.start in inverted_steps

            def apply(z, keys, cross=cross, block=block, inverted=inverted):
                cross_key, block_key = (None, None) if keys is None else keys
                if cross is not None:
                    z = cross_attend(cross, inverted, z, cross_key)
                if block is not None:
                    z = self.block[block](z, key=block_key)
                return z, None

            keys = None if key is None else (cross_keys[steps], block_keys[steps])
            num_applied = steps.stop - steps.start
            if num_applied == 1:
                z, _ = apply(z, jax.tree.map(lambda k: k[0], keys))
            else:
                z, _ = jax.lax.scan(apply, z, keys, length=num_applied)
        return z

    def _with_input_dropout(self, tokens: Tokens, key: Key | None) -> Tokens:
        """The tokens with a random part of them masked.

        Raises:
            ValueError: the mask does not fit the tokens.
        """
        shape = (len(tokens.content), tokens.num_tokens)
        if tokens.mask is not None and tokens.mask.shape != shape:
            raise ValueError(
                f"input_mask of shape {tokens.mask.shape} does not fit inputs of "
                f"{tokens.num_tokens} tokens; it takes {shape}, one bool per token"
            )
        mask = drop_inputs(tokens.mask, shape, self.config.input_dropout, key)
        return dataclasses.replace(tokens, mask=mask)

    def _initial(self, latents: Array | None) -> Array:
        """[1 or B, N, D] latents to start from."""
        if latents is None:
            if not self.learned_latents:
                raise ValueError(
                    "this encoder has no learned latents (num_latents=None); pass latents=[N, D] "
                    "or [B, N, D] at the call"
                )
            latents = self.latents[...]
        return latents[None] if latents.ndim == 2 else latents


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
