"""DeepMind's autoencoder of video, sound and label.

- Its notebook has no config: the settings are the notebook's numbers by name, and the arguments of
  `PerceiverEncoder`. The decoder stands in its code, see `requirements`.
- It decodes chosen points alone, whose positions end one step short of 1.
- The encoder is called `encoder` there, those of all other models `perceiver_encoder`.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_clip_query_channels, num_input_channels
from interop.formats.deepmind import encoders
from interop.formats.deepmind.encoders import refuse
from interop.formats.deepmind.layers import cross_layer, encoder_rows, linear
from interop.formats.settings import check_settings, layer_settings
from interop.rows import Row, row, table
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    PerceiverConfig,
    VideoAutoencoder,
    VideoDecoderConfig,
    VideoEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "DeepMind's video autoencoder"
MODELS = (VideoAutoencoder,)
TASK = "video_autoencoding"
ENCODER = "encoder"
MASK_RATES = {
    "image": "video_mask_rate",
    "audio": "audio_mask_rate",
    "label": "label_mask_rate",
}
"""Modalities in `mask_probs`, and our fields."""
POSTPROCESSORS = {
    "image": "projection_postprocessor",
    "audio": "audio_postprocessor",
    "label": "classification_postprocessor",
}
PREPROCESSOR = "params/multimodal_preprocessor"
MASK_TOKEN = f"{PREPROCESSOR}/label_mask_token/pos_embs"
DECODER = "params/multimodal_decoder"
LABEL_QUERY = "params/classification_decoder/~/basic_decoder/~/trainable_position_encoding/pos_embs"
NUM_COLOURS = 3
OURS = "perceiver_jax.models.VideoAutoencoder"


def config(meta: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from the numbers of DeepMind's notebook.

    Args:
        meta: sizes of a clip: `num_frames`, `image_size`, `spatial_downsample` (sides of patches),
            `image_pos_size` (up to half of which frequencies go in a frame),
            `audio_samples_per_frame`, `samples_per_patch`, `num_classes`; sizes of the model:
            `image_bands`, `audio_bands`, `input_min_padding_size`, `label_query_channels`,
            `output_num_channels`; `mask_probs` by modality; `encoder`, the keyword arguments of
            `PerceiverEncoder`, of which what is left out has DeepMind's default.

    Raises:
        UserError: a setting that is unknown, or has a value that cannot be expressed.
    """
    left = dict(meta)
    encoder, rates = dict(left.pop("encoder")), dict(left.pop("mask_probs"))
    expected = {
        "task": (left.pop("task"), TASK),
        # Both stand in the names of the parameters.
        "name of the encoder": (encoder.pop("name", ENCODER), ENCODER),
        "modalities of mask_probs": (sorted(rates), sorted(MASK_RATES)),
    }
    check_settings(OURS, expected)
    num_frames, side = left.pop("num_frames"), float(left.pop("image_pos_size"))
    num_latents = encoder.pop("z_index_dim", 512)
    num_latent_channels = encoder.pop("num_z_channels", 1024)
    common: dict[str, Any] = {"activation": "gelu_tanh", "init_method": "variance_scaling"}
    sizes = {
        "video_shape": (num_frames, *left.pop("image_size"), NUM_COLOURS),
        "patch_size": left.pop("spatial_downsample"),
        "num_video_frequency_bands": left.pop("image_bands"),
        "video_max_resolution": (float(num_frames), side, side),
        "num_samples": num_frames * left.pop("audio_samples_per_frame"),
        "samples_per_patch": left.pop("samples_per_patch"),
        "num_audio_frequency_bands": left.pop("audio_bands"),
        "num_classes": left.pop("num_classes"),
        "min_padding_size": left.pop("input_min_padding_size"),
    }
    decoder = {
        "num_label_query_channels": left.pop("label_query_channels"),
        "num_output_channels": left.pop("output_num_channels"),
    }
    refuse("model", left)
    return PerceiverConfig(
        encoder=VideoEncoderConfig(
            **sizes,
            **{field: float(rates[name]) for name, field in MASK_RATES.items()},
            **common,
            **encoders.fields(encoder, num_latent_channels),
        ),
        decoder=VideoDecoderConfig(
            num_cross_attention_heads=1,
            num_cross_attention_qk_channels=num_latent_channels,
            num_cross_attention_v_channels=num_latent_channels,
            query_positions="half_open",
            **decoder,
            **common,
        ),
        num_latents=num_latents,
        num_latent_channels=num_latent_channels,
    )


