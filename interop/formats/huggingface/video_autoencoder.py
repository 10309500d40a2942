"""Their autoencoder of video, sound and label.

- `config.json` says how long clips are, how large frames come out (`output_shape`), and up to which
  frequencies positions go (`num_frames`, `image_size`); patches, numbers of frequencies, padding,
  masks and the decoder stand in their code, see `requirements`.
- It decodes chosen points alone, whose positions end one step short of 1; asked for all of them at
  once it fails.
- It takes frames as [B, T, C, H, W], and gives chosen sound as [B, samples].
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.channels import num_input_channels
from interop.formats.deepmind.video_autoencoder import NUM_COLOURS, decoder_requirements
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
from interop.rows import Row, row, table
from perceiver_jax.config import KIND, ConfigError, from_dict
from perceiver_jax.models import (
    PerceiverConfig,
    VideoAutoencoder,
    VideoDecoderConfig,
    VideoEncoderConfig,
)
from perceiver_jax.models.perceiver_config import check_half

WHOSE = "Hugging Face's video autoencoder"
MODELS = (VideoAutoencoder,)
CLASSES = ("PerceiverForMultimodalAutoencoding",)
MODALITIES = ("audio", "image", "label")
FIXED = {
    "patch_size": 4,
    "num_video_frequency_bands": 32,
    "num_audio_frequency_bands": 192,
    "min_padding_size": 4,
    "video_mask_rate": 0.0,
    "audio_mask_rate": 0.0,
    "label_mask_rate": 1.0,
}
"""Fields of our encoder that their class has no setting for."""
NOTES = ("only chosen points are decoded there, by subsampled_output_points",)
DECODER = "perceiver.decoder"


def config(settings: Mapping[str, Any]) -> PerceiverConfig:
    """Our config from a `config.json`.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    architecture(settings, CLASSES)
    complete = complete_settings(settings)
    num_frames, side, shape = (
        complete[name] for name in ("num_frames", "image_size", "output_shape")
    )
    if not isinstance(side, int):
        raise ConfigError(f"config.json: image_size={side!r}; {WHOSE} takes one number")
    if not isinstance(shape, list | tuple) or len(shape) != 4:
        raise ConfigError(
            f"config.json: output_shape={shape!r}; {WHOSE} takes [examples, frames, height, width]"
        )
    encoder = {
        KIND: VideoEncoderConfig.__name__,
        **encoder_fields(complete),
        **FIXED,
        "video_shape": (*shape[1:], NUM_COLOURS),
        "video_max_resolution": (num_frames, side, side),
        "num_samples": num_frames * complete["audio_samples_per_frame"],
        "samples_per_patch": complete["samples_per_patch"],
        "num_classes": complete["num_labels"],
    }
    decoder = {
        KIND: VideoDecoderConfig.__name__,
        **layer_fields(complete),
        "num_cross_attention_heads": 1,
        # As many as a query has where that rules, which is what None stands for.
        "num_cross_attention_qk_channels": complete["d_latents"]
        if complete["cross_attention_shape_for_attention"] == "kv"
        else None,
        "cross_attention_residual": False,
        "num_label_query_channels": complete["_label_trainable_num_channels"],
        "num_output_channels": complete["output_num_channels"],
        "query_positions": "half_open",
    }
    tree = {
        "encoder": encoder,
        "decoder": decoder,
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
    num_frames, side = (int(size) for size in encoder.video_resolution[:2])
    return {
        "architectures": list(CLASSES),
        "model_type": "perceiver",
        **encoder_settings(config, num_input_channels(encoder), decoder),
        "num_frames": num_frames,
        "image_size": side,
        "output_shape": [1, *encoder.video_shape[:-1]],
        "audio_samples_per_frame": encoder.num_samples // num_frames,
        "samples_per_patch": encoder.samples_per_patch,
        "num_labels": encoder.num_classes,
        "_label_trainable_num_channels": decoder.num_label_query_channels,
        "output_num_channels": decoder.num_output_channels,
    }


def requirements(config: PerceiverConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their class does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: it is another kind of model.
    """
    encoder, decoder = _halves(config)
    fixed = {f"encoder.{field}": (getattr(encoder, field), only) for field, only in FIXED.items()}
    return {
        "encoder.video_shape": (encoder.video_shape, (*encoder.video_shape[:-1], NUM_COLOURS)),
        "encoder.video_max_resolution": (encoder.video_resolution, _nearest_resolution(encoder)),
        **fixed,
        **encoder_requirements(config, num_input_channels(encoder), decoder),
        **decoder_requirements(decoder),
        **layer_requirements(encoder, decoder),
    }


def _nearest_resolution(encoder: VideoEncoderConfig) -> tuple[float, float, float]:
    """Whole numbers, of which the first counts frames that share the samples, the others equal."""
    time, side, _ = encoder.video_resolution
    sharing = [n for n in range(1, max(1, round(2 * time)) + 1) if encoder.num_samples % n == 0]
    num_frames = min(sharing, key=lambda n: abs(n - time))
    side = max(1, round(side))
    return (float(num_frames), float(side), float(side))


def _halves(config: PerceiverConfig) -> tuple[VideoEncoderConfig, VideoDecoderConfig]:
    return (
        check_half(config.encoder, VideoEncoderConfig, WHOSE),
        check_half(config.decoder, VideoDecoderConfig, WHOSE),
    )


def rows(config: PerceiverConfig) -> list[Row]:
    """The state dict of `PerceiverForMultimodalAutoencoding`.

    Raises:
        UserError: Hugging Face has no such model.
    """
    check_settings(WHOSE, requirements(config))
    return state_dict_rows(config)


def state_dict_rows(config: PerceiverConfig) -> list[Row]:
    """The rows of any model made of their modules, also in sizes that the class does not have."""
    output = "decoder/output_adapter"
    query = f"{DECODER}.modalities.label.decoder.output_position_encodings.position_embeddings"
    shared = f"{DECODER}.decoder"
    return table(
        [
            *encoder_rows(config.encoder.num_self_attention_layers_per_block),
            *[one for name in MODALITIES for one in _modality_rows(name)],
            row(f"{output}/modality/label/head/query", query),
            *cross_layer("decoder/cross_attention", f"{shared}.decoding_cross_attention"),
            *linear(f"{output}/linear", f"{shared}.final_layer"),
        ]
    )


def _modality_rows(name: str) -> list[Row]:
    """What a modality has of its own, at either end."""
    inputs, outputs = (f"{half}_adapter/modality/{name}" for half in ("input", "output"))
    return [
        row(f"encoder/{inputs}/padding", f"perceiver.input_preprocessor.padding.{name}"),
        row(f"encoder/{inputs}/mask_token", f"perceiver.input_preprocessor.mask.{name}"),
        row(f"decoder/{outputs}/padding", f"{DECODER}.padding.{name}"),
        *linear(
            f"decoder/{outputs}/head/linear",
            f"perceiver.output_postprocessor.modalities.{name}.classifier",
        ),
    ]
