"""Their three image classifiers.

- Which of the three follows from how images become tokens: `CLASSES`.
- They take images of any size where positions are Fourier features; `config.json` does not say
  which, so ours adds `image_shape` where it is not 224×224.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.huggingface import class_decoder
from interop.formats.huggingface.config_json import (
    architecture,
    complete_settings,
    encoder_fields,
    encoder_requirements,
    encoder_settings,
    layer_requirements,
)
from interop.formats.huggingface.layers import conv_stem, encoder_rows, pointwise
from interop.formats.settings import check_settings
from interop.formats.torch_layers import linear
from interop.rows import Row, row, table
from perceiver_jax.config import KIND, ConfigError, from_dict
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageClassifier,
    ImageEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's image classifier"
MODELS = (ImageClassifier,)
CLASSES = {
    "PerceiverForImageClassificationLearned": "conv1x1",
    "PerceiverForImageClassificationFourier": "pixels",
    "PerceiverForImageClassificationConvProcessing": "conv",
}
"""Their classes and our `preprocessing`."""
NUM_FREQUENCY_BANDS = 64
MAX_RESOLUTION = {"pixels": (224.0, 224.0), "conv": (56.0, 56.0)}
DEFAULT_IMAGE_SHAPE = (224, 224, 3)


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    complete = complete_settings(settings)
    image_fields = _image_fields(CLASSES[architecture(settings, CLASSES)], complete)
    tree = {
        "encoder": {
            KIND: ImageEncoderConfig.__name__,
            **encoder_fields(complete),
            **image_fields,
        },
        "decoder": {
            KIND: ClassificationDecoderConfig.__name__,
            **class_decoder.fields(complete),
        },
        "num_latents": complete["num_latents"],
        "num_latent_channels": complete["d_latents"],
    }
    return from_dict(PerceiverConfig, tree, "config.json as our config")


def _image_fields(preprocessing: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the three classes do to images, mostly without asking."""
    if preprocessing == "conv1x1":
        size = settings["image_size"]
        if not isinstance(size, int):
            raise ConfigError(
                f"config.json: image_size={size!r}; {WHOSE} with learned positions takes squares, "
                "and the size as one number"
            )
        return {
            "preprocessing": "conv1x1",
            "image_shape": (size, size, 3),
            "num_preprocessing_channels": 256,
            "num_position_channels": 256,
            "num_projected_position_channels": 256,
        }
    stem = {"num_preprocessing_channels": 64, "conv_padding": "symmetric"}
    return {
        "preprocessing": preprocessing,
        "image_shape": settings.get("image_shape", DEFAULT_IMAGE_SHAPE),
        "num_frequency_bands": NUM_FREQUENCY_BANDS,
        "max_resolution": MAX_RESOLUTION[preprocessing],
        **(stem if preprocessing == "conv" else {}),
    }


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """A `config.json` that describes the model, without names of its classes.

    Raises:
        ValueError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _halves(config)
    (name,) = (name for name, kind in CLASSES.items() if kind == encoder.preprocessing)
    result = {
        "architectures": [name],
        "model_type": "perceiver",
        **encoder_settings(config, num_input_channels(encoder)),
        "num_labels": decoder.num_classes,
    }
    if encoder.preprocessing == "conv1x1":
        result["image_size"] = encoder.image_shape[0]
    elif encoder.image_shape != DEFAULT_IMAGE_SHAPE:
        result["image_shape"] = list(encoder.image_shape)
    return result


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that Hugging Face's classes do not let choose, as (value, the one it has to be).

    Raises:
        ValueError: the model is no image classifier of Perceiver IO.
    """
    encoder, decoder = _halves(config)
    return {
        **_image_requirements(encoder),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        **encoder_requirements(config, num_input_channels(encoder)),
        **class_decoder.requirements(decoder, config.num_latent_channels),
        **layer_requirements(encoder, decoder),
    }


def _halves(config: PerceiverConfig) -> tuple[ImageEncoderConfig, ClassificationDecoderConfig]:
    return (
        check_half(config.encoder, ImageEncoderConfig, WHOSE),
        check_half(config.decoder, ClassificationDecoderConfig, WHOSE),
    )


def _image_requirements(encoder: ImageEncoderConfig) -> dict[str, tuple[Any, Any]]:
    height, width, _ = encoder.image_shape
    kind = encoder.preprocessing if encoder.preprocessing in CLASSES.values() else "pixels"
    result: dict[str, tuple[Any, Any]] = {
        "encoder.preprocessing": (encoder.preprocessing, kind),
        "encoder.image_shape": (
            encoder.image_shape,
            (height, height if kind == "conv1x1" else width, 3),
        ),
    }
    num_channels = {
        "num_preprocessing_channels": encoder.num_preprocessing_channels,
        "num_position_channels": encoder.num_position_channels,
        "num_projected_position_channels": encoder.num_projected_position_channels
        or encoder.num_position_channels,
    }
    if kind == "conv1x1":
        return result | {
            f"encoder.{name}": (256 if value is None else value, 256)
            for name, value in num_channels.items()
        }
    if kind == "conv":
        stem_channels = encoder.num_preprocessing_channels or 64
        result["encoder.num_preprocessing_channels"] = (stem_channels, 64)
        result["encoder.conv_padding"] = (encoder.conv_padding, "symmetric")
    # Frequencies up to those of the grid itself are these only for pixels: 224 become 55 cells.
    resolution = encoder.max_resolution
    if kind == "pixels" and resolution is None:
        resolution = (float(height), float(width))
    return result | {
        "encoder.num_frequency_bands": (encoder.num_frequency_bands, NUM_FREQUENCY_BANDS),
        "encoder.max_resolution": (resolution, MAX_RESOLUTION[kind]),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of one of the three classes.

    Raises:
        ValueError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return state_dict_rows(config)


def state_dict_rows(config: PerceiverConfig) -> list[Row]:
    """The rows of any model made of their modules, also in sizes that the classes do not have."""
    encoder, _ = _halves(config)
    return table(
        [
            *_input_adapter(encoder, "encoder/input_adapter", "perceiver.input_preprocessor"),
            *encoder_rows(config.encoder.num_self_attention_layers_per_block),
            *class_decoder.rows(),
        ]
    )


def _input_adapter(encoder: ImageEncoderConfig, ours: str, theirs: str) -> list[Row]:
    """A `PerceiverImagePreprocessor`."""
    if encoder.preprocessing == "pixels":
        return []
    if encoder.preprocessing == "conv":
        return conv_stem(f"{ours}/stem", f"{theirs}.convnet")
    return [
        *pointwise(f"{ours}/projection", f"{theirs}.convnet_1x1"),
        row(f"{ours}/positions", f"{theirs}.position_embeddings.position_embeddings"),
        *linear(f"{ours}/position_projection", f"{theirs}.positions_projection"),
    ]
