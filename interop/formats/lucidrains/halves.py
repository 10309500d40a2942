"""What encoders and decoders of all classes that have such have in common.

- Exact GELU gates the MLPs, projections to queries, keys and values have no bias, and attention is
  uniform where everything is masked.
- One size of heads serves the cross-attentions, the decoder's included, and one the others.
- Dropout rates act in training alone and are no requirement.
"""

from typing import Any

from interop.formats.lucidrains.arguments import HalvesArguments
from interop.formats.settings import common_requirements
from perceiver_jax.core import DecoderConfig, EncoderConfig
from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.models import ImageEncoderConfig, PerceiverConfig

WHOSE = "lucidrains' perceiver-pytorch"
WIDENING = 4
"""Hidden over outer channels of all MLPs."""
LAYERS: dict[str, Any] = {
    "activation": "geglu",
    "qkv_bias": False,
    "cross_attention_widening_factor": WIDENING,
    "masked_rows": "uniform",
    "init_method": "uniform",
}
"""What all layers have in common."""
Requirements = dict[str, tuple[Any, Any]]


def encoder_fields(arguments: HalvesArguments) -> dict[str, Any]:
    """Fields of our encoder that follow from arguments which all classes have."""
    return {
        **LAYERS,
        "self_attention_widening_factor": WIDENING,
        "num_cross_attention_heads": arguments.cross_heads,
        "num_cross_attention_qk_channels": arguments.cross_heads * arguments.cross_dim_head,
        "num_self_attention_heads": arguments.latent_heads,
        "num_self_attention_qk_channels": arguments.latent_heads * arguments.latent_dim_head,
    }


def latent_fields(arguments: HalvesArguments) -> dict[str, Any]:
    """Fields of our model that are of neither half."""
    return {"num_latents": arguments.num_latents, "num_latent_channels": arguments.latent_dim}


def common_arguments(config: PerceiverConfig) -> dict[str, Any]:
    """The arguments that all classes have: latents and heads."""
    encoder = config.encoder
    cross_channels, self_channels = qk_channels(config)
    return {
        "num_latents": config.num_latents,
        "latent_dim": config.num_latent_channels,
        "cross_heads": encoder.num_cross_attention_heads,
        "cross_dim_head": cross_channels // encoder.num_cross_attention_heads,
        "latent_heads": encoder.num_self_attention_heads,
        "latent_dim_head": self_channels // encoder.num_self_attention_heads,
    }


def qk_channels(config: PerceiverConfig) -> tuple[int, int]:
    """Query and key channels of cross- and self-attentions."""
    encoder = config.encoder
    default = config.num_latent_channels
    if isinstance(encoder, ImageEncoderConfig):
        *size, num_channels = encoder.image_shape
        bands = encoder.num_frequency_bands
        default = num_channels + (num_fourier_channels(len(size), bands) if bands else 0)
    return (
        encoder.num_cross_attention_qk_channels or default,
        encoder.num_self_attention_qk_channels or config.num_latent_channels,
    )


def encoder_requirements(config: PerceiverConfig) -> Requirements:
    """What no class lets choose of its encoder, as (value, the one it has to be)."""
    encoder = config.encoder
    cross_channels, self_channels = qk_channels(config)
    return {
        **attention_requirements("encoder", encoder),
        **mlp_requirements("encoder", encoder),
        "encoder.self_attention_widening_factor": (
            encoder.self_attention_widening_factor,
            WIDENING,
        ),
        "encoder.cross_attention_residual": (encoder.cross_attention_residual, True),
        "encoder.num_cross_attention_v_channels": (
            encoder.num_cross_attention_v_channels or cross_channels,
            cross_channels,
        ),
        "encoder.num_self_attention_v_channels": (
            encoder.num_self_attention_v_channels or self_channels,
            self_channels,
        ),
    }


def attention_requirements(name: str, half: EncoderConfig | DecoderConfig) -> Requirements:
    """What all attentions of a half have in common."""
    return {
        **common_requirements(half, f"{name}."),
        f"{name}.layer_norm_epsilon": (half.layer_norm_epsilon, 1e-5),
        f"{name}.qkv_bias": (half.qkv_bias, False),
        f"{name}.out_bias": (half.out_bias, True),
    }


def mlp_requirements(name: str, half: EncoderConfig | DecoderConfig) -> Requirements:
    """What all MLPs of a half have in common."""
    return {
        f"{name}.mlp_bias": (half.mlp_bias, True),
        f"{name}.activation": (half.activation, "geglu"),
        f"{name}.cross_attention_widening_factor": (
            half.cross_attention_widening_factor,
            WIDENING,
        ),
    }
