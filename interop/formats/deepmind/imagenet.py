"""DeepMind's three ImageNet models.

- Arguments stand by module: `input_preprocessor`, `encoder`, `decoder`.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.deepmind import encoders
from interop.formats.deepmind.encoders import refuse
from interop.formats.deepmind.fourier import fourier_arguments, fourier_fields
from interop.formats.deepmind.layers import conv_stem, cross_layer, encoder_rows, linear
from interop.formats.settings import check_settings, classifier_halves, layer_settings
from interop.ops import RESHAPE
from interop.rows import Row, row, table
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageClassifier,
    ImageEncoderConfig,
    PerceiverConfig,
)

WHOSE = "DeepMind's ImageNet model"
MODELS = (ImageClassifier,)
TASK = "image_classification"
DECODER = "params/classification_decoder/~/basic_decoder"


def config(meta: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the arguments of DeepMind's modules.

    Args:
        meta: `image_size`, `num_classes`, and by module `input_preprocessor`, `encoder` and
            `decoder`: the keyword arguments of `ImagePreprocessor`, `PerceiverEncoder` and
            `ClassificationDecoder`. What is left out has DeepMind's default.

    Raises:
        UserError: an argument that is unknown, or has a value that cannot be expressed.
    """
    left = dict(meta)
    check_settings("perceiver_jax.models.ImageClassifier", {"task": (left.pop("task", TASK), TASK)})
    image_shape = (*left.pop("image_size"), 3)
    num_classes = left.pop("num_classes")
    preprocessor, encoder, decoder = (
        dict(left.pop(name)) for name in ("input_preprocessor", "encoder", "decoder")
    )
    refuse("model", left)
    num_latents = encoder.pop("z_index_dim", 512)
    num_latent_channels = encoder.pop("num_z_channels", 1024)
    common = {"activation": "gelu_tanh", "init_method": "variance_scaling"}
    return PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=image_shape,
            **common,
            **_preprocessor_fields(preprocessor),
            **encoders.fields(encoder, num_latent_channels),
        ),
        decoder=ClassificationDecoderConfig(
            num_classes=num_classes, **common, **_decoder_fields(decoder, num_latent_channels)
        ),
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
    )


def _preprocessor_fields(left: dict[str, Any]) -> dict[str, Any]:
    """Fields of an `ImageEncoderConfig` from arguments of `ImagePreprocessor`."""
    kind = left.pop("prep_type", "conv")
    if kind not in ("pixels", "conv", "conv1x1"):
        raise UserError(
            f"prep_type={kind!r} is not that of an ImageNet model; it takes 'pixels', "
            "'conv' or 'conv1x1'"
        )
    # A property of videos.
    left.pop("temporal_downsample", None)
    num_channels = left.pop("num_channels", 64)
    encoding = left.pop("position_encoding_type", "fourier")
    expected = {
        "position_encoding_type": (encoding, "trainable" if kind == "conv1x1" else "fourier"),
        "spatial_downsample": (left.pop("spatial_downsample", 4), 4 if kind == "conv" else 1),
        "concat_or_add_pos": (left.pop("concat_or_add_pos", "concat"), "concat"),
        "n_extra_pos_mlp": (left.pop("n_extra_pos_mlp", 0), 0),
        "conv2d_use_batchnorm": (left.pop("conv2d_use_batchnorm", True), True),
    }
    check_settings("perceiver_jax.models.ImageEncoderConfig", expected)
    positions = _learned_positions(left) if kind == "conv1x1" else fourier_fields(left)
    refuse("input_preprocessor", left)
    return {
        "preprocessing": kind,
        "num_preprocessing_channels": None if kind == "pixels" else num_channels,
        **positions,
    }


def _learned_positions(left: dict[str, Any]) -> dict[str, Any]:
    table = dict(left.pop("trainable_position_encoding_kwargs"))
    table.pop("init_scale", None)
    fields = {
        "num_position_channels": table.pop("num_channels"),
        "num_projected_position_channels": left.pop("project_pos_dim"),
    }
    refuse("trainable_position_encoding_kwargs", table)
    return fields


