"""Image classifiers: Perceiver IO with a class query, and the original Perceiver.

- The published DeepMind models are at the end, by name; they use the tanh form of GELU.
"""

from typing import Any

from flax import nnx

from perceiver_jax.core import Perceiver, PerceiverIO
from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
    classification_decoder,
    mean_pool_head,
)
from perceiver_jax.models.image_encoder import ImageEncoderConfig, image_encoder
from perceiver_jax.models.perceiver_config import PerceiverConfig, check_half
from perceiver_jax.models.release import Releasable


class ImageClassifier(PerceiverIO, Releasable):
    """Perceiver IO from images [B, H, W, c] to logits [B, classes].

    Args:
        config: with an `ImageEncoderConfig` and a `ClassificationDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver IO §4.4 and appendix A; krasserm `ImageClassifier`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, ImageEncoderConfig, "ImageClassifier")
        decoder = check_half(config.decoder, ClassificationDecoderConfig, "ImageClassifier")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            image_encoder(encoder, num_latents=config.num_latents, **latents),
            classification_decoder(decoder, **latents),
        )


class PooledImageClassifier(Perceiver, Releasable):
    """The original Perceiver from images [B, H, W, c] to logits [B, classes].

    Args:
        config: with an `ImageEncoderConfig` and a `MeanPoolDecoderConfig`.
        rngs: where initial values come from.

    Source: Perceiver §4.1; lucidrains `Perceiver`.
    """

    def __init__(self, config: PerceiverConfig, *, rngs: nnx.Rngs):
        self.config = config
        encoder = check_half(config.encoder, ImageEncoderConfig, "PooledImageClassifier")
        decoder = check_half(config.decoder, MeanPoolDecoderConfig, "PooledImageClassifier")
        latents: dict[str, Any] = {"num_latent_channels": config.num_latent_channels, "rngs": rngs}
        super().__init__(
            image_encoder(encoder, num_latents=config.num_latents, **latents),
            mean_pool_head(decoder, **latents),
        )


def imagenet_fourier(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's ImageNet model on pixels with Fourier features: 48,440,627 parameters."""
    return _imagenet({"num_frequency_bands": 64} | encoder_fields)


def imagenet_learned(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's ImageNet model with learned positions: 62,255,848 parameters."""
    fields: dict[str, Any] = {
        "preprocessing": "conv1x1",
        "num_preprocessing_channels": 256,
        "num_position_channels": 256,
    }
    return _imagenet(fields | encoder_fields, cross_attention_residual=False)


def imagenet_conv(**encoder_fields: Any) -> PerceiverConfig:
    """DeepMind's ImageNet model on a convolutional stem: 48,646,522 parameters."""
    fields = {
        "preprocessing": "conv",
        "num_preprocessing_channels": 64,
        "num_frequency_bands": 64,
    }
    return _imagenet(fields | encoder_fields)


def _imagenet(encoder_fields: dict[str, Any], **decoder_fields: Any) -> PerceiverConfig:
    """Perceiver IO config A with given preprocessing.

    Source: Perceiver IO table 7 and appendix A; deepmind ImageNet colab.
    """
    common: dict[str, Any] = {"activation": "gelu_tanh", "init_method": "variance_scaling"}
    encoder: dict[str, Any] = {
        "image_shape": (224, 224, 3),
        "num_cross_attention_heads": 1,
        "num_self_attention_heads": 8,
        "num_self_attention_layers_per_block": 6,
        "num_self_attention_blocks": 8,
    }
    decoder: dict[str, Any] = {
        "num_classes": 1000,
        "num_output_query_channels": 1024,
        "num_cross_attention_heads": 1,
    }
    return PerceiverConfig(
        encoder=ImageEncoderConfig(**(common | encoder | encoder_fields)),
        decoder=ClassificationDecoderConfig(**(common | decoder | decoder_fields)),
        num_latents=512,
        num_latent_channels=1024,
    )
