"""The reference's `CausalSequenceModel`, Perceiver AR: models of texts and of symbolic music.

- Both classes are that one; folders name the class, so these are told apart by what they model.
- Settings are flat, and have the names of ours but for a few.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats.krasserm import layers
from interop.formats.settings import check_settings, common_requirements
from interop.formats.torch_layers import norm
from interop.rows import Arrays, Row, ignore, row, table
from perceiver_jax.config import ConfigError, from_dict, suggestion, with_article
from perceiver_jax.core.position import rotary_frequencies
from perceiver_jax.models import AnyModelConfig, CausalSequenceConfig, CausalSequenceModel

WHOSE = "krasserm's CausalSequenceModel"
MODELS = (CausalSequenceModel,)
TEXTS = ("perceiver-ar-causal-language-model", "PerceiverCausalLanguageModel")
MUSIC = ("perceiver-ar-symbolic-audio-model", "PerceiverSymbolicAudioModel")
HUB_CLASSES = (TEXTS, MUSIC)
NOTES = (
    "their self-attention does not mask padding: where padding reaches into the latents, tokens "
    "there see later ones; keep it within the prefix",
)
OURS_BY_THEIRS = {
    "post_attention_dropout": "dropout",
    "activation_checkpointing": "remat",
    **{
        name: name
        for name in (
            "num_heads",
            "num_self_attention_layers",
            "num_self_attention_rotary_layers",
            "self_attention_widening_factor",
            "cross_attention_widening_factor",
            "cross_attention_dropout",
            "residual_dropout",
            "vocab_size",
            "max_seq_len",
            "max_latents",
            "num_channels",
            "output_norm",
            "output_bias",
            "abs_pos_emb",
            "init_scale",
        )
    },
}
OF_MEMORY = ("max_heads_parallel", "activation_offloading")
"""Fields that say how memory is saved, not what is computed."""
FIELDS = frozenset((*OURS_BY_THEIRS, *OF_MEMORY))
ONLY = {
    "activation": "gelu",
    "layer_norm_epsilon": 1e-5,
    "qkv_bias": False,
    "mlp_bias": False,
    "out_bias": True,
    "self_attention_out_bias": False,
    "num_input_channels": None,
    "num_latents_per_position": 1,
    "initial_queries": "inputs",
    "num_cross_attention_heads": None,
    "num_cross_attention_qk_channels": None,
    "num_self_attention_qk_channels": None,
    "num_cross_attention_layers": 1,
    "cross_attention_after_layers": (),
    "cross_attention_keys": "latents",
    "cross_attention_residual": True,
    "position_origin": "first",
    "position_shape": None,
    "train_positions": True,
    "tied_logits": True,
    "rotary_heads_fraction": 1.0,
    "rotary_pairs": "interleaved",
    "rotary_frequencies": "geometric",
    "rotary_max_wavelength": 10_000.0,
    "query_position_offset": 0,
    "encoder_dropout": 0.0,
    "latent_dropout": 0.0,
}
BUFFER_TOLERANCE = 1e-6
"""The reference computes its frequencies in float32; the largest of them is 1."""


def config(hyperparameters: Mapping[str, Any]) -> CausalSequenceConfig:
    """Our config from the reference's, as a dict of its dataclass.

    Raises:
        ConfigError: a setting that the reference's model does not have, or that ours refuses.
    """
    fields: dict[str, Any] = {"masked_rows": "uniform"}
    for name, value in hyperparameters.items():
        if name not in FIELDS:
            raise ConfigError(f"config has no field '{name}'{suggestion(name, FIELDS)}")
        if name in OURS_BY_THEIRS:
            fields[OURS_BY_THEIRS[name]] = value
    return from_dict(CausalSequenceConfig, fields)


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """The reference's config, as a dict of its dataclass.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    ours = _checked(config)
    values = {theirs: getattr(ours, name) for theirs, name in OURS_BY_THEIRS.items()}
    return values | {
        "activation_checkpointing": ours.remat != "none",
        "init_scale": 0.02 if ours.init_scale is None else ours.init_scale,
    }


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is no causal sequence model.
    """
    ours = _checked(config)
    only = {name: (getattr(ours, name), value) for name, value in ONLY.items()}
    only |= common_requirements(ours)
    turned = ours.num_turned(ours.num_channels // ours.num_heads, embedded=ours.abs_pos_emb)
    return only | {"turned channels of a head (rotary_fraction)": (turned, _rotary_channels(ours))}


def rows(config: AnyModelConfig) -> list[Row]:
    """The state dict of `CausalLanguageModel` and `SymbolicAudioModel`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    ours = _checked(config)
    result = [
        row("input_adapter/token_embedding", "input_adapter.txt_embedding.weight"),
        frequency_buffer(ours, "input_adapter.frq_pos_encoding.inv_freq"),
        *layers.cross_layer("cross_attention/0", "cross_attention", residual=True, bias=False),
    ]
    if ours.abs_pos_emb:
        result.append(
            row("input_adapter/position_embedding/0", "input_adapter.pos_embedding.weight")
        )
    for i in range(ours.num_self_attention_layers):
        name = f"self_attention.{i}"
        result += layers.self_layer(f"block/layer/{i}", name, bias=False, out_bias=False)
    if ours.output_norm:
        result += norm("output_norm", "out_norm")
    if ours.output_bias:
        result.append(row("output_adapter/bias", "output_adapter.bias"))
    return table(result)


def frequency_buffer(config: CausalSequenceConfig, theirs: str) -> Row:
    """The frequencies of rotary positions, which the state dict holds."""

    def frequencies(ours: Arrays) -> np.ndarray:
        dtype = ours["input_adapter/token_embedding"].dtype
        return rotary_frequencies(_rotary_channels(config)).astype(dtype)

    return ignore(
        theirs, "frequencies of rotary positions", frequencies, tolerance=BUFFER_TOLERANCE
    )


def _rotary_channels(config: CausalSequenceConfig) -> int:
    """Channels of a head that the reference turns by position."""
    channels = config.num_channels // config.num_heads
    return channels // 2 if config.abs_pos_emb else channels


def _checked(config: AnyModelConfig) -> CausalSequenceConfig:
    if not isinstance(config, CausalSequenceConfig):
        raise ConfigError(f"{WHOSE} takes a CausalSequenceConfig, not {with_article(type(config))}")
    return config
