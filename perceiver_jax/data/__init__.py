"""Data on the host: sources of examples and the pipeline that batches them. NumPy out, no JAX."""

from perceiver_jax.data.audio.config import AudioDataConfig
from perceiver_jax.data.flow.config import FlowDataConfig
from perceiver_jax.data.images import ImageDataConfig, image_batches
from perceiver_jax.data.labelled import LabelledDataConfig
from perceiver_jax.data.music.config import MusicDataConfig
from perceiver_jax.data.pipeline import Shard
from perceiver_jax.data.point_clouds.config import PointCloudDataConfig
from perceiver_jax.data.sources import DatasetError, Source
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.time_series.config import TimeSeriesDataConfig
from perceiver_jax.data.video.config import VideoDataConfig

__all__ = [
    "AudioDataConfig",
    "DatasetError",
    "FlowDataConfig",
    "ImageDataConfig",
    "LabelledDataConfig",
    "MusicDataConfig",
    "PointCloudDataConfig",
    "Shard",
    "Source",
    "TextDataConfig",
    "TimeSeriesDataConfig",
    "VideoDataConfig",
    "image_batches",
]
