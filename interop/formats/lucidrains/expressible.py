"""What lucidrains' classes need of a config: the settings that they do not let choose."""

import dataclasses
from typing import Any

from perceiver_jax.core import DecoderConfig, EncoderConfig
from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)

WHOSE = "lucidrains' perceiver-pytorch"
WIDENING = 4
"""Hidden over outer channels of all MLPs."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The inputs of an encoder: channels of an element, axes, highest frequency on each axis."""

    num_channels: int
    num_axes: int
    max_frequencies: tuple[float, ...]


def grid_of(encoder: ArrayEncoderConfig | ImageEncoderConfig) -> Grid:
    """The inputs of an encoder.

    Raises:
        UserError: its highest frequencies depend on the inputs.
    """
    if isinstance(encoder, ArrayEncoderConfig):
        if encoder.num_frequency_bands and encoder.max_frequency is None:
            raise UserError(
                f"{WHOSE} cannot express this model: encoder.max_frequency=None takes the size of "
                "each axis, a Perceiver there has one max_freq; give a number"
            )
        frequencies = (encoder.max_frequency or 1.0,) * encoder.num_axes
        return Grid(encoder.num_input_channels, encoder.num_axes, frequencies)
    *size, num_channels = encoder.image_shape
    frequencies = tuple(map(float, encoder.max_resolution or size))
    return Grid(num_channels, len(size), frequencies)


def qk_channels(config: PerceiverConfig) -> tuple[int, int]:
    """Query and key channels of cross- and self-attentions."""
    encoder = config.encoder
    default = config.num_latent_channels
    if isinstance(encoder, ImageEncoderConfig):
        bands, grid = encoder.num_frequency_bands, grid_of(encoder)
        positions = num_fourier_channels(grid.num_axes, bands) if bands else 0
        default = grid.num_channels + positions
    return (
        encoder.num_cross_attention_qk_channels or default,
        encoder.num_self_attention_qk_channels or config.num_latent_channels,
    )


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        ValueError: the model is neither a `Perceiver` nor a `PerceiverIO`.
    """
    encoder, decoder = config.encoder, config.decoder
    cross_channels, self_channels = qk_channels(config)
    result = {
        **_layers("encoder", encoder),
        "encoder.mlp_bias": (encoder.mlp_bias, True),
        "encoder.activation": (encoder.activation, "geglu"),
        "encoder.cross_attention_widening_factor": (
            encoder.cross_attention_widening_factor,
            WIDENING,
        ),
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
    if isinstance(decoder, MeanPoolDecoderConfig):
        return result | _requirements_of_perceiver(encoder, decoder)
    if isinstance(decoder, QueryDecoderConfig) and isinstance(encoder, ArrayEncoderConfig):
        return result | _requirements_of_perceiver_io(encoder, decoder, cross_channels)
    raise UserError(
        f"{WHOSE} takes a MeanPoolDecoderConfig (Perceiver), or an ArrayEncoderConfig with a "
        f"QueryDecoderConfig (PerceiverIO), not {type(encoder).__name__} with "
        f"{type(decoder).__name__}"
    )


def _layers(name: str, half: EncoderConfig | DecoderConfig) -> dict[str, tuple[Any, Any]]:
    return {
        f"{name}.layer_norm_epsilon": (half.layer_norm_epsilon, 1e-5),
        f"{name}.qkv_bias": (half.qkv_bias, False),
        f"{name}.out_bias": (half.out_bias, True),
    }


def _requirements_of_perceiver(
    encoder: ArrayEncoderConfig | ImageEncoderConfig, decoder: MeanPoolDecoderConfig
) -> dict[str, tuple[Any, Any]]:
    depth, grid = encoder.num_self_attention_blocks, grid_of(encoder)
    result: dict[str, tuple[Any, Any]] = {
        "encoder.num_cross_attention_layers": (encoder.num_cross_attention_layers, depth),
        "decoder.norm": (decoder.norm, True),
        "decoder.layer_norm_epsilon": (decoder.layer_norm_epsilon, 1e-5),
    }
    if depth > 1:
        # Tied or not, the first layer stands alone.
        for field in ("first_cross_attention_layer_shared", "first_self_attention_block_shared"):
            result[f"encoder.{field}"] = (getattr(encoder, field), False)
    if isinstance(encoder, ImageEncoderConfig):
        result["encoder.preprocessing"] = (encoder.preprocessing, "pixels")
        if encoder.num_frequency_bands:
            one = grid.max_frequencies[:1] * grid.num_axes
            result["encoder.max_resolution"] = (grid.max_frequencies, one)
    if encoder.num_frequency_bands:
        order = encoder.position_channel_order
        result["encoder.position_channel_order"] = (order, "lucidrains")
    return result


def _requirements_of_perceiver_io(
    encoder: ArrayEncoderConfig, decoder: QueryDecoderConfig, cross_channels: int
) -> dict[str, tuple[Any, Any]]:
    heads = encoder.num_cross_attention_heads
    qk_channels = decoder.num_cross_attention_qk_channels or decoder.num_output_query_channels
    result: dict[str, tuple[Any, Any]] = {
        "encoder.num_frequency_bands": (encoder.num_frequency_bands, 0),
        "encoder.num_cross_attention_layers": (encoder.num_cross_attention_layers, 1),
        **_layers("decoder", decoder),
        "decoder.cross_attention_residual": (decoder.cross_attention_residual, False),
        "decoder.num_cross_attention_heads": (decoder.num_cross_attention_heads, heads),
        "decoder.num_cross_attention_qk_channels": (qk_channels, cross_channels),
        "decoder.num_cross_attention_v_channels": (
            decoder.num_cross_attention_v_channels or qk_channels,
            cross_channels,
        ),
    }
    if not all_tied(encoder):
        crosses = [cross for cross, _ in encoder.schedule]
        untied = tuple((cross, i) for i, cross in enumerate(crosses))
        result["encoder.schedule"] = (encoder.schedule, untied)
    if decoder.cross_attention_mlp:
        result |= {
            "decoder.mlp_bias": (decoder.mlp_bias, True),
            "decoder.activation": (decoder.activation, "geglu"),
            "decoder.cross_attention_widening_factor": (
                decoder.cross_attention_widening_factor,
                WIDENING,
            ),
        }
    return result


def all_tied(encoder: EncoderConfig) -> bool:
    """Whether several self-attention layers follow each other that all have the same weights."""
    blocks = [block for _, block in encoder.schedule]
    alone = encoder.num_self_attention_layers_per_block == 1
    return len(blocks) > 1 and len(set(blocks)) == 1 and alone
