"""What a Perceiver AR is made of, whatever its tokens are."""

import dataclasses
from typing import Any, Literal

from perceiver_jax.config import check_fields, setting
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.core.position import RotaryFrequencies, RotaryPairs
from perceiver_jax.core.remat import Remat, named

QueryStyle = Literal["inputs", "linear", "mlp", "learned", "learned_shared"]
CrossAttentionKeys = Literal["latents", "inputs"]
PositionOrigin = Literal["first", "last"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverARConfig(LayerOptions):
    """The part of an autoregressive model that does not depend on the modality.

    Source: krasserm `PerceiverARConfig`; perceiver-ar `PerceiverAR`; lucidrains `PerceiverAR`.
    """

    num_channels: int = setting(512, "channels of latents")
    num_input_channels: int | None = setting(
        None, "channels of embedded tokens; None: those of latents"
    )
    max_latents: int = setting(512, "most positions with latents, so most tokens predicted at once")
    num_latents_per_position: int = setting(
        1, "latents at each of these positions; their mean predicts"
    )
    initial_queries: QueryStyle = setting(
        "inputs",
        "what latents start from: 'inputs', the embedded token at their position; 'linear' or "
        "'mlp' of it; 'learned', one array for each position; or 'learned_shared', one for all",
    )
    num_query_mlp_layers: int = setting(
        2, "layers, each with squared ReLU, that initial_queries='mlp' adds to the linear one"
    )
    num_heads: int = setting(8, "heads of every attention")
    num_cross_attention_heads: int | None = setting(
        None, "heads of cross-attentions; None: num_heads"
    )
    num_cross_attention_qk_channels: int | None = setting(
        None, "query, key and value channels of cross-attentions; None: num_channels"
    )
    num_self_attention_qk_channels: int | None = setting(
        None, "query, key and value channels of self-attentions; None: num_channels"
    )
    num_cross_attention_layers: int = setting(
        1,
        "cross-attentions before the first self-attention; 0: a decoder, which sees no prefix",
        minimum=0,
    )
    cross_attention_after_layers: tuple[int, ...] = setting(
        (), "self-attention layers after which latents attend to the inputs again"
    )
    cross_attention_keys: CrossAttentionKeys = setting(
        "latents",
        "what is attended to where latents stand: 'latents', the latents themselves, normed as "
        "queries are (krasserm, lucidrains); or 'inputs', the embedded tokens (DeepMind)",
    )
    cross_attention_residual: bool = setting(
        True, "whether latents are added to what they attended to in cross-attentions"
    )
    num_self_attention_layers: int = setting(8, "self-attention layers of the latents")
    num_self_attention_rotary_layers: int = setting(
        1, "self-attention layers with rotary positions, the first ones; -1: all", minimum=-1
    )
    position_origin: PositionOrigin = setting(
        "first",
        "positions count from the first token, or back from the 'last', which is then at 0",
    )
    first_position: int = setting(
        0, "row of tables of positions that the first counted token takes; DeepMind's data has 1"
    )
    rotary_fraction: float | None = setting(
        None,
        "fraction of a head's channels that rotary positions turn, in [0, 1]; None: all, or half "
        "where positions are embedded as well; 0: no rotary positions",
    )
    rotary_heads_fraction: float = setting(1.0, "fraction of heads that are turned, in (0, 1]")
    rotary_pairs: RotaryPairs = setting(
        "interleaved",
        "which channels turn together: 'interleaved', neighbours; 'halves', those half of the "
        "turned channels apart",
    )
    rotary_frequencies: RotaryFrequencies = setting(
        "geometric",
        "'geometric' frequencies, or DeepMind's 'closed' ones, the last of which is "
        "1 / rotary_max_wavelength",
    )
    rotary_max_wavelength: float = setting(
        10_000.0, "longest wavelength of rotary positions, over 2π"
    )
    query_position_offset: int = setting(
        0, "how far ahead queries of cross-attentions are turned; 1: to what they predict"
    )
    cross_attention_widening_factor: int = setting(
        4, "hidden over outer channels of the cross-attentions' MLPs"
    )
    self_attention_widening_factor: int = setting(
        4, "hidden over outer channels of the self-attentions' MLPs"
    )
    qkv_bias: bool = setting(False, "whether query, key and value projections have biases")
    mlp_bias: bool = setting(False, "whether the linear layers of MLPs have biases")
    out_bias: bool = setting(True, "whether the output projections of cross-attentions have biases")
    self_attention_out_bias: bool = setting(
        False, "whether the output projections of the self-attentions have biases"
    )
    cross_attention_dropout: float = setting(
        0.5, "fraction of the prefix that is left out of every training step, in [0, 1)"
    )
    num_training_inputs: int | None = setting(
        None, "inputs, drawn at random, that cross-attentions see in training; None: all"
    )
    encoder_dropout: float = setting(
        0.0, "chance of each input that no cross-attention sees it in a training step, in [0, 1)"
    )
    latent_dropout: float = setting(
        0.0, "chance of each latent that no other sees it in a training step, in [0, 1)"
    )
    output_norm: bool = setting(False, "whether the latents are layer-normalised at the end")
    remat: Remat = setting(
        "none",
        "what of each self-attention layer the backward pass computes again instead of keeping "
        "it: 'none', 'dots' (all but products with kernels) or 'full' (True)",
    )

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "remat", named(self.remat))
        check_fields(self)
        self._check_sizes()
        self._check_layers()
        self._check_rotary()
        self._check_left_out()
        if self.cross_attention_keys == "latents":
            self._check_latents_as_keys()

    def _check_sizes(self) -> None:
        for name, num_heads in (("cross", self.cross_heads), ("self", self.num_heads)):
            channels = self.qk_channels(name)
            if channels % num_heads:
                raise ValueError(
                    f"{channels} channels of {name}-attentions cannot be split over num_heads="
                    f"{num_heads}"
                )
        for name in ("cross_attention_widening_factor", "self_attention_widening_factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.max_latents < 1:
            raise ValueError(f"max_latents={self.max_latents} must be 1 or more")
        if self.initial_queries == "inputs" and self.input_channels != self.num_channels:
            raise ValueError(
                f"initial_queries='inputs' makes latents of embedded tokens, so num_input_channels="
                f"{self.num_input_channels} must be num_channels={self.num_channels}; or take "
                "'linear'"
            )

        if self.num_query_mlp_layers != 2 and self.initial_queries != "mlp":
            raise ValueError(
                f"num_query_mlp_layers={self.num_query_mlp_layers} has no meaning with "
                f"initial_queries={self.initial_queries!r}"
            )

    def _check_left_out(self) -> None:
        hides = self.encoder_dropout > 0.0 or self.num_training_inputs is not None
        if hides and self.masked_rows == "uniform":
            raise ValueError(
                "masked_rows='uniform' lets a latent of which training hides all inputs attend to "
                "all of them, later ones as well; with encoder_dropout or num_training_inputs set "
                "masked_rows='zero'"
            )
        if self.num_training_inputs is not None and self.cross_attention_dropout:
            raise ValueError(
                f"num_training_inputs={self.num_training_inputs} and cross_attention_dropout="
                f"{self.cross_attention_dropout} both leave inputs out; set one of them"
            )

    def _check_layers(self) -> None:
        layers = self.num_self_attention_layers
        if not -1 <= self.num_self_attention_rotary_layers <= layers:
            raise ValueError(
                f"num_self_attention_rotary_layers={self.num_self_attention_rotary_layers} is not "
                f"between 0 and num_self_attention_layers={layers}, nor -1 for all"
            )
        after = self.cross_attention_after_layers
        if list(after) != sorted(set(after) & set(range(layers))):
            raise ValueError(
                f"cross_attention_after_layers={after} must be different layers in order, from 0 "
                f"to {layers - 1}"
            )

    def _check_rotary(self) -> None:
        for name in ("first_position", "query_position_offset"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")
        fraction = self.rotary_fraction
        if fraction is not None and not 0.0 <= fraction <= 1.0:
            raise ValueError(f"rotary_fraction={fraction} is not in [0, 1]")
        heads = self.rotary_heads_fraction
        if not 0.0 < heads <= 1.0 or int(heads * min(self.num_heads, self.cross_heads)) < 1:
            raise ValueError(
                f"rotary_heads_fraction={heads} is not in (0, 1], or no whole head of "
                f"{min(self.num_heads, self.cross_heads)}"
            )
        if not self.rotary_max_wavelength >= 1.0:
            raise ValueError(
                f"rotary_max_wavelength={self.rotary_max_wavelength} must be 1 or more"
            )

    def _check_latents_as_keys(self) -> None:
        only: dict[str, tuple[Any, Any]] = {
            "num_latents_per_position": (self.num_latents_per_position, 1),
            "num_training_inputs": (self.num_training_inputs, None),
            "num_input_channels": (self.input_channels, self.num_channels),
        }
        for name, (value, wanted) in only.items():
            if value != wanted:
                raise ValueError(
                    f"cross_attention_keys='latents' goes with {name}={wanted} alone, not {value}; "
                    "take 'inputs'"
                )

    @property
    def input_channels(self) -> int:
        """Channels of embedded tokens."""
        return self.num_input_channels or self.num_channels

    @property
    def cross_heads(self) -> int:
        """Heads of a cross-attention."""
        return self.num_cross_attention_heads or self.num_heads

    @property
    def num_cross_attentions(self) -> int:
        """Cross-attentions in all: the initial ones, then those between self-attentions."""
        return self.num_cross_attention_layers + len(self.cross_attention_after_layers)

    @property
    def num_rotary_layers(self) -> int:
        """Self-attention layers with rotary positions."""
        rotary = self.num_self_attention_rotary_layers
        return self.num_self_attention_layers if rotary < 0 else rotary

    def qk_channels(self, which: str) -> int:
        """Query channels of "cross"- or "self"-attentions."""
        return getattr(self, f"num_{which}_attention_qk_channels") or self.num_channels

    def num_turned(self, num_head_channels: int, *, embedded: bool) -> int:
        """Channels of a head that rotary positions turn, where positions are embedded or not."""
        if self.rotary_fraction is None:
            return num_head_channels // 2 if embedded else num_head_channels
        return int(num_head_channels * self.rotary_fraction / 2.0) * 2

    def why_no_steps(self, *, embedded: bool) -> str | None:
        """Why a further token changes all before it, or None where cached steps are possible.

        Args:
            embedded: whether positions are embedded.
        """
        if self.initial_queries == "learned":
            return "initial_queries='learned' belong to places, which move with each token"
        if self.position_origin == "last" and embedded:
            return "position_origin='last' with embedded positions embeds all anew at each token"
        return None

    def cross_attention(self) -> AttentionConfig:
        """Of every cross-attention."""
        return self.attention_config(
            num_heads=self.cross_heads,
            num_qk_channels=self.num_cross_attention_qk_channels,
            residual=self.cross_attention_residual,
        )

    def self_attention(self) -> AttentionConfig:
        """Of every self-attention."""
        return self.attention_config(
            num_heads=self.num_heads,
            num_qk_channels=self.num_self_attention_qk_channels,
            out_bias=self.self_attention_out_bias,
        )

    def segments(self) -> list[tuple[str, int, int]]:
        """The layers in order: ("cross_attention", i, i + 1) or ("block", first, last + 1).

        Self-attentions of a segment all have rotary positions, or none has.
        """
        result = [("cross_attention", i, i + 1) for i in range(self.num_cross_attention_layers)]
        layers, after = self.num_self_attention_layers, self.cross_attention_after_layers
        ends = sorted({layers, *(i + 1 for i in after), *{self.num_rotary_layers} - {0}})
        for first, end in zip([0, *ends], ends, strict=False):
            result.append(("block", first, end))
            if end - 1 in after:
                i = self.num_cross_attention_layers + after.index(end - 1)
                result.append(("cross_attention", i, i + 1))
        return result
