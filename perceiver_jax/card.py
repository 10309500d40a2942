"""What a user of weights has to know: class names, preprocessing, where they come from."""

import dataclasses
import math
from typing import Literal

from perceiver_jax.config import setting

Resampling = Literal["opencv", "pillow", "area"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """How a picture becomes a model's input; `data.preprocessing.preprocess` does it.

    The defaults are those of DeepMind's three ImageNet models.
    """

    image_shape: tuple[int, int, int] = setting((224, 224, 3), "height, width, channels")
    crop: float | None = setting(
        224 / 256,
        "side of the central square that is kept, as a fraction of the short side; None keeps the "
        "whole picture",
    )
    mean: tuple[float, ...] = setting(IMAGENET_MEAN, "subtracted from pixels in [0, 1], by channel")
    std: tuple[float, ...] = setting(IMAGENET_STD, "divided by after that, by channel")
    resampling: Resampling = setting(
        "opencv",
        "bicubic as OpenCV does it (DeepMind), Pillow's with antialias (Hugging Face), or 'area', "
        "means of areas where a picture shrinks (training runs here)",
    )

    def __post_init__(self):
        channels = self.image_shape[-1]
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, channels):
                raise ValueError(
                    f"preprocessing.{name}={values} has {len(values)} numbers for images of "
                    f"{channels} channels; give one, or one for each"
                )
            if not all(map(math.isfinite, values)):
                raise ValueError(f"preprocessing.{name}={values} is not of finite numbers")
        if min(self.std) <= 0:
            raise ValueError(
                f"preprocessing.std={self.std} divides pixels; its numbers must be greater than 0"
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(
                f"preprocessing.crop={self.crop}, but a fraction of the short side lies in "
                "(0, 1]; None keeps the whole picture"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPreprocessing:
    """How a text becomes a model's input; `data.text.tokenizers` does it."""

    tokenizer: str = setting(
        "bytes", "'bytes', UTF-8 with ids from 6 on; or the name of a file that goes with the model"
    )
    add_special_tokens: bool = setting(
        False,
        "whether a text stands between [CLS] and [SEP] (Hugging Face), or alone (DeepMind)",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MusicPreprocessing:
    """How music becomes a model's input; `data.music.encode` does it."""

    every_velocity: bool = setting(
        False,
        "whether each note has an event of velocity (krasserm), or only one that differs from that "
        "of the note before",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoPreprocessing:
    """How a video becomes a model's input; `data.video.read_clip` does it.

    The defaults are those of DeepMind's video autoencoder.
    """

    frame_rate: float = setting(25.0, "frames a second")
    sample_rate: int = setting(48_000, "samples of sound a second")

    def __post_init__(self):
        for name in ("frame_rate", "sample_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"video.{name}={getattr(self, name)} must be finite and above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model besides its config and parameters."""

    labels: tuple[str, ...] = setting((), "names of the classes; empty if not known")
    preprocessing: ImagePreprocessing | None = setting(
        None, "from a picture to the model's input; None if not known"
    )
    text: TextPreprocessing | None = setting(
        None, "from a text to the model's input; None if not known, or for other inputs"
    )
    music: MusicPreprocessing | None = setting(
        None, "from notes to the model's input; None if not known, or for other inputs"
    )
    video: VideoPreprocessing | None = setting(
        None, "from a video to the model's input; None if not known, or for other inputs"
    )
    origin: str | None = setting(None, "where the weights come from")
    licence: str | None = setting(None, "licence of the weights; None: that of their origin")
