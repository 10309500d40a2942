"""DeepMind's Perceiver IO (Haiku): the three ImageNet models.

- Foreign names are `params/<module path>/<name>` and `state/<module path>/<name>`.
- Haiku numbers modules of one class in order of creation (`linear`, `linear_1`, ...): `nth`.
- `~` stands for the constructor that made a module, `~method` for another method.
- Kernels are [in, out] and [height, width, in, out] on both sides: nothing is transposed.
- The block of self-attentions is applied again and again under one set of names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from interop.formats.settings import check_settings, layer_settings
from interop.ops import RESHAPE
from interop.rows import Arrays, Row, ignore, row, table
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "DeepMind's ImageNet model"
BATCH_NORM_DECAY = 0.9
ENCODER = "params/perceiver_encoder/~"
DECODER = "params/classification_decoder/~/basic_decoder"


def config(meta: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the arguments of DeepMind's modules.

    Args:
        meta: `image_size`, `num_classes`, and by module `input_preprocessor`, `encoder` and
            `decoder`: the keyword arguments of `ImagePreprocessor`, `PerceiverEncoder` and
            `ClassificationDecoder`. What is left out has DeepMind's default.

    Raises:
        ValueError: an argument that is unknown, or has a value that cannot be expressed.
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
        raise ValueError(
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
        raise ValueError(
            f"{part} arguments {dict(left)} have no counterpart in this translation; build the "
            "config by hand if they do not change the computation"
        )


def rows(config: PerceiverConfig) -> list[Row]:
    """Parameters and state of an ImageNet model.

    Raises:
        ValueError: DeepMind's code has no such model.
    """
    encoder = config.encoder
    decoder = check_half(config.decoder, ClassificationDecoderConfig, WHOSE)
    num_blocks = encoder.num_self_attention_blocks
    settings = {
        "encoder.schedule": (encoder.schedule, ((0, 0), *[(None, 0)] * (num_blocks - 1))),
        "encoder.position_channel_order": (encoder.position_channel_order, "deepmind"),
        "decoder.output_queries": (decoder.output_queries, "trainable"),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        **layer_settings(encoder, decoder, activation="gelu_tanh"),
    }
    check_settings(WHOSE, settings)

    result = input_adapter(encoder, "encoder/input_adapter", "params/image_preprocessor")
    result += [row("encoder/latents", f"{ENCODER}/trainable_position_encoding/pos_embs")]
    result += cross_layer("encoder/cross_attention/0", f"{ENCODER}/cross_attention")
    for i in range(encoder.num_self_attention_layers_per_block):
        result += self_layer(f"encoder/block/0/layer/{i}", f"{ENCODER}/{nth('self_attention', i)}")
    result += cross_layer("decoder/cross_attention", f"{DECODER}/cross_attention")
    result += linear("decoder/output_adapter/linear", f"{DECODER}/output")
    result += [
        row(
            "decoder/output_adapter/queries",
            f"{DECODER}/~/trainable_position_encoding/pos_embs",
        )
    ]
    return table(result)


def input_adapter(config: ImageEncoderConfig, ours: str, theirs: str) -> list[Row]:
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
    check_settings(WHOSE, {"encoder.preprocessing": (config.preprocessing, "conv1x1")})
    kernel = (config.image_shape[-1], config.num_preprocessing_channels or 256)
    built = f"{theirs}/~_build_network_inputs"
    return [
        row(f"{ours}/projection/kernel", f"{theirs}/~/conv2_d/w", RESHAPE((1, 1, *kernel), kernel)),
        row(f"{ours}/projection/bias", f"{theirs}/~/conv2_d/b"),
        row(f"{ours}/positions", f"{built}/trainable_position_encoding/pos_embs"),
        *linear(f"{ours}/position_projection", f"{built}/position_encoding_projector/linear"),
    ]


def conv_stem(
    ours: str, theirs: str, *, num_layers: int, num_channels: int, norms: bool = True
) -> list[Row]:
    """A `Conv2DDownsample`."""
    result = []
    for i in range(num_layers):
        result.append(row(f"{ours}/layer/{i}/conv/kernel", f"{theirs}/~/{nth('conv', i)}/w"))
        if norms:
            name = f"{theirs}/~/{nth('batchnorm', i)}"
            result += batch_norm(f"{ours}/layer/{i}/norm", name, num_channels)
    return result


def batch_norm(ours: str, theirs: str, num_channels: int) -> list[Row]:
    """A `BatchNorm` with its two moving averages, which count the same steps."""
    state = theirs.replace("params/", "state/", 1)
    flatten = RESHAPE((1, 1, 1, num_channels), (num_channels,))
    mean, var = f"{state}/~/mean_ema", f"{state}/~/var_ema"
    return [
        row(f"{ours}/scale", f"{theirs}/scale", flatten),
        row(f"{ours}/bias", f"{theirs}/offset", flatten),
        row(f"{ours}/mean", f"{mean}/average", flatten),
        row(f"{ours}/var", f"{var}/average", flatten),
        row(f"{ours}/count", f"{mean}/counter", tied=(f"{var}/counter",)),
        biased_average(f"{ours}/mean", f"{ours}/count", f"{mean}/hidden"),
        biased_average(f"{ours}/var", f"{ours}/count", f"{var}/hidden"),
    ]


def biased_average(average: str, count: str, theirs: str) -> Row:
    """The sum that Haiku keeps beside a moving average; inference does not read it."""

    def hidden(ours: Arrays) -> np.ndarray:
        seen = 1.0 - BATCH_NORM_DECAY ** int(ours[count])
        return (ours[average] * seen).astype(ours[average].dtype).reshape(1, 1, 1, -1)

    return ignore(theirs, "the average before its bias is divided out", hidden)


def cross_layer(ours: str, theirs: str) -> list[Row]:
    """A `CrossAttention`."""
    return [
        *norm(f"{ours}/q_norm", f"{theirs}/{nth('layer_norm', 0)}"),
        *norm(f"{ours}/kv_norm", f"{theirs}/{nth('layer_norm', 1)}"),
        *attention(f"{ours}/attention", f"{theirs}/attention"),
        *norm(f"{ours}/mlp_norm", f"{theirs}/{nth('layer_norm', 2)}"),
        *mlp(f"{ours}/mlp", f"{theirs}/mlp"),
    ]


def self_layer(ours: str, theirs: str) -> list[Row]:
    """A `SelfAttention`."""
    return [
        *norm(f"{ours}/norm", f"{theirs}/{nth('layer_norm', 0)}"),
        *attention(f"{ours}/attention", f"{theirs}/attention"),
        *norm(f"{ours}/mlp_norm", f"{theirs}/{nth('layer_norm', 1)}"),
        *mlp(f"{ours}/mlp", f"{theirs}/mlp"),
    ]


def attention(ours: str, theirs: str) -> list[Row]:
    """An `Attention`."""
    return [
        *linear(f"{ours}/query", f"{theirs}/{nth('linear', 0)}"),
        *linear(f"{ours}/key", f"{theirs}/{nth('linear', 1)}"),
        *linear(f"{ours}/value", f"{theirs}/{nth('linear', 2)}"),
        *linear(f"{ours}/output", f"{theirs}/{nth('linear', 3)}"),
    ]


def mlp(ours: str, theirs: str) -> list[Row]:
    """An `MLP`."""
    return [
        *linear(f"{ours}/hidden", f"{theirs}/{nth('linear', 0)}"),
        *linear(f"{ours}/output", f"{theirs}/{nth('linear', 1)}"),
    ]


def linear(ours: str, theirs: str) -> list[Row]:
    """A Haiku `Linear`."""
    return [row(f"{ours}/kernel", f"{theirs}/w"), row(f"{ours}/bias", f"{theirs}/b")]


def norm(ours: str, theirs: str) -> list[Row]:
    """A Haiku `LayerNorm`."""
    return [row(f"{ours}/scale", f"{theirs}/scale"), row(f"{ours}/bias", f"{theirs}/offset")]


def nth(name: str, i: int) -> str:
    """What Haiku calls the i-th module of a class, counted from 0."""
    return name if i == 0 else f"{name}_{i}"