def settings(config: PerceiverConfig) -> dict[str, Any]:
    """The numbers that make DeepMind's notebook compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `requirements`.
    """
    encoder, decoder = _halves(config)
    num_frames, height, width, _ = encoder.video_shape
    side = encoder.video_resolution[1]
    return {
        "task": TASK,
        "num_frames": num_frames,
        "audio_samples_per_frame": encoder.num_samples // num_frames,
        "samples_per_patch": encoder.samples_per_patch,
        "num_classes": encoder.num_classes,
        "image_size": [height, width],
        "image_pos_size": int(side) if side == int(side) else side,
        "spatial_downsample": encoder.patch_size,
        "audio_bands": encoder.num_audio_frequency_bands,
        "image_bands": encoder.num_video_frequency_bands,
        "input_min_padding_size": encoder.min_padding_size,
        "mask_probs": {name: getattr(encoder, field) for name, field in MASK_RATES.items()},
        "label_query_channels": decoder.num_label_query_channels,
        "output_num_channels": decoder.num_output_channels,
        "encoder": encoders.arguments(config, num_input_channels(encoder)) | {"name": ENCODER},
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is no autoencoder of clips, or one of frames that do not share its
            samples out evenly.
    """
    encoder, decoder = _halves(config)
    num_frames, *_, num_colours = encoder.video_shape
    if encoder.num_samples % num_frames:
        raise ConfigError(
            f"{WHOSE} has equally many samples for each frame, which {encoder.num_samples:,} "
            f"samples for {num_frames} frames are not"
        )
    side = encoder.video_resolution[1]
    channels, query_channels = config.num_latent_channels, num_clip_query_channels(encoder, decoder)
    decoder_qk = decoder.num_cross_attention_qk_channels or query_channels
    decoder_v = decoder.num_cross_attention_v_channels or decoder_qk
    rates = {field: getattr(encoder, field) for field in MASK_RATES.values()}
    return {
        "encoder.video_shape": (encoder.video_shape, (*encoder.video_shape[:-1], NUM_COLOURS)),
        "encoder.video_max_resolution": (
            encoder.video_resolution,
            (float(num_frames), side, side),
        ),
        # Any other is drawn in inference, too.
        **{f"encoder.{field}": (rate, float(rate == 1.0)) for field, rate in rates.items()},
        **encoders.requirements(config, num_input_channels(encoder)),
        **decoder_requirements(decoder),
        "decoder.num_cross_attention_qk_channels": (decoder_qk, channels),
        "decoder.num_cross_attention_v_channels": (decoder_v, channels),
        **layer_settings(encoder, decoder, activation="gelu_tanh"),
    }


def decoder_requirements(decoder: VideoDecoderConfig) -> dict[str, tuple[Any, Any]]:
    """What DeepMind's decoder, and its port, have without a choice."""
    only = {
        "num_cross_attention_heads": 1,
        "cross_attention_widening_factor": 1,
        "cross_attention_residual": False,
        "cross_attention_mlp": True,
        "min_padding_size": 2,
        "query_positions": "half_open",
    }
    return {f"decoder.{field}": (getattr(decoder, field), needed) for field, needed in only.items()}


def _halves(config: PerceiverConfig) -> tuple[VideoEncoderConfig, VideoDecoderConfig]:
    return (
        check_half(config.encoder, VideoEncoderConfig, WHOSE),
        check_half(config.decoder, VideoDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """Parameters of an autoencoder of clips.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    check_settings(WHOSE, requirements(config))
    num_layers = config.encoder.num_self_attention_layers_per_block
    output = "decoder/output_adapter"
    basic = f"{DECODER}/~/basic_decoder"
    return table(
        [
            *encoder_rows(num_layers, f"params/{ENCODER}/~"),
            *[one for name in sorted(POSTPROCESSORS) for one in _modality_rows(name)],
            row(f"{output}/modality/label/head/query", LABEL_QUERY),
            *cross_layer("decoder/cross_attention", f"{basic}/cross_attention"),
            *linear(f"{output}/linear", f"{basic}/output"),
        ]
    )


def _modality_rows(name: str) -> list[Row]:
    """What a modality has of its own, at either end."""
    inputs, outputs = (f"{half}_adapter/modality/{name}" for half in ("input", "output"))
    return [
        row(f"encoder/{inputs}/padding", f"{PREPROCESSOR}/{name}_padding/pos_embs"),
        row(f"encoder/{inputs}/mask_token", f"{PREPROCESSOR}/{name}_mask_token/pos_embs"),
        row(f"decoder/{outputs}/padding", f"{DECODER}/~decoder_query/{name}_padding/pos_embs"),
        *linear(f"decoder/{outputs}/head/linear", f"params/{POSTPROCESSORS[name]}/linear"),
    ]
