"""Tasks: what is asked of a model, how it is scored, what is shown of it."""

from perceiver_jax.train.tasks.base import Media, Task
from perceiver_jax.train.tasks.image_classification import ImageClassification

__all__ = ["AnyTask", "ImageClassification", "Media", "Task"]

AnyTask = ImageClassification
"""Tasks that an experiment can have; a new task is added to this union."""