def _decoder_fields(left: dict[str, Any], num_latent_channels: int) -> dict[str, Any]:
    """Fields of a `ClassificationDecoderConfig` from arguments of `ClassificationDecoder`."""
    left.pop("num_z_channels", None)
    kind = left.pop("position_encoding_type", "trainable")
    check_settings("perceiver_jax.models.ImageClassifier", {"decoder queries": (kind, "trainable")})
    queries = dict(left.pop("trainable_position_encoding_kwargs"))
    queries.pop("init_scale", None)
    fields = {
        "num_output_query_channels": queries.pop("num_channels"),
        "num_cross_attention_heads": left.pop("num_heads", 1),
        # DeepMind's default are the channels of what is attended to, ours those of the queries.
        "num_cross_attention_qk_channels": left.pop("qk_channels", None) or num_latent_channels,
        "num_cross_attention_v_channels": left.pop("v_channels", None),
        "cross_attention_residual": left.pop("use_query_residual", False),
    }
    refuse("decoder queries", queries)
    refuse("decoder", left)
    return fields


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's modules compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `requirements`.
    """
    encoder, decoder = classifier_halves(config, WHOSE)
    return {
        "image_size": list(encoder.image_shape[:2]),
        "num_classes": decoder.num_classes,
        "input_preprocessor": _preprocessor_arguments(encoder),
        "encoder": encoders.arguments(config, num_input_channels(encoder)),
        "decoder": {
            "num_z_channels": config.num_latent_channels,
            "trainable_position_encoding_kwargs": {
                "num_channels": decoder.num_output_query_channels
            },
            "num_heads": decoder.num_cross_attention_heads,
            "qk_channels": decoder.num_cross_attention_qk_channels
            or decoder.num_output_query_channels,
            "v_channels": decoder.num_cross_attention_v_channels,
            "use_query_residual": decoder.cross_attention_residual,
        },
    }


def _preprocessor_arguments(encoder: ImageEncoderConfig) -> dict[str, Any]:
    """Arguments of `ImagePreprocessor`."""
    kind = encoder.preprocessing
    arguments: dict[str, Any] = {
        "prep_type": kind,
        "spatial_downsample": 4 if kind == "conv" else 1,
    }
    if kind != "pixels":
        usual = 64 if kind == "conv" else 256
        arguments["num_channels"] = encoder.num_preprocessing_channels or usual
    if kind == "conv1x1":
        num_channels = encoder.num_position_channels or 256
        return arguments | {
            "position_encoding_type": "trainable",
            "trainable_position_encoding_kwargs": {"num_channels": num_channels},
            "project_pos_dim": encoder.num_projected_position_channels or num_channels,
        }
    return arguments | {"fourier_position_encoding_kwargs": fourier_arguments(encoder)}


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the model is no image classifier of Perceiver IO.
    """
    encoder, decoder = classifier_halves(config, WHOSE)
    bands = encoder.num_frequency_bands
    preprocessing = "pixels" if encoder.preprocessing == "patches" else encoder.preprocessing
    return {
        "encoder.preprocessing": (encoder.preprocessing, preprocessing),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "encoder.conv_padding": (encoder.conv_padding, "same"),
        "encoder.image_shape": (encoder.image_shape, (*encoder.image_shape[:2], 3)),
        # None there would be bare coordinates.
        "encoder.num_frequency_bands": (bands, max(bands, 1)),
        **encoders.requirements(config, num_input_channels(encoder)),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.num_output_queries": (decoder.num_output_queries, 1),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        **layer_settings(encoder, decoder, activation="gelu_tanh"),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """Parameters and state of an ImageNet model.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, _ = classifier_halves(config, WHOSE)
    return table(
        [
            *_input_adapter(encoder, "encoder/input_adapter", "params/image_preprocessor"),
            *encoder_rows(encoder.num_self_attention_layers_per_block),
            *cross_layer("decoder/cross_attention", f"{DECODER}/cross_attention"),
            *linear("decoder/output_adapter/linear", f"{DECODER}/output"),
            row(
                "decoder/output_adapter/queries",
                f"{DECODER}/~/trainable_position_encoding/pos_embs",
            ),
        ]
    )


def _input_adapter(config: ImageEncoderConfig, ours: str, theirs: str) -> list[Row]:
    """An `ImagePreprocessor`."""
    if config.preprocessing == "pixels":
        return []
    if config.preprocessing == "conv":
        return conv_stem(
            f"{ours}/stem",
            f"{theirs}/~/conv2_d_downsample",
            num_layers=1,
            num_channels=config.num_preprocessing_channels or 64,
        )
    kernel = (config.image_shape[-1], config.num_preprocessing_channels or 256)
    built = f"{theirs}/~_build_network_inputs"
    return [
        row(f"{ours}/projection/kernel", f"{theirs}/~/conv2_d/w", RESHAPE((1, 1, *kernel), kernel)),
        row(f"{ours}/projection/bias", f"{theirs}/~/conv2_d/b"),
        row(f"{ours}/positions", f"{built}/trainable_position_encoding/pos_embs"),
        *linear(f"{ours}/position_projection", f"{built}/position_encoding_projector/linear"),
    ]
