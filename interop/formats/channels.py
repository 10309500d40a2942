"""Channels of attentions where one setting rules all: in DeepMind's code and Hugging Face's port.

- A self-attention gives as many channels as its values have, so these are the latents'.
"""

import dataclasses
import itertools

from perceiver_jax.core.position import num_fourier_channels
from perceiver_jax.models import ImageEncoderConfig, PerceiverConfig, TextEncoderConfig


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


def nearest_channels(config: PerceiverConfig, num_input_channels: int) -> Channels:
    """The settings for a model.

    Args:
        config: ours.
        num_input_channels: channels of a token, position included.
    """
    encoder, channels = config.encoder, config.num_latent_channels
    # What None stands for here.
    usual = num_input_channels if isinstance(encoder, ImageEncoderConfig) else channels
    cross_qk = encoder.num_cross_attention_qk_channels or usual
    self_qk = encoder.num_self_attention_qk_channels or channels
    wanted = {
        "encoder.num_cross_attention_qk_channels": cross_qk,
        "encoder.num_cross_attention_v_channels": encoder.num_cross_attention_v_channels
        or cross_qk,
        "encoder.num_self_attention_qk_channels": self_qk,
        "encoder.num_self_attention_v_channels": encoder.num_self_attention_v_channels or self_qk,
    }
    candidates = []
    for qk, v, shape_for in itertools.product((None, cross_qk), (None, channels), ("kv", "q")):
        given_cross = qk or (channels if shape_for == "q" else num_input_channels)
        given_self = qk or channels
        given = (given_cross, v or given_cross, given_self, v or given_self)
        if given[-1] == channels:
            pairs = dict(zip(wanted, zip(wanted.values(), given, strict=True), strict=True))
            candidates.append(Channels(qk, v, shape_for, pairs))
    return min(candidates, key=lambda one: sum(want != got for want, got in one.pairs.values()))


def num_input_channels(encoder: ImageEncoderConfig | TextEncoderConfig) -> int:
    """Channels of a token, position included."""
    if isinstance(encoder, TextEncoderConfig):
        return encoder.num_input_channels
    if encoder.preprocessing == "conv1x1":
        table_channels = encoder.num_position_channels or 256
        projected = encoder.num_projected_position_channels or table_channels
        return (encoder.num_preprocessing_channels or 256) + projected
    stem_channels = encoder.num_preprocessing_channels or 64
    content = stem_channels if encoder.preprocessing == "conv" else encoder.image_shape[-1]
    return content + num_fourier_channels(2, encoder.num_frequency_bands)
