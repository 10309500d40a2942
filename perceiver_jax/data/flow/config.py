"""What a dataset of optical flow is and what is done to it, as one config."""

import dataclasses
from typing import Literal

from perceiver_jax.config import check_fields, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowDataConfig:
    """Pairs of frames with flow: where from, and how crops of them are made ready."""

    dataset: Literal[
        "synthetic", "middlebury", "sintel", "kitti2015", "flying_chairs", "flying_things"
    ] = setting(
        doc="'synthetic': endless pairs of moving photos; 'middlebury': the one pair 'motorcycle', "
        "to evaluate on; or a folder of Sintel, KITTI 2015, FlyingChairs or FlyingThings3D"
    )
    data_dir: str | None = setting(
        None,
        "the dataset's own folder; of 'synthetic' and 'middlebury', where prepared datasets lie, "
        "None: the default place",
    )
    train_split: str = setting("train", "split to train on; 'all' where there is no other")
    eval_split: str = setting("val", "held-out split")
    frame_pass: Literal["clean", "final"] = setting(
        "clean", "which rendering of 'sintel' and 'flying_things'"
    )
    batch_size: int = setting(16, "training pairs per step, over all devices")
    eval_batch_size: int = setting(16, "held-out pairs per step, over all devices")
    image_size: tuple[int, int] = setting(
        (368, 496), "height and width of crops, at random in training, of the centre in evaluation"
    )
    max_scale: float = setting(
        0.0,
        "training zooms in or out by a random factor up to 1 + this, out only as far as the crop "
        "is still inside the frames",
    )
    random_flip: bool = setting(False, "whether training mirrors half of the pairs left to right")
    random_vertical_flip: bool = setting(
        False, "whether training turns a tenth of the pairs upside down"
    )
    brightness: float = setting(
        0.0, "training multiplies brightness by 1 - this to 1 + this, in [0, 1)"
    )
    contrast: float = setting(
        0.0, "training multiplies contrast by 1 - this to 1 + this, in [0, 1)"
    )
    saturation: float = setting(
        0.0, "training multiplies saturation by 1 - this to 1 + this, in [0, 1)"
    )
    hue: float = setting(
        0.0, "training turns colours by up to this part of the circle, in [0, 0.5]"
    )
    asymmetric_colors: float = setting(
        0.0, "part of training pairs whose two frames change colours by themselves, in [0, 1]"
    )
    textures: Literal["photos", "noise"] = setting(
        "photos",
        "what moves in 'synthetic' pairs: photos, fetched once by "
        "`python -m perceiver_jax.data.flow.photos`; or coloured noise, for which no file is read",
    )
    max_photo_size: int = setting(
        768,
        "photos of 'synthetic' pairs are shrunk until neither side is longer, in pixels; small "
        "frames show something of small photos only",
    )
    num_layers: int = setting(
        8, "most things that move before the background of 'synthetic' pairs", minimum=0
    )
    max_flow: float = setting(80.0, "longest flow of 'synthetic' pairs, in pixels")
    num_eval_examples: int = setting(256, "pairs of the held-out split of 'synthetic'")

    def __post_init__(self):
        check_fields(self)
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        if min(self.image_size) < 8:
            raise ValueError(f"image_size={self.image_size} must be 8 or more each way")
        if not 0.0 <= self.max_scale <= 4.0:
            raise ValueError(f"max_scale={self.max_scale} is not in [0, 4]")
        for name in ("brightness", "contrast", "saturation"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is not in [0, 1)")
        if not 0.0 <= self.hue <= 0.5:
            raise ValueError(f"hue={self.hue} is not in [0, 0.5]")
        if not 0.0 <= self.asymmetric_colors <= 1.0:
            raise ValueError(f"asymmetric_colors={self.asymmetric_colors} is not in [0, 1]")
        if self.max_photo_size < 16:
            raise ValueError(f"max_photo_size={self.max_photo_size} must be 16 or more")
        if not 0.0 < self.max_flow <= 1000.0:
            raise ValueError(f"max_flow={self.max_flow} is no length in pixels, in (0, 1000]")
