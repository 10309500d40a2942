"""Hugging Face transformers (PyTorch): its three Perceiver image classifiers.

- Which of the three follows from how images become tokens: `CLASSES`.
- Much stands in their code and not in `config.json`: `requirements` lists it.
- They take images of any size where positions are Fourier features; `config.json` does not say
  which, so ours adds `image_shape` where it is not 224×224. Their code ignores it.
- `hidden_act` is exact GELU unless said; attention is uniform where everything is masked.
- Rates of dropout and recipes of initial values travel, but do not speak against an export.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.files import FileError
from interop.foreign import Foreign
from interop.formats import hub_folder
from interop.formats.channels import nearest_channels, num_input_channels
from interop.formats.huggingface.config_json import (
    ACTIVATIONS,
    complete_settings,
    encoder_fields,
    encoder_settings,
    layer_fields,
)
from interop.formats.huggingface.layers import conv_stem, cross_layer, pointwise, self_layer
from interop.formats.settings import check_settings, layer_settings
from interop.formats.torch_layers import linear
from interop.rows import Row, row, table
from perceiver_jax.config import KIND, ConfigError, from_dict
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's image classifier"
CLASSES = {
    "PerceiverForImageClassificationLearned": "conv1x1",
    "PerceiverForImageClassificationFourier": "pixels",
    "PerceiverForImageClassificationConvProcessing": "conv",
}
"""Their classes and our `preprocessing`."""
NUM_FREQUENCY_BANDS = 64
MAX_RESOLUTION = {"pixels": (224.0, 224.0), "conv": (56.0, 56.0)}
DEFAULT_IMAGE_SHAPE = (224, 224, 3)
OURS = ("image_shape", *hub_folder.PROVENANCE)


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: it is not that of an image classifier, has a setting that is unknown, or one
            that cannot be expressed.
    """
    preprocessing = CLASSES[_architecture(settings)]
    complete = complete_settings(settings, OURS)
    channels = complete["d_latents"]
    encoder = encoder_fields(complete) | _image_fields(preprocessing, complete)
    decoder = layer_fields(complete) | {
        "num_classes": complete["num_labels"],
        "num_output_query_channels": channels,
        "num_cross_attention_heads": 1,
    }
    tree = {
        "encoder": {KIND: ImageEncoderConfig.__name__, **encoder},
        "decoder": {KIND: ClassificationDecoderConfig.__name__, **decoder},
        "num_latents": complete["num_latents"],
        "num_latent_channels": channels,
    }
    return from_dict(PerceiverConfig, tree, "config.json as our config")


def _architecture(settings: Mapping[str, Any]) -> str:
    """Name of the class that a `config.json` is of."""
    architectures = settings.get("architectures")
    given = architectures if isinstance(architectures, list | tuple) else ()
    found = [name for name in CLASSES if name in given]
    if len(found) != 1:
        raise ConfigError(
            f"config.json has architectures={architectures!r}; it takes one of {', '.join(CLASSES)}"
        )
    return found[0]


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
    (architecture,) = (name for name, kind in CLASSES.items() if kind == encoder.preprocessing)
    result = {
        "architectures": [architecture],
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
    channels, num_blocks = config.num_latent_channels, encoder.num_self_attention_blocks
    activation = encoder.activation if encoder.activation in ACTIVATIONS.values() else "gelu"
    same_channels = decoder.num_cross_attention_qk_channels or decoder.num_output_query_channels
    return {
        **_image_requirements(encoder),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "encoder.num_cross_attention_layers": (encoder.num_cross_attention_layers, 1),
        "encoder.first_self_attention_block_shared": (
            encoder.first_self_attention_block_shared or num_blocks == 1,
            True,
        ),
        "encoder.repeated_layers_shared": (
            encoder.repeated_layers_shared or num_blocks <= 2,
            True,
        ),
        "encoder.inverted_cross_attention": (encoder.inverted_cross_attention, ()),
        **{
            f"encoder.num_{name}": (
                heads := getattr(encoder, f"num_{name}"),
                heads if channels % heads == 0 else 1,
            )
            for name in ("cross_attention_heads", "self_attention_heads")
        },
        **nearest_channels(config, num_input_channels(encoder)).pairs,
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_queries": (decoder.num_output_queries, 1),
        "decoder.num_output_query_channels": (decoder.num_output_query_channels, channels),
        "decoder.num_cross_attention_heads": (decoder.num_cross_attention_heads, 1),
        "decoder.num_cross_attention_qk_channels": (same_channels, channels),
        "decoder.num_cross_attention_v_channels": (
            decoder.num_cross_attention_v_channels or same_channels,
            channels,
        ),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        "decoder.cross_attention_residual": (decoder.cross_attention_residual, True),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_settings(encoder, decoder, activation=activation),
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
    decoder = "perceiver.decoder.decoder"
    result = _input_adapter(encoder, "encoder/input_adapter", "perceiver.input_preprocessor")
    result += [row("encoder/latents", "perceiver.embeddings.latents")]
    result += cross_layer("encoder/cross_attention/0", "perceiver.encoder.cross_attention")
    for i in range(encoder.num_self_attention_layers_per_block):
        result += self_layer(f"encoder/block/0/layer/{i}", f"perceiver.encoder.self_attends.{i}")
    result += cross_layer("decoder/cross_attention", f"{decoder}.decoding_cross_attention")
    result += [
        row(
            "decoder/output_adapter/queries",
            f"{decoder}.output_position_encodings.position_embeddings",
        ),
        *linear("decoder/output_adapter/linear", f"{decoder}.final_layer"),
    ]
    return table(result)


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


def read(source: Path) -> Foreign:
    """A folder as `save_pretrained` writes it.

    Raises:
        FileError: something is missing or damaged.
    """
    contents = hub_folder.read(source)
    return Foreign(
        arrays=contents.arrays,
        settings=contents.config,
        labels=hub_folder.labels(contents.config),
        preprocessing=contents.preprocessing,
        **hub_folder.provenance(contents.config),
    )


def write(destination: Path, foreign: Foreign) -> None:
    """A folder that `from_pretrained` loads.

    Pictures are resized there with Pillow, whatever resampling the preprocessing has here.

    Raises:
        FileError: there are no settings, labels for another number of classes, or the path is
            that of a file.
    """
    if foreign.settings is None:
        raise FileError(f"{destination} takes a config.json; give the model's settings")
    settings = dict(foreign.settings)
    num_labels = complete_settings(settings, OURS)["num_labels"]
    settings.pop("num_labels", None)
    labels = foreign.labels or tuple(f"LABEL_{i}" for i in range(num_labels))
    if len(labels) != num_labels:
        raise FileError(
            f"{len(labels)} labels for {num_labels} classes; give one for each, or none"
        )
    hub_folder.write(
        destination,
        hub_folder.HubFolder(
            config=settings | hub_folder.label_settings(labels) | hub_folder.provenance(foreign),
            arrays=foreign.arrays,
            preprocessing=foreign.preprocessing,
        ),
    )
