"""lucidrains' `PerceiverAR`, of the package perceiver-ar-pytorch.

- Its prefix has `cross_attn_seq_len` tokens in every example, and a sequence has more. Ours is told
  at the call how many latents there are: that many less than tokens.
- Positions are embedded, and turn 32 channels of a head, or half of them where that is more.
- Dropout rates act in training alone. Of those that it has not, the ones that hide inputs or
  latents are refused, and others noted.
"""

import math
from typing import Any

import numpy as np

from interop.formats.lucidrains.arguments import MIN_ROTARY_CHANNELS, PerceiverARArguments
from interop.formats.lucidrains.halves import Requirements
from interop.formats.lucidrains.shapes import FREQUENCIES
from interop.formats.settings import common_requirements
from interop.formats.torch_layers import linear, norm
from interop.ops import SPLIT, TRANSPOSE
from interop.rows import Arrays, Row, ignore, row
from perceiver_jax.core.position import rotary_frequencies
from perceiver_jax.models import CausalSequenceConfig, CausalSequenceModel

WHOSE = "lucidrains' perceiver-ar-pytorch"
ARGUMENTS = PerceiverARArguments
MODELS = (CausalSequenceModel,)
NOTES = (
    "their prefix has cross_attn_seq_len tokens in every example: for the same predictions call "
    "ours with num_latents = tokens - cross_attn_seq_len",
    "their positions count padding, which they mask in the prefix alone: for the same predictions "
    "give ours such positions",
)
DROPOUT_NOTE = (
    "their dropout, in training only, leaves the weights of self-attentions alone and drops hidden "
    "channels of MLPs"
)
ONLY: dict[str, Any] = {
    "activation": "gelu",
    "layer_norm_epsilon": 1e-5,
    "qkv_bias": False,
    "mlp_bias": False,
    "out_bias": True,
    "self_attention_out_bias": False,
    "num_latents_per_position": 1,
    "initial_queries": "inputs",
    "cross_attention_after_layers": (),
    "cross_attention_keys": "latents",
    "cross_attention_residual": True,
    "position_origin": "first",
    "first_position": 0,
    "abs_pos_emb": True,
    "train_positions": True,
    "rotary_heads_fraction": 1.0,
    "rotary_pairs": "halves",
    "rotary_frequencies": "geometric",
    "query_position_offset": 0,
    "encoder_dropout": 0.0,
    "latent_dropout": 0.0,
    "output_norm": False,
    "tied_logits": False,
    "output_bias": False,
}
BUFFER_TOLERANCE = 1e-6
"""The reference computes its frequencies in float32; the largest of them is 1."""


def config(arguments: PerceiverARArguments) -> CausalSequenceConfig:
    """Our config from constructor arguments."""
    num_qk_channels = arguments.heads * arguments.dim_head
    return CausalSequenceConfig(
        **ONLY,
        vocab_size=arguments.num_tokens,
        max_seq_len=arguments.max_seq_len,
        max_latents=arguments.max_seq_len - arguments.cross_attn_seq_len,
        num_channels=arguments.dim,
        num_heads=arguments.heads,
        num_cross_attention_qk_channels=num_qk_channels,
        num_self_attention_qk_channels=num_qk_channels,
        num_cross_attention_layers=arguments.perceive_depth,
        num_self_attention_layers=arguments.depth,
        num_self_attention_rotary_layers=-1,
        rotary_fraction=_fraction(arguments.dim_head),
        rotary_max_wavelength=_max_wavelength(arguments.dim_head),
        cross_attention_widening_factor=arguments.ff_mult,
        self_attention_widening_factor=arguments.ff_mult,
        cross_attention_dropout=arguments.cross_attn_dropout,
        dropout=arguments.dropout,
        masked_rows="uniform",
        init_method="uniform",
    )


