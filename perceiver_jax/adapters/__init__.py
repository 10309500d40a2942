"""Modalities: input adapters turn arrays into tokens, output adapters turn answers into results."""

from perceiver_jax.adapters.array import ArrayInputAdapter
from perceiver_jax.adapters.audio import (
    WaveformConfig,
    WaveformHead,
    WaveformInputAdapter,
)
from perceiver_jax.adapters.base import InputAdapter, ModalityConfig, OutputAdapter
from perceiver_jax.adapters.classification import ClassificationOutputAdapter
from perceiver_jax.adapters.coordinates import CoordinateQueryAdapter
from perceiver_jax.adapters.image import (
    ConvImageInputAdapter,
    ImageInputAdapter,
    LearnedImageInputAdapter,
    PatchImageInputAdapter,
)
from perceiver_jax.adapters.label import LabelHead, LabelInputAdapter
from perceiver_jax.adapters.multimodal import MultimodalHeads, MultimodalInputAdapter
from perceiver_jax.adapters.optical_flow import (
    OpticalFlowInputAdapter,
    OpticalFlowOutputAdapter,
)
from perceiver_jax.adapters.point_cloud import PointCloudConfig, PointCloudInputAdapter
from perceiver_jax.adapters.queries import GivenQueriesOutputAdapter
from perceiver_jax.adapters.sequence import LinearLogits, SequenceEmbedding, TiedLogits
from perceiver_jax.adapters.spectrogram import SpectrogramConfig, SpectrogramInputAdapter
from perceiver_jax.adapters.text import (
    TiedTokenOutputAdapter,
    TokenInputAdapter,
    TokenOutputAdapter,
)
from perceiver_jax.adapters.time_series import TimeSeriesConfig, TimeSeriesInputAdapter
from perceiver_jax.adapters.video import VideoHead, VideoInputAdapter

__all__ = [
    "ArrayInputAdapter",
    "ClassificationOutputAdapter",
    "ConvImageInputAdapter",
    "CoordinateQueryAdapter",
    "GivenQueriesOutputAdapter",
    "ImageInputAdapter",
    "InputAdapter",
    "LabelHead",
    "LabelInputAdapter",
    "LearnedImageInputAdapter",
    "LinearLogits",
    "ModalityConfig",
    "MultimodalHeads",
    "MultimodalInputAdapter",
    "OpticalFlowInputAdapter",
    "OpticalFlowOutputAdapter",
    "OutputAdapter",
    "PatchImageInputAdapter",
    "PointCloudConfig",
    "PointCloudInputAdapter",
    "SequenceEmbedding",
    "SpectrogramConfig",
    "SpectrogramInputAdapter",
    "TiedLogits",
    "TiedTokenOutputAdapter",
    "TimeSeriesConfig",
    "TimeSeriesInputAdapter",
    "TokenInputAdapter",
    "TokenOutputAdapter",
    "VideoHead",
    "VideoInputAdapter",
    "WaveformConfig",
    "WaveformHead",
    "WaveformInputAdapter",
]
