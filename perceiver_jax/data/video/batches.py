"""Video batches: clips with their sound, for models of several modalities.

- `{"image": [B, T, H, W, 3] float32 in [0, 1], "audio": [B, S, 1] float32 in [-1, 1], "label":
  [B] int32}`; evaluation adds `"mask": [B]`, see `pipeline`.
- Evaluation takes the clip in the middle of each video, and the middle of its frames.
- A file whose header promises more than there is gives clips of what there is; one that is shorter
  than a clip is an error.
"""

import dataclasses
import functools

import grain
import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.video.config import VideoDataConfig
from perceiver_jax.data.video.reading import CENTRE, Clip, EndsBeforeClip
from perceiver_jax.data.video.videos import Video, VideoSource


@functools.lru_cache(maxsize=8)
def open_videos(config: VideoDataConfig, split: str) -> VideoSource:
    """The videos of a split, opened once.

    Raises:
        DatasetError: the dataset or split is not there, or has more classes than `num_classes`.
    """
    source = _open(config, split)
    if len(source.class_names) > config.num_classes:
        raise DatasetError(
            f"split '{split}' of dataset '{config.dataset}' has {len(source.class_names)} classes; "
            f"raise --config.data.num_classes, which is {config.num_classes}"
        )
    return source


def _open(config: VideoDataConfig, split: str) -> VideoSource:
    if config.dataset == "synthetic":
        from perceiver_jax.data.video.synthetic import SyntheticVideos

        return SyntheticVideos(
            num_videos=4 * config.batch_size,
            num_classes=config.num_classes,
            seed=split != config.train_split,
        )
    if config.dataset == "bunny":
        from perceiver_jax.data.video.bunny import Bunny

        return Bunny(split, config.clip_seconds, config.data_dir)
    from perceiver_jax.data.video.folders import VideoFolder

    if config.data_dir is None:
        raise DatasetError("dataset 'folder' needs a folder; name it: --config.data.data_dir")
    return VideoFolder(config.data_dir, split)


def video_batches(
    config: VideoDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`.

    Raises:
        DatasetError: the dataset or split is not there, or not what the config says.
        VideoError: when a batch is read: a file of it cannot be, or is too short.
    """
    if training:
        return pipeline.training_batches(
            open_videos(config, config.train_split),
            _RandomClip(config),
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
        )
    return pipeline.evaluation_batches(
        open_videos(config, config.eval_split),
        _MiddleClip(config),
        batch_size=config.eval_batch_size,
        shard=shard,
    )


@dataclasses.dataclass(frozen=True)
class _MiddleClip:
    config: VideoDataConfig

    def __call__(self, example: Example) -> Example:
        return _clip(example, self.config, 0.5, CENTRE, flip=False)


@dataclasses.dataclass(frozen=True)
class _RandomClip:
    config: VideoDataConfig

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        # Always four numbers, so that one choice does not change what the others draw.
        when, down, right, mirrored = rng.random(4)
        return _clip(
            example,
            self.config,
            when if self.config.random_start else 0.5,
            (down, right) if self.config.random_crop else CENTRE,
            flip=self.config.random_flip and mirrored < 0.5,
        )


@functools.lru_cache(maxsize=16)
def _read(video: Video, config: VideoDataConfig, start_s: float, crop: tuple[float, float]) -> Clip:
    """A clip; a run that learns a few by heart decodes each of them once."""
    return video.clip(config, start_s, crop)


def _clip(
    example: Example,
    config: VideoDataConfig,
    when: float,
    crop: tuple[float, float],
    *,
    flip: bool,
) -> Example:
    """An example ready; `when` is how far between the first and the last start there is."""
    video: Video = example["video"]
    first, end = video.span()

    def until(end: float) -> Clip:
        # Of a video that is too short, whoever reads it says so.
        start = first + when * max(0.0, end - config.clip_seconds - first)
        return _read(video, config, start, crop)

    try:
        clip = until(end)
    except EndsBeforeClip as error:
        clip = until(min(end, error.end_s))
    frames = clip.frames[:, :, ::-1] if flip else clip.frames
    return {
        "image": np.float32(frames) / np.float32(255),
        "audio": clip.sound,
        "label": np.int32(example["label"]),
    }
