"""DeepMind's model of optical flow.

- Arguments stand by module: `input_preprocessor`, `encoder`, `decoder`; beside them the two numbers
  of the notebook, `train_size` and `flow_scale_factor`.
- Queries are the tokens, whatever position encoding the decoder is built with.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.deepmind import encoders
from interop.formats.deepmind.encoders import refuse
from interop.formats.deepmind.fourier import fourier_arguments, fourier_fields
from interop.formats.deepmind.layers import cross_layer, encoder_rows, linear
from interop.formats.settings import check_settings, layer_settings
from interop.rows import Row, table
from perceiver_jax.models import (
    OpticalFlow,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "DeepMind's model of optical flow"
MODELS = (OpticalFlow,)
TASK = "optical_flow"
PROJECTION = "params/image_preprocessor/patches_linear"
DECODER = "params/flow_decoder/~/basic_decoder"
OURS = "perceiver_jax.models.OpticalFlow"


def config(meta: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the arguments of DeepMind's modules.

    Args:
        meta: `train_size`, `flow_scale_factor` (20 if left out), and by module
            `input_preprocessor`, `encoder` and `decoder`: the keyword arguments of
            `ImagePreprocessor`, `PerceiverEncoder` and `FlowDecoder`. What is left out of these has
            DeepMind's default.

    Raises:
        UserError: an argument that is unknown, or has a value that cannot be expressed.
    """
    left = dict(meta)
    check_settings(OURS, {"task": (left.pop("task"), TASK)})
    image_shape = tuple(left.pop("train_size"))
    flow_scale = float(left.pop("flow_scale_factor", 20.0))
    preprocessor, encoder, decoder = (
        dict(left.pop(name)) for name in ("input_preprocessor", "encoder", "decoder")
    )
    refuse("model", left)
    num_latents = encoder.pop("z_index_dim", 512)
    num_latent_channels = encoder.pop("num_z_channels", 1024)
    # It stands in the names of the parameters.
    name = encoder.pop("name", "perceiver_encoder")
    check_settings(OURS, {"name of the encoder": (name, "perceiver_encoder")})
    common: dict[str, Any] = {"activation": "gelu_tanh", "init_method": "variance_scaling"}
    return PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(
            image_shape=image_shape,
            **common,
            **_preprocessor_fields(preprocessor),
            **encoders.fields(encoder, num_latent_channels),
        ),
        decoder=OpticalFlowDecoderConfig(
            flow_scale=flow_scale,
            **common,
            **_decoder_fields(decoder, image_shape, num_latent_channels),
        ),
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
    )


def _preprocessor_fields(left: dict[str, Any]) -> dict[str, Any]:
    """Fields of an `OpticalFlowEncoderConfig` from arguments of `ImagePreprocessor`."""
    # A property of convolutional stems.
    left.pop("conv2d_use_batchnorm", None)
    fields = {
        "num_patch_hidden_channels": left.pop("num_channels", 64),
        **fourier_fields(left),
    }
    expected = {
        "prep_type": (left.pop("prep_type", "conv"), "patches"),
        "spatial_downsample": (left.pop("spatial_downsample", 4), 1),
        "temporal_downsample": (left.pop("temporal_downsample", 1), 2),
        "conv_after_patching": (left.pop("conv_after_patching", False), True),
        "position_encoding_type": (left.pop("position_encoding_type", "fourier"), "fourier"),
        "concat_or_add_pos": (left.pop("concat_or_add_pos", "concat"), "concat"),
        "n_extra_pos_mlp": (left.pop("n_extra_pos_mlp", 0), 0),
    }
    check_settings(OURS, expected)
    refuse("input_preprocessor", left)
    return fields


def _decoder_fields(
    left: dict[str, Any], image_shape: tuple[int, ...], num_latent_channels: int
) -> dict[str, Any]:
    """Fields of an `OpticalFlowDecoderConfig` from arguments of `FlowDecoder`."""
    # Positions that no query takes, how the last layer starts, and what the latents tell.
    for name in ("fourier_position_encoding_kwargs", "output_w_init", "num_z_channels"):
        left.pop(name, None)
    output_shape = tuple(left.pop("output_image_shape", image_shape))
    expected = {
        "output_image_shape": (output_shape, image_shape),
        "output_num_channels": (left.pop("output_num_channels", 2), 2),
        # Any other kind has parameters.
        "position_encoding_type": (left.pop("position_encoding_type", "trainable"), "fourier"),
        "final_project": (left.pop("final_project", True), True),
    }
    check_settings(OURS, expected)
    fields = {
        "num_cross_attention_heads": left.pop("num_heads", 1),
        # DeepMind's default are the channels of what is attended to, ours those of the queries.
        "num_cross_attention_qk_channels": left.pop("qk_channels", None) or num_latent_channels,
        "num_cross_attention_v_channels": left.pop("v_channels", None),
        "cross_attention_residual": left.pop("use_query_residual", False),
        "rescale_factor": float(left.pop("rescale_factor", 100.0)),
        "output_init_scale": 0.0,
    }
    refuse("decoder", left)
    return fields


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's modules compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    num_channels = num_input_channels(encoder)
    return {
        "task": TASK,
        "train_size": list(encoder.image_shape),
        "flow_scale_factor": decoder.flow_scale,
        "input_preprocessor": {
            "prep_type": "patches",
            "spatial_downsample": 1,
            "temporal_downsample": 2,
            "conv_after_patching": True,
            "num_channels": encoder.num_patch_hidden_channels,
            "position_encoding_type": "fourier",
            "fourier_position_encoding_kwargs": fourier_arguments(encoder),
        },
        "encoder": encoders.arguments(config, num_channels),
        "decoder": {
            "rescale_factor": decoder.rescale_factor,
            "output_num_channels": 2,
            "position_encoding_type": "fourier",
            "fourier_position_encoding_kwargs": fourier_arguments(encoder),
            "num_heads": decoder.num_cross_attention_heads,
            "qk_channels": decoder.num_cross_attention_qk_channels or num_channels,
            "v_channels": decoder.num_cross_attention_v_channels,
            "use_query_residual": decoder.cross_attention_residual,
        },
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is none of optical flow.
    """
    encoder, decoder = _halves(config)
    bands = encoder.num_frequency_bands
    return {
        # None there would be bare coordinates.
        "encoder.num_frequency_bands": (bands, max(bands, 1)),
        **encoders.requirements(config, num_input_channels(encoder)),
        "decoder.cross_attention_mlp": (decoder.cross_attention_mlp, True),
        "decoder.cross_attention_widening_factor": (decoder.cross_attention_widening_factor, 1),
        **layer_settings(encoder, decoder, activation="gelu_tanh"),
    }


def _halves(config: PerceiverConfig) -> tuple[OpticalFlowEncoderConfig, OpticalFlowDecoderConfig]:
    return (
        check_half(config.encoder, OpticalFlowEncoderConfig, WHOSE),
        check_half(config.decoder, OpticalFlowDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """Parameters of a model of optical flow.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return table(
        [
            *linear("encoder/input_adapter/projection", PROJECTION),
            *encoder_rows(config.encoder.num_self_attention_layers_per_block),
            *cross_layer("decoder/cross_attention", f"{DECODER}/cross_attention"),
            *linear("decoder/output_adapter/linear", f"{DECODER}/output"),
        ]
    )
