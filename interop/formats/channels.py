"""Channels of attentions where one setting rules all: in DeepMind's code and Hugging Face's port.

- A self-attention gives as many channels as its values have, so these are the latents'.
"""

import dataclasses
import itertools

from perceiver_jax.core import DecoderConfig
from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.models import (
    ImageEncoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
    TextEncoderConfig,
    VideoDecoderConfig,
    VideoEncoderConfig,
)


@dataclasses.dataclass(frozen=True)
class Channels:
    """The settings that give attentions the channels they have, or as many of them as can be.

    Attributes:
        qk_channels: of queries and keys; None: those that `shape_for` says.
        v_channels: of values; None: as many as queries and keys.
        shape_for: "kv", the channels of a token, or "q", those of the latents.
        pairs: by our fields the channels that a model has and those that the settings give.
    """

    qk_channels: int | None
    v_channels: int | None
    shape_for: str
    pairs: dict[str, tuple[int, int]]


def nearest_channels(
    config: PerceiverConfig, num_input_channels: int, decoder: DecoderConfig | None = None
) -> Channels:
    """The settings for a model.

    Args:
        config: ours.
        num_input_channels: channels of a token, position included.
        decoder: ours, where `shape_for` rules it, too: its queries are tokens, or those of
            clips.
    """
    encoder, channels = config.encoder, config.num_latent_channels
    # What None stands for here.
    of_images = isinstance(
        encoder, ImageEncoderConfig | OpticalFlowEncoderConfig | VideoEncoderConfig
    )
    usual = num_input_channels if of_images else channels
    cross_qk = encoder.num_cross_attention_qk_channels or usual
    self_qk = encoder.num_self_attention_qk_channels or channels
    wanted = {
        "encoder.num_cross_attention_qk_channels": cross_qk,
        "encoder.num_cross_attention_v_channels": encoder.num_cross_attention_v_channels
        or cross_qk,
        "encoder.num_self_attention_qk_channels": self_qk,
        "encoder.num_self_attention_v_channels": encoder.num_self_attention_v_channels or self_qk,
    }
    if decoder is not None:
        num_query_channels = num_input_channels
        if isinstance(decoder, VideoDecoderConfig) and isinstance(encoder, VideoEncoderConfig):
            num_query_channels = num_clip_query_channels(encoder, decoder)
        decoder_qk = decoder.num_cross_attention_qk_channels or num_query_channels
        decoder_v = decoder.num_cross_attention_v_channels or decoder_qk
        wanted["decoder.num_cross_attention_qk_channels"] = decoder_qk
        wanted["decoder.num_cross_attention_v_channels"] = decoder_v
    candidates = []
    for qk, v, shape_for in itertools.product((None, cross_qk), (None, channels), ("kv", "q")):
        given_cross = qk or (channels if shape_for == "q" else num_input_channels)
        given_self = qk or channels
        given = [given_cross, v or given_cross, given_self, v or given_self]
        if given[-1] == channels:
            if decoder is not None:
                given += [num_query_channels if shape_for == "q" else channels] * 2
            pairs = dict(zip(wanted, zip(wanted.values(), given, strict=True), strict=True))
            candidates.append(Channels(qk, v, shape_for, pairs))
    return min(candidates, key=lambda one: sum(want != got for want, got in one.pairs.values()))


def num_input_channels(
    encoder: ImageEncoderConfig | TextEncoderConfig | OpticalFlowEncoderConfig | VideoEncoderConfig,
) -> int:
    """Channels of a token, position included."""
    if isinstance(encoder, TextEncoderConfig):
        return encoder.num_input_channels
    if isinstance(encoder, VideoEncoderConfig):
        pixels = encoder.patch_size**2 * encoder.video_shape[-1]
        samples = encoder.samples_per_patch
        most = max(
            pixels + num_fourier_channels(3, encoder.num_video_frequency_bands),
            samples + num_fourier_channels(1, encoder.num_audio_frequency_bands),
            encoder.num_classes,
        )
        return most + encoder.min_padding_size
    if isinstance(encoder, OpticalFlowEncoderConfig):
        positions = num_fourier_channels(2, encoder.num_frequency_bands)
        return encoder.num_patch_hidden_channels + positions
    if encoder.preprocessing == "conv1x1":
        table_channels = encoder.num_position_channels or 256
        projected = encoder.num_projected_position_channels or table_channels
        return (encoder.num_preprocessing_channels or 256) + projected
    stem_channels = encoder.num_preprocessing_channels or 64
    content = stem_channels if encoder.preprocessing == "conv" else encoder.image_shape[-1]
    return content + num_fourier_channels(2, encoder.num_frequency_bands)


def num_clip_query_channels(encoder: VideoEncoderConfig, decoder: VideoDecoderConfig) -> int:
    """Channels of the queries for a clip, those that tell modalities apart included."""
    most = max(
        num_fourier_channels(3, encoder.num_video_frequency_bands),
        num_fourier_channels(1, encoder.num_audio_frequency_bands),
        decoder.num_label_query_channels,
    )
    return most + decoder.min_padding_size
