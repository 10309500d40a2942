"""lucidrains' `Perceiver`: repeated cross-attention to an array on a grid, latents averaged.

- Tied layers are stored once per layer under names of their own: `tied`.
- It takes arrays, so images come back as arrays of two axes and any size.
"""

import dataclasses
from typing import Any

from interop.formats.lucidrains.arguments import PerceiverArguments
from interop.formats.lucidrains.halves import (
    WHOSE,
    Requirements,
    common_arguments,
    encoder_fields,
    encoder_requirements,
    latent_fields,
)
from interop.formats.lucidrains.layers import layers_of_perceiver, linear, norm
from interop.rows import Row, row
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ArrayPerceiver,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    PooledImageClassifier,
)
from perceiver_jax.models.perceiver_config import check_half

ARGUMENTS = PerceiverArguments
MODELS = (ArrayPerceiver, PooledImageClassifier)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The inputs of an encoder: channels of an element, axes, highest frequency on each axis."""

    num_channels: int
    num_axes: int
    max_frequencies: tuple[float, ...]


def config(arguments: PerceiverArguments) -> PerceiverConfig:
    """Our config from constructor arguments."""
    positions: dict[str, Any] = {}
    if arguments.fourier_encode_data:
        positions = {
            "num_frequency_bands": arguments.num_freq_bands,
            "max_frequency": arguments.max_freq,
            "position_channel_order": "lucidrains",
        }
    encoder = ArrayEncoderConfig(
        num_input_channels=arguments.input_channels,
        num_axes=arguments.input_axis,
        **positions,
        num_cross_attention_layers=arguments.depth,
        inverted_cross_attention=arguments.inverted_layers,
        num_self_attention_layers_per_block=arguments.self_per_cross_attn,
        num_self_attention_blocks=arguments.depth,
        first_self_attention_block_shared=False,
        repeated_layers_shared=arguments.weight_tie_layers,
        dropout=arguments.attn_dropout,
        mlp_residual_dropout=arguments.ff_dropout,
        **encoder_fields(arguments),
    )
    decoder = MeanPoolDecoderConfig(
        num_classes=arguments.num_classes, norm=True, init_method="uniform"
    )
    return PerceiverConfig(encoder=encoder, decoder=decoder, **latent_fields(arguments))


def arguments(config: PerceiverConfig) -> PerceiverArguments:
    """The inverse of `config`.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    grid = grid_of(encoder)
    depth = encoder.num_self_attention_blocks
    inverted: bool | tuple[bool, ...] = tuple(
        i in encoder.inverted_cross_attention for i in range(depth)
    )
    if len(set(inverted)) == 1:
        inverted = inverted[0]
    dropout = encoder.mlp_residual_dropout
    return PerceiverArguments(
        num_freq_bands=encoder.num_frequency_bands,
        depth=depth,
        # Has to be given even where it is not used.
        max_freq=grid.max_frequencies[0] if encoder.num_frequency_bands else 1.0,
        input_channels=grid.num_channels,
        input_axis=grid.num_axes,
        num_classes=decoder.num_classes,
        attn_dropout=encoder.dropout,
        ff_dropout=encoder.residual_dropout if dropout is None else dropout,
        weight_tie_layers=encoder.repeated_layers_shared,
        fourier_encode_data=encoder.num_frequency_bands > 0,
        self_per_cross_attn=encoder.num_self_attention_layers_per_block,
        inverted_cross_attn=inverted,
        **common_arguments(config),
    )


def requirements(config: PerceiverConfig) -> Requirements:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: its highest frequencies depend on the inputs.
    """
    encoder, decoder = _halves(config)
    depth, grid = encoder.num_self_attention_blocks, grid_of(encoder)
    result: Requirements = {
        **encoder_requirements(config),
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


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    return [
        row("encoder/latents", "latents"),
        *layers_of_perceiver(config.encoder),
        *norm("head/norm", ["to_logits.1"]),
        *linear("head/linear", ["to_logits.2"]),
    ]


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


def _halves(
    config: PerceiverConfig,
) -> tuple[ArrayEncoderConfig | ImageEncoderConfig, MeanPoolDecoderConfig]:
    encoder = config.encoder
    if not isinstance(encoder, ImageEncoderConfig):
        encoder = check_half(encoder, ArrayEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, MeanPoolDecoderConfig, WHOSE)
