"""The reference's `TextClassifier`: one or several learned class queries."""

from collections.abc import Mapping
from typing import Any

from interop.formats.krasserm import halves, layers
from interop.formats.settings import check_settings
from interop.rows import Row, table
from perceiver_jax.config import from_dict
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextClassifier,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "krasserm's TextClassifier"
HUB_CLASSES = (("perceiver-io-text-classifier", "PerceiverTextClassifier"),)
MODELS = (TextClassifier,)
ENCODER_FIELDS = halves.TEXT_ENCODER_FIELDS
DECODER_FIELDS = halves.CLASSIFICATION_DECODER_FIELDS
FIELDS = halves.paths(ENCODER_FIELDS, DECODER_FIELDS)


def config(hyperparameters: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's text classifier does not have.
    """
    given = halves.parse(hyperparameters, "a text classifier", ENCODER_FIELDS, DECODER_FIELDS)
    encoder = halves.TEXT_ENCODER_DEFAULTS | given.encoder
    return PerceiverConfig(
        encoder=from_dict(TextEncoderConfig, encoder, "config.encoder"),
        decoder=from_dict(ClassificationDecoderConfig, given.decoder, "config.decoder"),
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
        UserError: the model is no text classifier.
    """
    encoder, decoder = _checked(config)
    return {
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        **halves.requirements(encoder, decoder),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `TextClassifier`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _checked(config)
    return table(
        [
            *layers.encoder_rows(encoder),
            *layers.embedding_rows(),
            *layers.decoder_rows(decoder),
            *layers.prediction_rows(),
        ]
    )


def _checked(
    config: PerceiverConfig,
) -> tuple[TextEncoderConfig, ClassificationDecoderConfig]:
    encoder = check_half(config.encoder, TextEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, ClassificationDecoderConfig, WHOSE)
