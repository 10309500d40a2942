"""Text classifiers: token ids to the logits of one or several class queries."""

from typing import Any

from flax import nnx

from perceiver_jax.core import PerceiverIO
from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    classification_decoder,
)
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable
from perceiver_jax.models.text_encoder import TextEncoderConfig, text_encoder


class TextClassifier(PerceiverIO, Releasable):
    """Perceiver IO from token ids [B, M] and their mask to logits [B, classes], or [B, O, classes].

    Args:
        config: with a `TextEncoderConfig` and a `ClassificationDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §4.1 (GLUE); krasserm `TextClassifier`, transformers
    `PerceiverForSequenceClassification`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, TextEncoderConfig, "TextClassifier")
        decoder = check_half(config.decoder, ClassificationDecoderConfig, "TextClassifier")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            text_encoder(encoder, num_latents=config.num_latents, **latents),
            classification_decoder(decoder, **latents),
        )
