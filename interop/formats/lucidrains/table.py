"""lucidrains/perceiver-pytorch 0.11 (PyTorch): `Perceiver` and `PerceiverIO`.

- Names are those of state dicts since 0.11; `files` renames older ones.
- One fused matrix makes keys (first half) and values; the first half of a GEGLU is the value.
- Tied layers are stored once per layer under names of their own: `tied`.
- Dropout rates act in training alone and are no requirement; `PerceiverIO` has none of them.
- `Perceiver` takes arrays, so images come back as arrays of two axes and any size; `PerceiverIO`
  takes sequences, so the axes of a grid are for the caller to flatten.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.lucidrains.arguments import (
    PerceiverArguments,
    PerceiverIOArguments,
    as_settings,
    parse,
)
from interop.formats.lucidrains.expressible import (
    WHOSE,
    WIDENING,
    all_tied,
    grid_of,
    qk_channels,
    requirements,
)
from interop.formats.lucidrains.files import read, write
from interop.formats.lucidrains.layers import (
    cross_layer,
    layers_of_perceiver,
    layers_of_perceiver_io,
    linear,
    norm,
)
from interop.formats.settings import check_settings
from interop.rows import Row, row, table
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

__all__ = ["WHOSE", "config", "read", "requirements", "rows", "settings", "write"]

LAYERS: dict[str, Any] = {
    "activation": "geglu",
    "qkv_bias": False,
    "cross_attention_widening_factor": WIDENING,
    "masked_rows": "uniform",
    "init_method": "uniform",
}
"""What all layers have in common."""


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from constructor arguments.

    Args:
        settings: the arguments; under "class" "Perceiver" or "PerceiverIO", which can be left out
            where the arguments tell.

    Raises:
        ConfigError: an argument that is unknown, missing or not supported.
    """
    arguments = parse(settings)
    common: dict[str, Any] = {
        **LAYERS,
        "self_attention_widening_factor": WIDENING,
        "num_cross_attention_heads": arguments.cross_heads,
        "num_cross_attention_qk_channels": arguments.cross_heads * arguments.cross_dim_head,
        "num_self_attention_heads": arguments.latent_heads,
        "num_self_attention_qk_channels": arguments.latent_heads * arguments.latent_dim_head,
    }
    halves = (
        _perceiver(arguments, common)
        if isinstance(arguments, PerceiverArguments)
        else _perceiver_io(arguments, common)
    )
    return PerceiverConfig(
        encoder=halves[0],
        decoder=halves[1],
        num_latents=arguments.num_latents,
        num_latent_channels=arguments.latent_dim,
    )


def _perceiver(
    arguments: PerceiverArguments, common: Mapping[str, Any]
) -> tuple[ArrayEncoderConfig, MeanPoolDecoderConfig]:
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
        **common,
    )
    decoder = MeanPoolDecoderConfig(
        num_classes=arguments.num_classes, norm=True, init_method="uniform"
    )
    return encoder, decoder


def _perceiver_io(
    arguments: PerceiverIOArguments, common: Mapping[str, Any]
) -> tuple[ArrayEncoderConfig, QueryDecoderConfig]:
    # Layers that are not tied make one deep block, which is scanned.
    tied = arguments.weight_tie_layers
    encoder = ArrayEncoderConfig(
        num_input_channels=arguments.dim,
        inverted_cross_attention=(0,) if arguments.inverted_cross_attn else (),
        num_self_attention_layers_per_block=1 if tied else arguments.depth,
        num_self_attention_blocks=arguments.depth if tied else 1,
        input_dropout=arguments.seq_dropout_prob,
        **common,
    )
    decoder = QueryDecoderConfig(
        num_output_query_channels=arguments.queries_dim,
        num_outputs=arguments.logits_dim,
        num_cross_attention_heads=encoder.num_cross_attention_heads,
        num_cross_attention_qk_channels=encoder.num_cross_attention_qk_channels,
        cross_attention_residual=False,
        cross_attention_mlp=arguments.decoder_ff,
        **LAYERS,
    )
    return encoder, decoder


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """Constructor arguments, the class under "class".

    Raises:
        ValueError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = config.encoder, config.decoder
    cross_channels, self_channels = qk_channels(config)
    common: dict[str, Any] = {
        "num_latents": config.num_latents,
        "latent_dim": config.num_latent_channels,
        "cross_heads": encoder.num_cross_attention_heads,
        "cross_dim_head": cross_channels // encoder.num_cross_attention_heads,
        "latent_heads": encoder.num_self_attention_heads,
        "latent_dim_head": self_channels // encoder.num_self_attention_heads,
    }
    if isinstance(decoder, MeanPoolDecoderConfig):
        return as_settings(_perceiver_arguments(encoder, decoder, common))
    encoder = check_half(encoder, ArrayEncoderConfig, WHOSE)
    decoder = check_half(decoder, QueryDecoderConfig, WHOSE)
    blocks = encoder.num_self_attention_blocks
    return as_settings(
        PerceiverIOArguments(
            depth=blocks * encoder.num_self_attention_layers_per_block,
            dim=encoder.num_input_channels,
            queries_dim=decoder.num_output_query_channels,
            logits_dim=decoder.num_outputs,
            weight_tie_layers=all_tied(encoder),
            decoder_ff=decoder.cross_attention_mlp,
            seq_dropout_prob=encoder.input_dropout,
            inverted_cross_attn=bool(encoder.inverted_cross_attention),
            **common,
        )
    )


def _perceiver_arguments(
    encoder: ArrayEncoderConfig | ImageEncoderConfig,
    decoder: MeanPoolDecoderConfig,
    common: Mapping[str, Any],
) -> PerceiverArguments:
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
        **common,
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `Perceiver` or `PerceiverIO`.

    Raises:
        ValueError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    decoder = config.decoder
    result = [row("encoder/latents", "latents")]
    if isinstance(decoder, QueryDecoderConfig):
        result += layers_of_perceiver_io(config.encoder)
        mlp = ["decoder_ff"] if decoder.cross_attention_mlp else []
        result += cross_layer("decoder/cross_attention", ["decoder_cross_attn"], mlp)
        if decoder.num_outputs is not None:
            result += linear("decoder/output_adapter/linear", ["to_logits"])
    else:
        result += layers_of_perceiver(config.encoder)
        result += [*norm("head/norm", ["to_logits.1"]), *linear("head/linear", ["to_logits.2"])]
    return table(result)
