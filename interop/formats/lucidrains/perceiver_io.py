"""lucidrains' `PerceiverIO`: one cross-attention to a sequence, queries given at the call.

- It takes sequences, so the axes of a grid are for the caller to flatten.
- It has no dropout but that of inputs, and its decoder never adds the queries.
"""

from typing import Any

from interop.formats.lucidrains.arguments import PerceiverIOArguments, PerceiverLMArguments
from interop.formats.lucidrains.halves import (
    LAYERS,
    WHOSE,
    Requirements,
    attention_requirements,
    common_arguments,
    encoder_fields,
    encoder_requirements,
    latent_fields,
    mlp_requirements,
    qk_channels,
)
from interop.formats.lucidrains.layers import cross_layer, layers_of_perceiver_io, linear
from interop.rows import Row, row
from perceiver_jax.core import DecoderConfig, EncoderConfig
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ArrayPerceiverIO,
    PerceiverConfig,
    QueryDecoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

ARGUMENTS = PerceiverIOArguments
MODELS = (ArrayPerceiverIO,)


def config(arguments: PerceiverIOArguments) -> PerceiverConfig:
    """Our config from constructor arguments."""
    encoder = ArrayEncoderConfig(
        num_input_channels=arguments.dim, **sequence_encoder_fields(arguments)
    )
    decoder = QueryDecoderConfig(
        num_output_query_channels=arguments.queries_dim,
        num_outputs=arguments.logits_dim,
        **sequence_decoder_fields(arguments),
    )
    return PerceiverConfig(encoder=encoder, decoder=decoder, **latent_fields(arguments))


def sequence_encoder_fields(
    arguments: PerceiverIOArguments | PerceiverLMArguments,
) -> dict[str, Any]:
    """Fields of the encoder, but for its inputs."""
    # Layers that are not tied make one deep block, which is scanned.
    tied = arguments.weight_tie_layers
    return {
        "inverted_cross_attention": (0,) if arguments.inverted_cross_attn else (),
        "num_self_attention_layers_per_block": 1 if tied else arguments.depth,
        "num_self_attention_blocks": arguments.depth if tied else 1,
        "input_dropout": arguments.seq_dropout_prob,
        **encoder_fields(arguments),
    }


def sequence_decoder_fields(
    arguments: PerceiverIOArguments | PerceiverLMArguments,
) -> dict[str, Any]:
    """Fields of the decoder, but for its queries and outputs."""
    return {
        "num_cross_attention_heads": arguments.cross_heads,
        "num_cross_attention_qk_channels": arguments.cross_heads * arguments.cross_dim_head,
        "cross_attention_residual": False,
        "cross_attention_mlp": arguments.decoder_ff,
        **LAYERS,
    }


def arguments(config: PerceiverConfig) -> PerceiverIOArguments:
    """The inverse of `config`.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    return PerceiverIOArguments(
        dim=encoder.num_input_channels,
        queries_dim=decoder.num_output_query_channels,
        logits_dim=decoder.num_outputs,
        **sequence_arguments(config, decoder),
    )


def sequence_arguments(config: PerceiverConfig, decoder: DecoderConfig) -> dict[str, Any]:
    """Arguments but for channels of inputs, queries and outputs."""
    encoder = config.encoder
    blocks = encoder.num_self_attention_blocks
    return {
        "depth": blocks * encoder.num_self_attention_layers_per_block,
        "weight_tie_layers": all_tied(encoder),
        "decoder_ff": decoder.cross_attention_mlp,
        "seq_dropout_prob": encoder.input_dropout,
        "inverted_cross_attn": bool(encoder.inverted_cross_attention),
        **common_arguments(config),
    }


def requirements(config: PerceiverConfig) -> Requirements:
    """Settings that the reference does not let choose, as (value, the one it has to be)."""
    encoder, decoder = _halves(config)
    return {
        **sequence_requirements(config, decoder, decoder.num_output_query_channels),
        "encoder.num_frequency_bands": (encoder.num_frequency_bands, 0),
    }


def sequence_requirements(
    config: PerceiverConfig, decoder: DecoderConfig, num_query_channels: int
) -> Requirements:
    """All but what concerns inputs, queries and outputs."""
    encoder = config.encoder
    cross_channels, _ = qk_channels(config)
    decoder_channels = decoder.num_cross_attention_qk_channels or num_query_channels
    result: Requirements = {
        **encoder_requirements(config),
        "encoder.num_cross_attention_layers": (encoder.num_cross_attention_layers, 1),
        **attention_requirements("decoder", decoder),
        "decoder.cross_attention_residual": (decoder.cross_attention_residual, False),
        "decoder.num_cross_attention_heads": (
            decoder.num_cross_attention_heads,
            encoder.num_cross_attention_heads,
        ),
        "decoder.num_cross_attention_qk_channels": (decoder_channels, cross_channels),
        "decoder.num_cross_attention_v_channels": (
            decoder.num_cross_attention_v_channels or decoder_channels,
            cross_channels,
        ),
    }
    if not all_tied(encoder):
        crosses = [cross for cross, _ in encoder.schedule]
        untied = tuple((cross, i) for i, cross in enumerate(crosses))
        result["encoder.schedule"] = (encoder.schedule, untied)
    if decoder.cross_attention_mlp:
        result |= mlp_requirements("decoder", decoder)
    return result


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    _, decoder = _halves(config)
    predictions = linear("decoder/output_adapter/linear", ["to_logits"])
    return [
        *sequence_rows(config.encoder, decoder),
        *([] if decoder.num_outputs is None else predictions),
    ]


def sequence_rows(encoder: EncoderConfig, decoder: DecoderConfig) -> list[Row]:
    """All but the layer that makes outputs."""
    mlp = ["decoder_ff"] if decoder.cross_attention_mlp else []
    return [
        row("encoder/latents", "latents"),
        *layers_of_perceiver_io(encoder),
        *cross_layer("decoder/cross_attention", ["decoder_cross_attn"], mlp),
    ]


def all_tied(encoder: EncoderConfig) -> bool:
    """Whether several self-attention layers follow each other that all have the same weights."""
    blocks = [block for _, block in encoder.schedule]
    alone = encoder.num_self_attention_layers_per_block == 1
    return len(blocks) > 1 and len(set(blocks)) == 1 and alone


def _halves(config: PerceiverConfig) -> tuple[ArrayEncoderConfig, QueryDecoderConfig]:
    encoder = check_half(config.encoder, ArrayEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, QueryDecoderConfig, WHOSE)
