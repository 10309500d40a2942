"""Classifiers of any modality: Perceiver IO with a class query, and the original Perceiver.

- The modality is the encoder's config, a `ModalityConfig`, which makes the input adapter; sounds,
  point clouds and time series are here, and those that you bring yourself.
"""

from typing import Any

from flax import nnx

from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.config import part
from perceiver_jax.core import EncoderConfig, Perceiver, PerceiverEncoder, PerceiverIO
from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
    classification_decoder,
    mean_pool_head,
)
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable


class Classifier(PerceiverIO, Releasable):
    """Perceiver IO from inputs of one modality to logits [B, classes].

    Args:
        config: with a `ModalityConfig` and a `ClassificationDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §3 and §4.4, for other inputs.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        decoder = check_half(config.decoder, ClassificationDecoderConfig, "Classifier")
        super().__init__(
            modality_encoder(config, "Classifier", rngs=rngs),
            classification_decoder(
                decoder, num_latent_channels=config.num_latent_channels, rngs=rngs
            ),
        )


class PooledClassifier(Perceiver, Releasable):
    """The original Perceiver from inputs of one modality to logits [B, classes].

    Args:
        config: with a `ModalityConfig` and a `MeanPoolDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver §4.2 (sound) and §4.3 (point clouds).
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        decoder = check_half(config.decoder, MeanPoolDecoderConfig, "PooledClassifier")
        super().__init__(
            modality_encoder(config, "PooledClassifier", rngs=rngs),
            mean_pool_head(decoder, num_latent_channels=config.num_latent_channels, rngs=rngs),
        )


def modality_encoder(config: PerceiverConfig, model: str, *, rngs: nnx.Rngs) -> PerceiverEncoder:
    """The encoder of a model of some modality.

    Raises:
        ConfigError: the config's encoder is no `ModalityConfig`, which `model` takes.
    """
    encoder: Any = check_half(config.encoder, ModalityConfig, model)
    adapter = encoder.input_adapter(rngs=rngs)
    return PerceiverEncoder(
        input_adapter=adapter,
        num_latents=config.num_latents,
        num_latent_channels=config.num_latent_channels,
        rngs=rngs,
        **part(encoder, EncoderConfig),
    )
