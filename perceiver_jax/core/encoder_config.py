"""What an encoder is made of, and its schedule: which weights each step applies."""

import dataclasses

from perceiver_jax.config import setting
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.remat import Remat, named
from perceiver_jax.core.time_options import TimeOptions

MAX_BLOCKS = 10_000
Schedule = tuple[tuple[int | None, int], ...]
"""Steps of (which cross-attention or none, which self-attention block)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(TimeOptions):
    """The part of an encoder that does not depend on the modality.

    Source: krasserm `EncoderConfig`; fields beyond it name theirs.
    """

    num_cross_attention_heads: int = setting(8, "heads of the cross-attention")
    num_cross_attention_kv_heads: int | None = setting(
        None, "heads of its keys and values, each for several heads of queries; None: as many"
    )
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
    latents_contribute_kv: bool = setting(
        False,
        "whether the cross-attention has keys and values of the latents as well as of the inputs "
        "(Flamingo), which then have as many channels as latents",
    )
    num_self_attention_heads: int = setting(8, "heads of the self-attentions")
    num_self_attention_kv_heads: int | None = setting(
        None, "heads of their keys and values, each for several heads of queries; None: as many"
    )
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
            rotary=self.rotary_time,
            num_heads=self.num_cross_attention_heads,
            num_kv_heads=self.num_cross_attention_kv_heads,
            queries_contribute_kv=self.latents_contribute_kv,
            num_qk_channels=self.num_cross_attention_qk_channels,
            num_v_channels=self.num_cross_attention_v_channels,
            residual=self.cross_attention_residual,
        )

    @property
    def self_attention(self) -> AttentionConfig:
        """Attention of the self-attention layers."""
        return self.attention_config(
            rotary=self.rotary_time,
            num_heads=self.num_self_attention_heads,
            num_kv_heads=self.num_self_attention_kv_heads,
            num_qk_channels=self.num_self_attention_qk_channels,
            num_v_channels=self.num_self_attention_v_channels,
        )
