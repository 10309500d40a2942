"""Data on the host: sources of examples and the pipeline that batches them. NumPy out, no JAX."""

from perceiver_jax.data.flow.config import FlowDataConfig
from perceiver_jax.data.images import ImageDataConfig, image_batches
from perceiver_jax.data.labelled import LabelledDataConfig
from perceiver_jax.data.music.config import MusicDataConfig
from perceiver_jax.data.pipeline import Shard
from perceiver_jax.data.sources import DatasetError, Source
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.video.config import VideoDataConfig

__all__ = [
    "DatasetError",
    "FlowDataConfig",
    "ImageDataConfig",
    "LabelledDataConfig",
    "MusicDataConfig",
    "Shard",
    "Source",
    "TextDataConfig",
    "VideoDataConfig",
    "image_batches",
]