def arguments(config: CausalSequenceConfig) -> PerceiverARArguments:
    """The inverse of `config`.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    return PerceiverARArguments(
        num_tokens=config.vocab_size,
        dim=config.num_channels,
        depth=config.num_self_attention_layers,
        max_seq_len=config.max_seq_len,
        cross_attn_seq_len=config.max_seq_len - config.max_latents,
        dim_head=_dim_head(config),
        heads=config.num_heads,
        dropout=config.dropout,
        cross_attn_dropout=config.cross_attention_dropout,
        ff_mult=config.self_attention_widening_factor,
        perceive_depth=config.num_cross_attention_layers,
    )


def requirements(config: CausalSequenceConfig) -> Requirements:
    """Settings that the reference does not let choose, as (value, the one it has to be)."""
    context = (config.max_seq_len,)
    return {
        **{name: (getattr(config, name), value) for name, value in ONLY.items()},
        **common_requirements(config),
        **_rotary_requirements(config),
        "position_shape": (config.position_shape or context, context),
        "num_cross_attention_heads": (config.cross_heads, config.num_heads),
        "num_cross_attention_qk_channels": (
            config.qk_channels("cross"),
            config.qk_channels("self"),
        ),
        "num_self_attention_rotary_layers": (
            config.num_rotary_layers,
            config.num_self_attention_layers,
        ),
        "cross_attention_widening_factor": (
            config.cross_attention_widening_factor,
            config.self_attention_widening_factor,
        ),
    }


def notes(config: CausalSequenceConfig) -> tuple[str, ...]:
    """What the reference does otherwise and no setting tells."""
    return (*NOTES, *([DROPOUT_NOTE] if config.dropout else []))


def _rotary_requirements(config: CausalSequenceConfig) -> Requirements:
    dim_head, given = _dim_head(config), config.rotary_fraction
    if dim_head < MIN_ROTARY_CHANNELS:
        return {"channels of a head": (dim_head, MIN_ROTARY_CHANNELS)}
    wanted = _num_turned(dim_head)
    # Several fractions stand for the same number of channels.
    same = config.num_turned(dim_head, embedded=True) == wanted
    return {
        "rotary_fraction": (given, given if same else _fraction(dim_head)),
        "rotary_max_wavelength": (config.rotary_max_wavelength, _max_wavelength(dim_head)),
    }


def rows(config: CausalSequenceConfig) -> list[Row]:
    """The state dict.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    result = [
        row("input_adapter/token_embedding", "token_emb.weight"),
        row("input_adapter/position_embedding/0", "pos_emb.weight"),
        _frequencies(config),
        *linear("output_adapter/linear", "to_logits", bias=False),
    ]
    for i in range(config.num_cross_attention_layers):
        result += _cross_layer(f"cross_attention/{i}", f"perceive_layers.{i}")
    for i in range(config.num_self_attention_layers):
        result += _self_layer(f"block/layer/{i}", f"layers.{i}")
    return result


def _cross_layer(ours: str, theirs: str) -> list[Row]:
    """A `CausalPrefixAttention` and a `FeedForward`."""
    attention = f"{ours}/attention"
    return [
        *norm(f"{ours}/q_norm", f"{theirs}.0.norm"),
        *norm(f"{ours}/kv_norm", f"{theirs}.0.context_norm"),
        row(f"{attention}/query/kernel", f"{theirs}.0.to_q.weight", TRANSPOSE),
        _fused(attention, ("key", "value"), f"{theirs}.0.to_kv.weight"),
        *linear(f"{attention}/output", f"{theirs}.0.to_out"),
        *_mlp(ours, f"{theirs}.1"),
    ]


def _self_layer(ours: str, theirs: str) -> list[Row]:
    """A `CausalAttention` and a `FeedForward`."""
    attention = f"{ours}/attention"
    return [
        *norm(f"{ours}/norm", f"{theirs}.0.norm"),
        _fused(attention, ("query", "key", "value"), f"{theirs}.0.to_qkv.weight"),
        *linear(f"{attention}/output", f"{theirs}.0.to_out", bias=False),
        *_mlp(ours, f"{theirs}.1"),
    ]


def _fused(attention: str, projections: tuple[str, ...], theirs: str) -> Row:
    """Projections of ours that are one matrix there, one after the other."""
    ours = tuple(f"{attention}/{name}/kernel" for name in projections)
    return row(ours, theirs, SPLIT(len(ours), 0, TRANSPOSE))


def _mlp(ours: str, theirs: str) -> list[Row]:
    """A `FeedForward`, whose first member is its norm."""
    return [
        *norm(f"{ours}/mlp_norm", f"{theirs}.0"),
        *linear(f"{ours}/mlp/hidden", f"{theirs}.1", bias=False),
        *linear(f"{ours}/mlp/output", f"{theirs}.4", bias=False),
    ]


def _frequencies(config: CausalSequenceConfig) -> Row:
    """The frequencies of rotary positions, which the state dict holds."""

    def frequencies(ours: Arrays) -> np.ndarray:
        dtype = ours["input_adapter/token_embedding"].dtype
        dim_head = _dim_head(config)
        longest = _max_wavelength(dim_head)
        return rotary_frequencies(_num_turned(dim_head), max_wavelength=longest).astype(dtype)

    return ignore(
        FREQUENCIES, "frequencies of rotary positions", frequencies, tolerance=BUFFER_TOLERANCE
    )


def _dim_head(config: CausalSequenceConfig) -> int:
    return config.qk_channels("self") // config.num_heads


def _num_turned(dim_head: int) -> int:
    """Channels of a head of so many that are turned: of an odd half, one more."""
    half = _rotary_dim(dim_head)
    return half + half % 2


def _fraction(dim_head: int) -> float:
    """The fraction of channels that stands for these, though a product of floats is cut down."""
    num_turned = _num_turned(dim_head)
    fraction = num_turned / dim_head
    return (
        fraction
        if int(dim_head * fraction / 2.0) * 2 == num_turned
        else math.nextafter(fraction, 1)
    )


def _max_wavelength(dim_head: int) -> float:
    """What frequencies approach, over 2π: beyond 10,000 where an odd half spaces them wider."""
    return 10_000.0 ** (_num_turned(dim_head) / _rotary_dim(dim_head))


def _rotary_dim(dim_head: int) -> int:
    return max(MIN_ROTARY_CHANNELS, dim_head // 2)
