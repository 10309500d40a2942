"""Tasks: what is asked of a model, how it is scored, what is shown of it."""

from perceiver_jax.train.tasks.base import Media, Task
from perceiver_jax.train.tasks.causal_modelling import CausalModelling
from perceiver_jax.train.tasks.classification import Classification
from perceiver_jax.train.tasks.image_classification import ImageClassification
from perceiver_jax.train.tasks.masked_language_modelling import MaskedLanguageModelling
from perceiver_jax.train.tasks.optical_flow import OpticalFlowEstimation
from perceiver_jax.train.tasks.text_classification import TextClassification
from perceiver_jax.train.tasks.video_autoencoding import VideoAutoencoding

__all__ = [
    "AnyTask",
    "CausalModelling",
    "Classification",
    "ImageClassification",
    "MaskedLanguageModelling",
    "Media",
    "OpticalFlowEstimation",
    "Task",
    "TextClassification",
    "VideoAutoencoding",
]

AnyTask = (
    ImageClassification
    | MaskedLanguageModelling
    | TextClassification
    | CausalModelling
    | OpticalFlowEstimation
    | VideoAutoencoding
    | Classification
)
"""Tasks that an experiment can have; a new task is added to this union."""
