"""What a model is, in words: for messages to those who took another than a task needs."""

from perceiver_jax import models
from perceiver_jax.models import AnyModelConfig

KINDS = {
    models.ImageClassifier: "a classifier of images",
    models.PooledImageClassifier: "a classifier of images",
    models.TextClassifier: "a classifier of texts",
    models.Classifier: "a classifier",
    models.PooledClassifier: "a classifier",
    models.MaskedLanguageModel: "a masked language model",
    models.CausalSequenceModel: "a causal model",
    models.OpticalFlow: "a model of optical flow",
    models.VideoAutoencoder: "a video autoencoder",
    models.ArrayPerceiver: "a model of arrays",
    models.ArrayPerceiverIO: "a model of arrays",
    models.ModalityPerceiverIO: "a model that answers queries",
    models.Resampler: "a resampler",
}
"""Of the class of a model."""


def kind_of(config: AnyModelConfig) -> str:
    """The model that a config makes, such as "a classifier of images (ImageEncoderConfig)"."""
    part = getattr(config, "encoder", config)
    return f"{KINDS[models.model_class(config)]} ({type(part).__name__})"
