"""The config of a whole model: an encoder, a decoder and the latents between them."""

import dataclasses
from typing import Any, TypeVar

from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.config import ConfigError, check_fields, setting, with_article
from perceiver_jax.models.array_encoder import ArrayEncoderConfig
from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
)
from perceiver_jax.models.image_encoder import ImageEncoderConfig
from perceiver_jax.models.optical_flow_decoder import OpticalFlowDecoderConfig
from perceiver_jax.models.optical_flow_encoder import OpticalFlowEncoderConfig
from perceiver_jax.models.query_decoder import QueryDecoderConfig
from perceiver_jax.models.text_decoder import TextDecoderConfig
from perceiver_jax.models.text_encoder import TextEncoderConfig
from perceiver_jax.models.video_decoder import VideoDecoderConfig
from perceiver_jax.models.video_encoder import VideoEncoderConfig

AnyEncoderConfig = (
    ImageEncoderConfig
    | ArrayEncoderConfig
    | TextEncoderConfig
    | OpticalFlowEncoderConfig
    | VideoEncoderConfig
    | ModalityConfig
)
"""Encoders that a model can have; of a `ModalityConfig`, any subclass that has been imported."""
AnyDecoderConfig = (
    ClassificationDecoderConfig
    | MeanPoolDecoderConfig
    | QueryDecoderConfig
    | TextDecoderConfig
    | OpticalFlowDecoderConfig
    | VideoDecoderConfig
)
"""Decoders that a model can have."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerceiverConfig:
    """What a model is made of; which class it makes follows from the types of its two halves."""

    encoder: AnyEncoderConfig = setting(doc="from inputs to latents")
    decoder: AnyDecoderConfig = setting(doc="from latents to predictions")
    num_latents: int = setting(doc="latents N")
    num_latent_channels: int = setting(doc="latent channels D")

    def __post_init__(self):
        check_fields(self)


def half_of(config: Any, half: str) -> Any:
    """The "encoder" or "decoder" of a model's config, or all of it where it has no halves."""
    return getattr(config, half, config)


def check_half(half: Any, wanted: type[T], model: str) -> T:
    """The encoder or decoder config, or a ConfigError where `model` needs one of another type."""
    if not isinstance(half, wanted):
        raise ConfigError(f"{model} takes {with_article(wanted)}, not {with_article(type(half))}")
    return half
