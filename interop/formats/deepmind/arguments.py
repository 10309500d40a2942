"""DeepMind's constructor arguments to our config and back, for the three ImageNet models.

- Arguments stand by module: `input_preprocessor`, `encoder`, `decoder`.
- Whether a checkpoint's model has these arguments is not in its file; `PUBLISHED` knows them for
  the released ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

from interop.formats.channels import Channels, nearest_channels, num_input_channels
from interop.formats.settings import check_settings, classifier_halves
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    PerceiverConfig,
    imagenet_conv,
    imagenet_fourier,
    imagenet_learned,
)

WHOSE = "DeepMind's ImageNet model"
PUBLISHED: dict[str, Callable[[], PerceiverConfig]] = {
    "imagenet_fourier_position_encoding": imagenet_fourier,
    "imagenet_learned_position_encoding": imagenet_learned,
    "imagenet_conv_preprocessing": imagenet_conv,
}
"""Released models by the names of their files."""


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
    task = left.pop("task", "image_classification")
    check_settings("perceiver_jax.models.ImageClassifier", {"task": (task, "image_classification")})
    image_shape = (*left.pop("image_size"), 3)
    num_classes = left.pop("num_classes")
    preprocessor, encoder, decoder = (
        dict(left.pop(name)) for name in ("input_preprocessor", "encoder", "decoder")
    )
    _refuse("model", left)
    num_latents = encoder.pop("z_index_dim", 512)
    num_latent_channels = encoder.pop("num_z_channels", 1024)
    common = {"activation": "gelu_tanh", "init_method": "variance_scaling"}
    return PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=image_shape,
            **common,
            **_preprocessor_fields(preprocessor),
            **_encoder_fields(encoder, num_latent_channels),
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
    positions = _learned_positions(left) if kind == "conv1x1" else _fourier_positions(left)
    _refuse("input_preprocessor", left)
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
    _refuse("trainable_position_encoding_kwargs", table)
    return fields


def _fourier_positions(left: dict[str, Any]) -> dict[str, Any]:
    features = dict(left.pop("fourier_position_encoding_kwargs"))
    if not features.get("num_bands"):
        raise UserError(
            "num_bands=0 gives bare coordinates, which this library does not know; its "
            "num_frequency_bands=0 leaves positions out"
        )
    resolution = features.pop("max_resolution", None)
    fields = {
        "num_frequency_bands": features.pop("num_bands"),
        "max_resolution": None if resolution is None else tuple(map(float, resolution)),
    }
    expected = {
        "concat_pos": (features.pop("concat_pos", True), True),
        "sine_only": (features.pop("sine_only", False), False),
        "project_pos_dim": (left.pop("project_pos_dim", -1), -1),
    }
    check_settings("perceiver_jax.models.ImageEncoderConfig", expected)
    _refuse("fourier_position_encoding_kwargs", features)
    return fields


def _encoder_fields(left: dict[str, Any], num_latent_channels: int) -> dict[str, Any]:
    """Fields of an `EncoderConfig` from arguments of `PerceiverEncoder`."""
    qk_channels, v_channels = left.pop("qk_channels", None), left.pop("v_channels", None)
    shape_for = left.pop("cross_attention_shape_for_attn", "kv")
    cross_qk_channels = num_latent_channels if shape_for == "q" else None
    fields = {
        "num_cross_attention_heads": left.pop("num_cross_attend_heads", 1),
        "num_cross_attention_qk_channels": qk_channels or cross_qk_channels,
        "num_cross_attention_v_channels": v_channels,
        "cross_attention_widening_factor": left.pop("cross_attend_widening_factor", 1),
        "cross_attention_residual": left.pop("use_query_residual", True),
        "num_self_attention_heads": left.pop("num_self_attend_heads", 8),
        "num_self_attention_qk_channels": qk_channels,
        "num_self_attention_v_channels": v_channels,
        "num_self_attention_layers_per_block": left.pop("num_self_attends_per_block", 6),
        "num_self_attention_blocks": left.pop("num_blocks", 8),
        "self_attention_widening_factor": left.pop("self_attend_widening_factor", 1),
        "residual_dropout": left.pop("dropout_prob", 0.0),
        "latent_init_scale": left.pop("z_pos_enc_init_scale", 0.02),
    }
    _refuse("encoder", left)
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
    _refuse("decoder queries", queries)
    _refuse("decoder", left)
    return fields


def _refuse(part: str, left: Mapping[str, Any]) -> None:
    """Raises for arguments that nobody took: they might change the computation."""
    if left:
        raise UserError(
            f"{part} arguments {dict(left)} have no counterpart in this translation; build the "
            "config by hand if they do not change the computation"
        )


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's modules compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `deepmind.requirements`.
    """
    encoder, decoder = classifier_halves(config, WHOSE)
    return {
        "image_size": list(encoder.image_shape[:2]),
        "num_classes": decoder.num_classes,
        "input_preprocessor": _preprocessor_arguments(encoder),
        "encoder": {
            "z_index_dim": config.num_latents,
            "num_z_channels": config.num_latent_channels,
            **_encoder_arguments(encoder, nearest_channels(config, num_input_channels(encoder))),
        },
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
    resolution = encoder.max_resolution
    return arguments | {
        "fourier_position_encoding_kwargs": {
            "num_bands": encoder.num_frequency_bands,
            "max_resolution": None if resolution is None else list(resolution),
        }
    }


def _encoder_arguments(encoder: ImageEncoderConfig, channels: Channels) -> dict[str, Any]:
    """Arguments of `PerceiverEncoder`."""
    return {
        "num_cross_attend_heads": encoder.num_cross_attention_heads,
        "cross_attend_widening_factor": encoder.cross_attention_widening_factor,
        "use_query_residual": encoder.cross_attention_residual,
        "num_self_attend_heads": encoder.num_self_attention_heads,
        "num_self_attends_per_block": encoder.num_self_attention_layers_per_block,
        "num_blocks": encoder.num_self_attention_blocks,
        "self_attend_widening_factor": encoder.self_attention_widening_factor,
        "dropout_prob": encoder.residual_dropout,
        "z_pos_enc_init_scale": encoder.latent_init_scale or 0.02,
        "qk_channels": channels.qk_channels,
        "v_channels": channels.v_channels,
        "cross_attention_shape_for_attn": channels.shape_for,
    }
