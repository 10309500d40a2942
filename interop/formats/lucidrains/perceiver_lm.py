"""lucidrains' `PerceiverLM`: a `PerceiverIO` of embedded tokens, which are its queries, too.

- Padding is asked for like any other position.
"""

from interop.formats.lucidrains.arguments import PerceiverLMArguments
from interop.formats.lucidrains.halves import WHOSE, Requirements, latent_fields
from interop.formats.lucidrains.layers import below_prefix, linear
from interop.formats.lucidrains.perceiver_io import (
    sequence_arguments,
    sequence_decoder_fields,
    sequence_encoder_fields,
    sequence_requirements,
    sequence_rows,
)
from interop.rows import Row, row
from perceiver_jax.models import (
    MaskedLanguageModel,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

ARGUMENTS = PerceiverLMArguments
MODELS = (MaskedLanguageModel,)


def config(arguments: PerceiverLMArguments) -> PerceiverConfig:
    """Our config from constructor arguments."""
    vocabulary = {"vocab_size": arguments.num_tokens, "max_seq_len": arguments.max_seq_len}
    encoder = TextEncoderConfig(
        num_input_channels=arguments.dim, **vocabulary, **sequence_encoder_fields(arguments)
    )
    decoder = TextDecoderConfig(
        num_output_query_channels=arguments.dim,
        output_queries="inputs",
        mask_queries=False,
        **vocabulary,
        **sequence_decoder_fields(arguments),
    )
    return PerceiverConfig(encoder=encoder, decoder=decoder, **latent_fields(arguments))


def arguments(config: PerceiverConfig) -> PerceiverLMArguments:
    """The inverse of `config`.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    return PerceiverLMArguments(
        dim=encoder.num_input_channels,
        num_tokens=encoder.vocab_size,
        max_seq_len=encoder.max_seq_len,
        **sequence_arguments(config, decoder),
    )


def requirements(config: PerceiverConfig) -> Requirements:
    """Settings that the reference does not let choose, as (value, the one it has to be)."""
    encoder, decoder = _halves(config)
    channels = decoder.num_output_query_channels
    return {
        **sequence_requirements(config, decoder, channels or encoder.num_input_channels),
        "decoder.output_queries": (decoder.output_queries, "inputs"),
        # Tied output layers are not known there.
        "decoder.num_output_query_channels": (channels, encoder.num_input_channels),
        "decoder.max_seq_len": (decoder.max_seq_len, encoder.max_seq_len),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    wrapped = [
        *sequence_rows(encoder, decoder),
        *linear("decoder/output_adapter/linear", ["to_logits"]),
    ]
    return [
        row("encoder/input_adapter/token_embedding", "token_emb.weight"),
        row("encoder/input_adapter/position_embedding", "pos_emb.weight"),
        *below_prefix("perceiver_io.", wrapped),
    ]


def _halves(config: PerceiverConfig) -> tuple[TextEncoderConfig, TextDecoderConfig]:
    encoder = check_half(config.encoder, TextEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, TextDecoderConfig, WHOSE)
