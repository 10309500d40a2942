"""Video with sound on the host: reading and writing files, and batches of clips."""

from perceiver_jax.data.video.batches import open_videos, video_batches
from perceiver_jax.data.video.config import VideoDataConfig
from perceiver_jax.data.video.containers import VideoError
from perceiver_jax.data.video.reading import Clip, ClipInfo, iterate_frames, probe, read_clip
from perceiver_jax.data.video.writing import write_video

__all__ = [
    "Clip",
    "ClipInfo",
    "VideoDataConfig",
    "VideoError",
    "iterate_frames",
    "open_videos",
    "probe",
    "read_clip",
    "video_batches",
    "write_video",
]
