"""Arguments of DeepMind's `PerceiverEncoder`, which all models have in common.

- One cross-attention, then one block of self-attentions again and again.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import nearest_channels
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig


def fields(
    left: dict[str, Any], num_latent_channels: int, num_input_channels: int | None = None
) -> dict[str, Any]:
    """Fields of an `EncoderConfig` from arguments of `PerceiverEncoder`.

    Args:
        left: the arguments, without the latents' size; emptied.
        num_latent_channels: latent channels.
        num_input_channels: channels of a token, where our config does not take them by itself for
            queries and keys.
    """
    qk_channels, v_channels = left.pop("qk_channels", None), left.pop("v_channels", None)
    shape_for = left.pop("cross_attention_shape_for_attn", "kv")
    cross_qk_channels = num_latent_channels if shape_for == "q" else num_input_channels
    fields = {
        "num_cross_attention_heads": left.pop("num_cross_attend_heads", 1),
        "num_cross_attention_qk_channels": qk_channels or cross_qk_channels,
        "num_cross_attention_v_channels": v_channels,
        "cross_attention_widening_factor": left.pop("cross_attend_widening_factor", 1),
        "cross_attention_residual": left.pop("use_query_residual", True),
        "num_self_attention_heads": left.pop("num_self_attend_heads", 8),
        "num_self_attention_qk_channels": qk_channels,
        "num_self_attention_v_channels": v_channels,
        "num_self_attention_layers_per_block": left.pop("num_self_attends_per_block", 6),
        "num_self_attention_blocks": left.pop("num_blocks", 8),
        "self_attention_widening_factor": left.pop("self_attend_widening_factor", 1),
        "residual_dropout": left.pop("dropout_prob", 0.0),
        "latent_init_scale": left.pop("z_pos_enc_init_scale", 0.02),
    }
    refuse("encoder", left)
    return fields


def arguments(config: PerceiverConfig, num_input_channels: int) -> dict[str, Any]:
    """Arguments of `PerceiverEncoder`; the inverse of `fields`.

    Args:
        config: ours.
        num_input_channels: channels of a token, position included.
    """
    encoder, channels = config.encoder, nearest_channels(config, num_input_channels)
    return {
        "z_index_dim": config.num_latents,
        "num_z_channels": config.num_latent_channels,
        "num_cross_attend_heads": encoder.num_cross_attention_heads,
        "cross_attend_widening_factor": encoder.cross_attention_widening_factor,
        "use_query_residual": encoder.cross_attention_residual,
        "num_self_attend_heads": encoder.num_self_attention_heads,
        "num_self_attends_per_block": encoder.num_self_attention_layers_per_block,
        "num_blocks": encoder.num_self_attention_blocks,
        "self_attend_widening_factor": encoder.self_attention_widening_factor,
        "dropout_prob": encoder.residual_dropout,
        "z_pos_enc_init_scale": encoder.latent_init_scale or 0.02,
        "qk_channels": channels.qk_channels,
        "v_channels": channels.v_channels,
        "cross_attention_shape_for_attn": channels.shape_for,
    }


def requirements(config: PerceiverConfig, num_input_channels: int) -> dict[str, tuple[Any, Any]]:
    """Settings of encoders that cannot be chosen, as (value, the one it has to be)."""
    encoder, num_blocks = config.encoder, config.encoder.num_self_attention_blocks
    return {
        "encoder.schedule": (encoder.schedule, ((0, 0), *[(None, 0)] * (num_blocks - 1))),
        "encoder.inverted_cross_attention": (encoder.inverted_cross_attention, ()),
        **nearest_channels(config, num_input_channels).pairs,
    }


def refuse(part: str, left: Mapping[str, Any]) -> None:
    """Raises for arguments that nobody took: they might change the computation."""
    if left:
        raise UserError(
            f"{part} arguments {dict(left)} have no counterpart in this translation; build the "
            "config by hand if they do not change the computation"
        )
