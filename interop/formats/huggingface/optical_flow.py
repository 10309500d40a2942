"""Their model of optical flow.

- Frames have the size `train_size`, up to which frequencies go; the channels of a pixel, the number
  of frequencies and the decoder but for its channels stand in their code, see `requirements`.
- It takes frames as 3×3 neighbourhoods, [B, 2, 27, H, W], and gives flow in units of 20 pixels.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.huggingface.config_json import (
    architecture,
    complete_settings,
    encoder_fields,
    encoder_requirements,
    encoder_settings,
    layer_fields,
    layer_requirements,
)
from interop.formats.huggingface.layers import cross_layer, encoder_rows
from interop.formats.settings import check_settings
from interop.formats.torch_layers import linear
from interop.rows import Row, table
from perceiver_jax.config import KIND, from_dict
from perceiver_jax.models import (
    OpticalFlow,
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's model of optical flow"
MODELS = (OpticalFlow,)
CLASSES = ("PerceiverForOpticalFlow",)
NUM_PATCH_HIDDEN_CHANNELS = 64
NUM_FREQUENCY_BANDS = 64
RESCALE_FACTOR, FLOW_SCALE = 100.0, 20.0
NOTES = ("flow is given there in units of 20 pixels, and patches are taken in place of frames",)
DECODER = "perceiver.decoder.decoder"


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    architecture(settings, CLASSES)
    complete = complete_settings(settings)
    decoder = {
        KIND: OpticalFlowDecoderConfig.__name__,
        **layer_fields(complete),
        "num_cross_attention_heads": 1,
        # As many as a query has where that rules, which is what None stands for.
        "num_cross_attention_qk_channels": complete["d_latents"]
        if complete["cross_attention_shape_for_attention"] == "kv"
        else None,
        "cross_attention_residual": False,
        "rescale_factor": RESCALE_FACTOR,
        "flow_scale": FLOW_SCALE,
    }
    encoder = {
        KIND: OpticalFlowEncoderConfig.__name__,
        **encoder_fields(complete),
        "image_shape": complete["train_size"],
        "num_patch_hidden_channels": NUM_PATCH_HIDDEN_CHANNELS,
        "num_frequency_bands": NUM_FREQUENCY_BANDS,
    }
    tree = {
        "encoder": encoder,
        "decoder": decoder,
        "num_latents": complete["num_latents"],
        "num_latent_channels": complete["d_latents"],
    }
    return from_dict(PerceiverConfig, tree, "config.json as our config")


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """A `config.json` that describes the model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    encoder, decoder = _halves(config)
    return {
        "architectures": list(CLASSES),
        "model_type": "perceiver",
        **encoder_settings(config, num_input_channels(encoder), decoder),
        "train_size": list(encoder.image_shape),
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their class does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: it is another kind of model.
    """
    encoder, decoder = _halves(config)
    size = tuple(map(float, encoder.image_shape))
    fixed = {
        "encoder": (
            encoder,
            {
                "num_patch_hidden_channels": NUM_PATCH_HIDDEN_CHANNELS,
                "num_frequency_bands": NUM_FREQUENCY_BANDS,
            },
        ),
        "decoder": (
            decoder,
            {
                "num_cross_attention_heads": 1,
                "cross_attention_widening_factor": 1,
                "cross_attention_residual": False,
                "cross_attention_mlp": True,
                "rescale_factor": RESCALE_FACTOR,
                "flow_scale": FLOW_SCALE,
            },
        ),
    }
    return {
        "encoder.max_resolution": (encoder.max_resolution or size, size),
        **{
            f"{name}.{field}": (getattr(half, field), needed)
            for name, (half, fields) in fixed.items()
            for field, needed in fields.items()
        },
        **encoder_requirements(config, num_input_channels(encoder), decoder),
        **layer_requirements(encoder, decoder),
    }


def _halves(config: PerceiverConfig) -> tuple[OpticalFlowEncoderConfig, OpticalFlowDecoderConfig]:
    return (
        check_half(config.encoder, OpticalFlowEncoderConfig, WHOSE),
        check_half(config.decoder, OpticalFlowDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `PerceiverForOpticalFlow`.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return state_dict_rows(config)


def state_dict_rows(config: PerceiverConfig) -> list[Row]:
    """The rows of any model made of their modules, also in sizes that the class does not have."""
    projection = "perceiver.input_preprocessor.conv_after_patches"
    return table(
        [
            *linear("encoder/input_adapter/projection", projection),
            *encoder_rows(config.encoder.num_self_attention_layers_per_block),
            *cross_layer("decoder/cross_attention", f"{DECODER}.decoding_cross_attention"),
            *linear("decoder/output_adapter/linear", f"{DECODER}.final_layer"),
        ]
    )
