"""The reference's `OpticalFlow`: two frames in patches, the tokens as queries.

- It takes frames as 3×3 neighbourhoods, [B, 2, 27, H, W], and gives flow in units of 20 pixels.
- Values of the encoder's cross-attention have the channels of a token unless said, also where
  queries and keys have others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.krasserm import halves, layers
from interop.formats.krasserm.image_classifier import BUFFER, check_frequencies, fourier_buffer
from interop.formats.settings import check_settings
from interop.formats.torch_layers import linear
from interop.rows import Row, table
from perceiver_jax.config import ConfigError, from_dict
from perceiver_jax.models import (
    OpticalFlow,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "krasserm's OpticalFlow"
HUB_CLASSES = (("perceiver-io-optical-flow", "OpticalFlowPerceiver"),)
MODELS = (OpticalFlow,)
ENCODER_FIELDS = (
    *halves.ENCODER_FIELDS,
    "image_shape",
    "num_patch_hidden_channels",
    "num_frequency_bands",
)
DECODER_FIELDS = (*halves.DECODER_FIELDS, "rescale_factor")
NUM_PATCH_INPUT_CHANNELS = 27
FLOW_SCALE = 20.0
ALL_FIELDS = ((*ENCODER_FIELDS, "num_patch_input_channels"), (*DECODER_FIELDS, "image_shape"))
"""Of encoder and decoder, with those that say what ours know."""
FIELDS = halves.paths(*ALL_FIELDS)
NOTES = ("flow is given there in units of 20 pixels, and patches are taken in place of frames",)


def config(hyperparameters: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's model of optical flow does not have, or one that
            cannot be expressed.
    """
    given = halves.parse(hyperparameters, "a model of optical flow", *ALL_FIELDS)
    check_frequencies(given.encoder)
    encoder, decoder = dict(given.encoder), {"cross_attention_residual": True, **given.decoder}
    num_channels = encoder.pop("num_patch_input_channels", NUM_PATCH_INPUT_CHANNELS)
    if num_channels != NUM_PATCH_INPUT_CHANNELS:
        raise ConfigError(
            f"num_patch_input_channels={num_channels!r}; this library makes patches of 3×3 pixels "
            f"of 3 colours, which are {NUM_PATCH_INPUT_CHANNELS}"
        )
    usual = OpticalFlowEncoderConfig().image_shape
    shapes = [tuple(half.get("image_shape", usual)) for half in (encoder, decoder)]
    if shapes[0] != shapes[1]:
        raise ConfigError(
            f"image_shape is {shapes[0]} in the encoder and {shapes[1]} in the decoder; a model of "
            "optical flow has a flow for every pixel of a frame"
        )
    decoder.pop("image_shape", None)
    ours = from_dict(OpticalFlowEncoderConfig, encoder, "config.encoder")
    if ours.num_cross_attention_qk_channels and ours.num_cross_attention_v_channels is None:
        ours = dataclasses.replace(ours, num_cross_attention_v_channels=num_input_channels(ours))
    return PerceiverConfig(
        encoder=ours,
        decoder=from_dict(OpticalFlowDecoderConfig, decoder, "config.decoder"),
        **given.latents,
    )


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The reference's config, as a nested dict of its dataclasses.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    encoder, _ = _checked(config)
    result = halves.settings(config, ENCODER_FIELDS, DECODER_FIELDS)
    result["encoder"] |= {
        "num_patch_input_channels": NUM_PATCH_INPUT_CHANNELS,
        "num_cross_attention_v_channels": encoder.num_cross_attention_v_channels
        or encoder.num_cross_attention_qk_channels,
    }
    result["decoder"]["image_shape"] = list(encoder.image_shape)
    return result


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is none of optical flow.
    """
    encoder, decoder = _checked(config)
    size = tuple(map(float, encoder.image_shape))
    bands = encoder.num_frequency_bands
    return {
        # None there would be bare coordinates.
        "encoder.num_frequency_bands": (bands, max(bands, 1)),
        "encoder.max_resolution": (encoder.max_resolution or size, size),
        "decoder.flow_scale": (decoder.flow_scale, FLOW_SCALE),
        **halves.requirements(encoder, decoder),
    }


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `OpticalFlow`.

    Raises:
        UserError: the reference has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _checked(config)
    residual = decoder.cross_attention_residual
    return table(
        [
            *layers.encoder_rows(encoder),
            *linear("encoder/input_adapter/projection", "0.input_adapter.linear"),
            fourier_buffer(encoder, BUFFER),
            *layers.cross_layer("decoder/cross_attention", "1.cross_attn", residual=residual),
            *layers.prediction_rows(),
        ]
    )


def _checked(config: PerceiverConfig) -> tuple[OpticalFlowEncoderConfig, OpticalFlowDecoderConfig]:
    encoder = check_half(config.encoder, OpticalFlowEncoderConfig, WHOSE)
    return encoder, check_half(config.decoder, OpticalFlowDecoderConfig, WHOSE)
