"""The reference's `MaskedLanguageModel`: one learned query per position.

- Without output query channels of its own, the embedding of the inputs makes the logits (tied).
- Padding is asked for like any other position.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.krasserm import halves, layers
from interop.formats.settings import check_settings
from interop.rows import Row, row, table
from perceiver_jax.config import from_dict
from perceiver_jax.models import (
    MaskedLanguageModel,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "krasserm's MaskedLanguageModel"
HUB_CLASSES = (("perceiver-io-masked-language-model", "PerceiverMaskedLanguageModel"),)
MODELS = (MaskedLanguageModel,)
ENCODER_FIELDS = halves.TEXT_ENCODER_FIELDS
DECODER_FIELDS = (
    *halves.DECODER_FIELDS,
    "num_output_query_channels",
    "vocab_size",
    "max_seq_len",
)
DECODER_DEFAULTS = {"vocab_size": 10003, "max_seq_len": 512}
FIELDS = halves.paths(ENCODER_FIELDS, DECODER_FIELDS)


def config(hyperparameters: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's masked language model does not have.
    """
    what = "a masked language model"
    given = halves.parse(hyperparameters, what, ENCODER_FIELDS, DECODER_FIELDS)
    encoder = halves.TEXT_ENCODER_DEFAULTS | given.encoder
    decoder = DECODER_DEFAULTS | given.decoder | {"mask_queries": False}
    return PerceiverConfig(
        encoder=from_dict(TextEncoderConfig, encoder, "config.encoder"),
        decoder=from_dict(TextDecoderConfig, decoder, "config.decoder"),
        **given.latents,
    )


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The reference's config, as a nested dict of its dataclasses.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    _checked(config)
    return halves.settings(config, ENCODER_FIELDS, DECODER_FIELDS)


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the model is no masked language model.
    """
    encoder, decoder = _checked(config)
    return {
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        **halves.requirements(encoder, decoder),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `MaskedLanguageModel`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _checked(config)
    bias = row("decoder/output_adapter/bias", "1.output_adapter.bias")
    return table(
        [
            *layers.encoder_rows(encoder),
            *layers.embedding_rows(),
            *layers.decoder_rows(decoder),
            *([bias] if decoder.tied else layers.prediction_rows()),
        ]
    )


def _checked(config: PerceiverConfig) -> tuple[TextEncoderConfig, TextDecoderConfig]:
    encoder = check_half(config.encoder, TextEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, TextDecoderConfig, WHOSE)
