"""Decoders of video, sound and label: one cross-attention for the queries of all three."""

import dataclasses

from flax import nnx

from perceiver_jax.adapters import (
    LabelHead,
    MultimodalHeads,
    VideoHead,
    WaveformHead,
)
from perceiver_jax.config import part, setting
from perceiver_jax.core import DecoderConfig, PerceiverDecoder
from perceiver_jax.core.position import GridEnds
from perceiver_jax.models.video_encoder import VideoEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDecoderConfig(DecoderConfig):
    """A decoder that asks for every pixel, every stretch of sound, and the label."""

    cross_attention_residual: bool = setting(
        False, "whether the output queries are added to what the cross-attention found"
    )
    num_label_query_channels: int = setting(1024, "channels of the label's learned query")
    num_output_channels: int = setting(
        512, "channels that answers have before they become colours, samples and classes"
    )
    min_padding_size: int = setting(
        2, "learned channels that tell queries of modalities apart, at least", minimum=0
    )
    query_positions: GridEnds = setting(
        "closed",
        "positions of the queries along an axis of n: 'closed', from -1 to 1 as those of the "
        "inputs; 'half_open', -1 + 2i/n, as in DeepMind's subsampled decoding, by which the "
        "published model was trained",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.min_padding_size < 0:
            raise ValueError(f"min_padding_size={self.min_padding_size} must be 0 or more")


def video_decoder(
    config: VideoDecoderConfig,
    encoder: VideoEncoderConfig,
    *,
    num_latent_channels: int,
    rngs: nnx.Rngs,
) -> PerceiverDecoder:
    """The decoder that the config describes, of clips as the encoder takes them."""
    num_features = config.num_output_channels
    adapter = MultimodalHeads(
        {
            "image": VideoHead(
                video_shape=encoder.video_shape,
                num_features=num_features,
                num_frequency_bands=encoder.num_video_frequency_bands,
                max_resolution=encoder.video_resolution,
                ends=config.query_positions,
                init=config.init,
                rngs=rngs,
            ),
            "audio": WaveformHead(
                num_samples=encoder.num_samples,
                samples_per_patch=encoder.samples_per_patch,
                num_features=num_features,
                num_frequency_bands=encoder.num_audio_frequency_bands,
                ends=config.query_positions,
                init=config.init,
                rngs=rngs,
            ),
            "label": LabelHead(
                num_classes=encoder.num_classes,
                num_query_channels=config.num_label_query_channels,
                num_features=num_features,
                init=config.init,
                rngs=rngs,
            ),
        },
        min_padding_size=config.min_padding_size,
        num_features=num_features,
        init=config.init,
        rngs=rngs,
    )
    return PerceiverDecoder(
        output_adapter=adapter,
        num_latent_channels=num_latent_channels,
        rngs=rngs,
        **part(config, DecoderConfig),
    )
