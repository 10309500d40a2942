"""End models: adapters and core put together, each with its config."""

import jax
from flax import nnx

from perceiver_jax import params
from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.config import ConfigError
from perceiver_jax.core import ResamplerConfig
from perceiver_jax.core.arguments import check_key
from perceiver_jax.models.array_encoder import ArrayEncoderConfig
from perceiver_jax.models.array_perceiver import ArrayPerceiver, ArrayPerceiverIO
from perceiver_jax.models.causal_sequence_model import (
    CausalSequenceConfig,
    CausalSequenceModel,
    ar_copy,
    ar_imagenet64,
    ar_rotary,
    causal_bytes,
    causal_subwords,
    symbolic_audio_giantmidi,
    symbolic_audio_maestro,
)
from perceiver_jax.models.classification_decoder import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
)
from perceiver_jax.models.classifier import Classifier, PooledClassifier
from perceiver_jax.models.image_classifier import (
    ImageClassifier,
    PooledImageClassifier,
    imagenet_conv,
    imagenet_fourier,
    imagenet_learned,
)
from perceiver_jax.models.image_encoder import ImageEncoderConfig
from perceiver_jax.models.masked_language_model import MaskedLanguageModel, language_perceiver
from perceiver_jax.models.modality_perceiver_io import ModalityPerceiverIO
from perceiver_jax.models.optical_flow import OpticalFlow, optical_flow_perceiver
from perceiver_jax.models.optical_flow_decoder import OpticalFlowDecoderConfig
from perceiver_jax.models.optical_flow_encoder import OpticalFlowEncoderConfig
from perceiver_jax.models.perceiver_config import PerceiverConfig
from perceiver_jax.models.query_decoder import QueryDecoderConfig
from perceiver_jax.models.resampler import Resampler, flamingo_resampler, idefics2_resampler
from perceiver_jax.models.text_classifier import TextClassifier
from perceiver_jax.models.text_decoder import TextDecoderConfig
from perceiver_jax.models.text_encoder import TextEncoderConfig
from perceiver_jax.models.video_autoencoder import VideoAutoencoder, video_perceiver
from perceiver_jax.models.video_decoder import VideoDecoderConfig
from perceiver_jax.models.video_encoder import VideoEncoderConfig
from perceiver_jax.typing import Key, Model

__all__ = [
    "MODELS",
    "AnyModelConfig",
    "ArrayEncoderConfig",
    "ArrayPerceiver",
    "ArrayPerceiverIO",
    "CausalSequenceConfig",
    "CausalSequenceModel",
    "ClassificationDecoderConfig",
    "Classifier",
    "ImageClassifier",
    "ImageEncoderConfig",
    "MaskedLanguageModel",
    "MeanPoolDecoderConfig",
    "ModalityPerceiverIO",
    "OpticalFlow",
    "OpticalFlowDecoderConfig",
    "OpticalFlowEncoderConfig",
    "PerceiverConfig",
    "PooledClassifier",
    "PooledImageClassifier",
    "QueryDecoderConfig",
    "Resampler",
    "ResamplerConfig",
    "TextClassifier",
    "TextDecoderConfig",
    "TextEncoderConfig",
    "VideoAutoencoder",
    "VideoDecoderConfig",
    "VideoEncoderConfig",
    "ar_copy",
    "ar_imagenet64",
    "ar_rotary",
    "build",
    "causal_bytes",
    "causal_subwords",
    "fixed_parameters",
    "flamingo_resampler",
    "idefics2_resampler",
    "imagenet_conv",
    "imagenet_fourier",
    "imagenet_learned",
    "language_perceiver",
    "model_class",
    "optical_flow_perceiver",
    "skeleton",
    "symbolic_audio_giantmidi",
    "symbolic_audio_maestro",
    "video_perceiver",
]

MODELS = {
    (ImageEncoderConfig, ClassificationDecoderConfig): ImageClassifier,
    (ImageEncoderConfig, MeanPoolDecoderConfig): PooledImageClassifier,
    (ArrayEncoderConfig, MeanPoolDecoderConfig): ArrayPerceiver,
    (ArrayEncoderConfig, QueryDecoderConfig): ArrayPerceiverIO,
    (TextEncoderConfig, TextDecoderConfig): MaskedLanguageModel,
    (TextEncoderConfig, ClassificationDecoderConfig): TextClassifier,
    (OpticalFlowEncoderConfig, OpticalFlowDecoderConfig): OpticalFlow,
    (VideoEncoderConfig, VideoDecoderConfig): VideoAutoencoder,
    (ModalityConfig, ClassificationDecoderConfig): Classifier,
    (ModalityConfig, MeanPoolDecoderConfig): PooledClassifier,
    (ModalityConfig, QueryDecoderConfig): ModalityPerceiverIO,
}
"""Which class a config makes, by the types of its encoder and decoder."""


AnyModelConfig = PerceiverConfig | CausalSequenceConfig | ResamplerConfig
"""Configs that a model can be made of."""


def model_class(config: AnyModelConfig) -> type:
    """The class that a config makes.

    Raises:
        ValueError: this is no config of a model, or there is none with these two halves.
    """
    if isinstance(config, CausalSequenceConfig):
        return CausalSequenceModel
    if isinstance(config, ResamplerConfig):
        return Resampler
    if not isinstance(config, PerceiverConfig):
        raise ValueError(
            f"{type(config).__name__} is no config of a model; give a PerceiverConfig, a "
            "CausalSequenceConfig or a ResamplerConfig, such as models.imagenet_fourier()"
        )
    for (encoder, decoder), model in MODELS.items():
        if isinstance(config.encoder, encoder) and isinstance(config.decoder, decoder):
            return model
    halves = f"{type(config.encoder).__name__} + {type(config.decoder).__name__}"
    known = ", ".join(f"{e.__name__} + {d.__name__}" for e, d in MODELS)
    raise ValueError(f"no model has {halves}; there are: {known}")


def build(config: AnyModelConfig, key: Key) -> Model:
    """The model that a config describes, with fresh parameters.

    Args:
        config: what the model is made of.
        key: random key of the initial values.

    Raises:
        ValueError: there is no model with these two halves, or this is no key.
    """
    check_key(key)
    return model_class(config)(config, rngs=_Rngs(key))


def skeleton(config: AnyModelConfig) -> params.Skeleton:
    """The structure and parameter shapes of the model that a config describes.

    Raises:
        ConfigError: it cannot be built.
    """
    try:
        return params.skeleton(lambda: build(config, jax.random.key(0)))
    except ValueError as error:
        raise ConfigError(f"config.model: {error}") from error


def fixed_parameters(config: AnyModelConfig) -> tuple[str, ...]:
    """Regular expressions of parameters that no training may change."""
    return config.fixed if isinstance(config, CausalSequenceConfig) else ()


class _Rngs(nnx.Rngs):
    """The same keys as `nnx.Rngs(key)` gives, counted outside of what JAX traces.

    A traced count makes each key a function of all before it, and flax looks through all of them
    at every key: the time to trace a model then grows with the square of its depth.
    """

    def __init__(self, key: Key):
        super().__init__()
        self.default = _Stream(key, tag="default")


class _Stream(nnx.RngStream):
    def __init__(self, key: Key, *, tag: str):
        super().__init__(key, tag=tag)
        self.drawn = 0

    def __call__(self) -> Key:
        """The next key."""
        key = jax.random.fold_in(self.key[...], self.drawn)
        self.drawn += 1
        return key
