"""What a Perceiver AR is made of, whatever its tokens are."""

import dataclasses

from perceiver_jax.config import check_ranges, setting
from perceiver_jax.core.layer_options import LayerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverARConfig(LayerOptions):
    """The part of an autoregressive model that does not depend on the modality.

    Source: krasserm `PerceiverARConfig`; fields beyond it name theirs.
    """

    num_channels: int = setting(512, "channels of embeddings and latents")
    max_latents: int = setting(512, "most latents, so most tokens predicted at a time")
    num_heads: int = setting(8, "heads of every attention")
    num_self_attention_layers: int = setting(8, "self-attention layers of the latents")
    num_self_attention_rotary_layers: int = setting(
        1, "self-attention layers with rotary positions, the first ones; -1: all", minimum=-1
    )
    rotary_channels: int | None = setting(
        None,
        "channels of a head that rotary positions turn; None: all, or half of them where positions "
        "are embedded as well; 0: no rotary positions",
    )
    cross_attention_widening_factor: int = setting(
        4, "hidden over outer channels of the cross-attention's MLP"
    )
    self_attention_widening_factor: int = setting(
        4, "hidden over outer channels of the self-attentions' MLPs"
    )
    qkv_bias: bool = setting(False, "whether query, key and value projections have biases")
    mlp_bias: bool = setting(False, "whether the linear layers of MLPs have biases")
    out_bias: bool = setting(
        True, "whether the output projection of the cross-attention has a bias"
    )
    self_attention_out_bias: bool = setting(
        False, "whether the output projections of the self-attentions have biases"
    )
    cross_attention_dropout: float = setting(
        0.5, "fraction of the prefix that is left out of every training step, in [0, 1)"
    )
    output_norm: bool = setting(False, "whether the latents are layer-normalised at the end")
    remat: bool = setting(
        False,
        "recompute each self-attention layer in the backward pass instead of keeping it: more "
        "time, less memory",
    )

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self)
        if self.num_channels % self.num_heads:
            raise ValueError(
                f"num_channels={self.num_channels} cannot be split over num_heads={self.num_heads}"
            )
        layers = self.num_self_attention_layers
        if not -1 <= self.num_self_attention_rotary_layers <= layers:
            raise ValueError(
                f"num_self_attention_rotary_layers={self.num_self_attention_rotary_layers} is not "
                f"between 0 and num_self_attention_layers={layers}, nor -1 for all"
            )
        turned = self.rotary_channels
        for name in ("cross_attention_widening_factor", "self_attention_widening_factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.max_latents < 1:
            raise ValueError(f"max_latents={self.max_latents} must be 1 or more")
        per_head = self.num_channels // self.num_heads
        if turned is not None and (turned % 2 or not 0 <= turned <= per_head):
            raise ValueError(
                f"rotary_channels={turned} must be even, and no more than the "
                f"{self.num_channels // self.num_heads} channels of a head"
            )

    def num_turned(self, *, embedded: bool) -> int:
        """Channels of a head that rotary positions turn, where positions are embedded or not."""
        if self.rotary_channels is not None:
            return self.rotary_channels
        per_head = self.num_channels // self.num_heads
        return per_head // 2 if embedded else per_head

    @property
    def num_rotary_layers(self) -> int:
        """Self-attention layers with rotary positions."""
        rotary = self.num_self_attention_rotary_layers
        return self.num_self_attention_layers if rotary < 0 else rotary
