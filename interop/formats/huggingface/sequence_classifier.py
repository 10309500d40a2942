"""Their text classifier."""

from collections.abc import Mapping
from typing import Any

from interop.formats.huggingface import class_decoder, text_encoder
from interop.formats.huggingface.config_json import (
    architecture,
    complete_settings,
    layer_requirements,
)
from interop.formats.settings import check_settings
from interop.rows import Row, table
from perceiver_jax.config import KIND, from_dict
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextClassifier,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's text classifier"
MODELS = (TextClassifier,)
CLASSES = ("PerceiverForSequenceClassification",)


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    architecture(settings, CLASSES)
    complete = complete_settings(settings)
    tree = {
        "encoder": text_encoder.fields(complete),
        "decoder": {
            KIND: ClassificationDecoderConfig.__name__,
            **class_decoder.fields(complete),
        },
        "num_latents": complete["num_latents"],
        "num_latent_channels": complete["d_latents"],
    }
    return from_dict(PerceiverConfig, tree, "config.json as our config")


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """A `config.json` that describes the model, without names of its classes.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _halves(config)
    return {
        "architectures": list(CLASSES),
        "model_type": "perceiver",
        **text_encoder.settings(config, encoder),
        "num_labels": decoder.num_classes,
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their class does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: it is another kind of model.
    """
    encoder, decoder = _halves(config)
    return {
        **text_encoder.requirements(config, encoder),
        **class_decoder.requirements(decoder, config.num_latent_channels),
        **layer_requirements(encoder, decoder),
    }


def _halves(config: PerceiverConfig) -> tuple[TextEncoderConfig, ClassificationDecoderConfig]:
    return (
        check_half(config.encoder, TextEncoderConfig, WHOSE),
        check_half(config.decoder, ClassificationDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `PerceiverForSequenceClassification`.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, _ = _halves(config)
    return table([*text_encoder.rows(encoder), *class_decoder.rows()])
