"""The reference's `ImageClassifier`: Fourier features of an image grid, one class query."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats.krasserm import halves, layers
from interop.formats.settings import check_settings
from interop.rows import Arrays, Row, ignore, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.core.position import fourier_features, linear_positions
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageClassifier,
    ImageEncoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "krasserm's ImageClassifier"
HUB_CLASSES = (("perceiver-io-image-classifier", "PerceiverImageClassifier"),)
MODELS = (ImageClassifier,)
ENCODER_FIELDS = (*halves.ENCODER_FIELDS, "image_shape", "num_frequency_bands")
DECODER_FIELDS = halves.CLASSIFICATION_DECODER_FIELDS
BUFFER = "0.input_adapter.position_encoding.position_encoding"
BUFFER_TOLERANCE = 2e-4
"""The reference computes its Fourier features in float32: sines of angles up to 780 rad."""
FIELDS = halves.paths(ENCODER_FIELDS, DECODER_FIELDS)


def config(hyperparameters: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's image classifier does not have.
    """
    given = halves.parse(hyperparameters, "an image classifier", ENCODER_FIELDS, DECODER_FIELDS)
    check_frequencies(given.encoder)
    # The reference's image classifier has one query, whatever this setting says.
    decoder = given.decoder | {"num_output_queries": 1}
    return PerceiverConfig(
        encoder=from_dict(ImageEncoderConfig, given.encoder, "config.encoder"),
        decoder=from_dict(ClassificationDecoderConfig, decoder, "config.decoder"),
        **given.latents,
    )


def check_frequencies(encoder: Mapping[str, Any]) -> None:
    """Raises a ConfigError for positions that this library does not have."""
    if encoder.get("num_frequency_bands") == 0:
        raise ConfigError(
            "num_frequency_bands=0 gives bare coordinates there, which this library does not know; "
            "its own num_frequency_bands=0 leaves positions out"
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
        UserError: the model is no image classifier of Perceiver IO.
    """
    encoder, decoder = _checked(config)
    grid = tuple(map(float, encoder.image_shape[:-1]))
    bands = encoder.num_frequency_bands
    return {
        # None there would be bare coordinates.
        "encoder.num_frequency_bands": (bands, max(bands, 1)),
        "encoder.preprocessing": (encoder.preprocessing, "pixels"),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "encoder.max_resolution": (encoder.max_resolution or grid, grid),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_queries": (decoder.num_output_queries, 1),
        **halves.requirements(encoder, decoder),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `ImageClassifier`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _checked(config)
    return table(
        [
            *layers.encoder_rows(encoder),
            fourier_buffer(encoder, BUFFER),
            *layers.decoder_rows(decoder),
            *layers.prediction_rows(),
        ]
    )


def fourier_buffer(encoder: ImageEncoderConfig | OpticalFlowEncoderConfig, theirs: str) -> Row:
    """The table of position features, which the state dict holds."""

    def features(ours: Arrays) -> np.ndarray:
        grid = encoder.image_shape[:2]
        axes = np.meshgrid(*[linear_positions(size) for size in grid], indexing="ij")
        positions = np.stack([axis.ravel() for axis in axes], axis=-1)
        table = fourier_features(
            positions, num_bands=encoder.num_frequency_bands, max_resolution=grid
        )
        return table.astype(ours["encoder/latents"].dtype)

    return ignore(
        theirs, "Fourier features of the image grid", features, tolerance=BUFFER_TOLERANCE
    )


def _checked(config: PerceiverConfig) -> tuple[ImageEncoderConfig, ClassificationDecoderConfig]:
    encoder = check_half(config.encoder, ImageEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, ClassificationDecoderConfig, WHOSE)
