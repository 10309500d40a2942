"""What a video dataset is and what is done to it, as one config."""

import dataclasses
from typing import Literal

from perceiver_jax.config import check_fields, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDataConfig:
    """Videos with sound: where from, and which clips are made of them."""

    dataset: Literal["folder", "bunny", "synthetic"] = setting(
        doc="'folder' of video files, 'bunny' for a cartoon of five seconds, or 'synthetic'"
    )
    data_dir: str | None = setting(
        None,
        "of 'folder': that folder, either DIR/SPLIT/CLASS/*.mp4 as Kinetics or of files without "
        "classes; of 'bunny': where datasets lie, None: the default place",
    )
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting("test", "held-out split")
    batch_size: int = setting(8, "training clips per step, over all devices")
    eval_batch_size: int = setting(8, "held-out clips per step, over all devices")
    num_frames: int = setting(16, "frames of a clip")
    frame_rate: float = setting(25.0, "frames a second of a clip, whatever that of the file")
    image_size: tuple[int, int] = setting(
        (224, 224), "height and width of frames: the short side is resized to fit, the other cut"
    )
    num_samples: int = setting(
        30_720, "samples of sound of a clip; it lasts as long as the frames do"
    )
    sample_rate: int = setting(48_000, "samples of sound a second, whatever that of the file")
    num_classes: int = setting(700, "labels are below this; a dataset may have fewer classes")
    random_start: bool = setting(
        True, "whether training clips begin anywhere in a video; else they are from its middle"
    )
    random_crop: bool = setting(
        True, "whether training cuts frames anywhere on the long side; else in the middle"
    )
    random_flip: bool = setting(True, "whether training mirrors half of the clips")

    def __post_init__(self):
        check_fields(self)
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        if min(self.image_size) < 1:
            raise ValueError(f"image_size={self.image_size} must be 1 or more each way")
        if not 0.0 < self.frame_rate < float("inf") or self.sample_rate < 1:
            raise ValueError(
                f"frame_rate={self.frame_rate} and sample_rate={self.sample_rate} must be finite "
                "and above 0"
            )
        fitting = self.clip_seconds * self.sample_rate
        if abs(self.num_samples - fitting) >= 1:
            raise ValueError(
                f"num_samples={self.num_samples} at sample_rate={self.sample_rate} do not last as "
                f"long as num_frames={self.num_frames} at frame_rate={self.frame_rate}; "
                f"expected num_samples={round(fitting)}"
            )

    @property
    def clip_seconds(self) -> float:
        """How long a clip lasts."""
        return self.num_frames / self.frame_rate
