"""Image batches: read, crop, augment, normalise, mix.

- Batches are `{"image": [B, H, W, c] float32, "label": [B] int32}`. Training with mixed images adds
  `"target": [B, classes] float32`, where `"label"` is the first image's; evaluation adds `"mask"`.
- All of it happens on the host and draws from the generator of its row, so that a batch is a
  function of seed and position.
"""

import dataclasses
import functools
import math
from typing import Literal

import cv2
import grain
import numpy as np

from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import pipeline, sources
from perceiver_jax.data.image_folders import ImageFolder
from perceiver_jax.data.mixing import Mixing, mix, mixed_target, way_of
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.preprocessing import (
    central_square,
    normalize,
    normalize_bytes,
    preprocess,
    resize,
    resize_unclamped,
)
from perceiver_jax.data.rand_augment import MAX_MAGNITUDE, RandAugment
from perceiver_jax.data.synthetic import SyntheticImages

# Reader threads work side by side already; OpenCV's own would only fight them.
cv2.setNumThreads(0)

CROP = 224 / 256
"""Side of the central square of evaluation, as a fraction of the short side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDataConfig:
    """Labelled images: where from, and what is done to them."""

    dataset: str = setting(
        doc="'mnist5k', 'digits', 'synthetic', 'folder' for DIR/SPLIT/CLASS/*.jpg and others in "
        "data_dir, or 'tfds:NAME' for a prepared TFDS dataset"
    )
    data_dir: str | None = setting(
        None, "where prepared datasets lie, or the folder of 'folder'; None: the default place"
    )
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting("test", "held-out split")
    batch_size: int = setting(64, "training examples per step, over all devices")
    eval_batch_size: int = setting(256, "held-out examples per step, over all devices")
    image_size: tuple[int, int] | None = setting(
        None,
        "height and width to crop and resize to: random crops in training, the centre (224/256 of "
        "the short side) in evaluation; None takes images as they are",
    )
    resampling: Literal["area", "bicubic"] = setting(
        "area",
        "'area', means of areas where images shrink; or 'bicubic' without antialias, as DeepMind "
        "does it: Keys' in training, which leaves [0, 255], and OpenCV's in evaluation",
    )
    mean: tuple[float, ...] = setting((0.5,), "subtracted from pixels in [0, 1], per channel")
    std: tuple[float, ...] = setting((0.5,), "divided by after that, per channel")
    max_shift: float = setting(0.0, "random shift in training, up to this many pixels")
    max_rotation: float = setting(0.0, "random rotation in training, up to this many degrees")
    max_scale: float = setting(0.0, "random zoom in training, up to this fraction in or out")
    max_shear: float = setting(0.0, "random horizontal shear in training, up to this fraction")
    random_flip: bool = setting(False, "whether training mirrors half of the images")
    rand_augment_layers: int = setting(
        0, "operations of RandAugment on each image in training, one after the other; 0: none"
    )
    rand_augment_magnitude: float = setting(5.0, "of all operations of RandAugment, in [0, 10]")
    mixing: Mixing = setting(
        "none",
        "how training mixes an image and its label with another's: 'mixup', 'cutmix', or "
        "'mixup_cutmix', each in half of a batch",
    )
    mixup_alpha: float = setting(
        0.2, "MixUp draws shares from Beta(alpha, alpha): small keeps images apart, 1 is uniform"
    )
    synthetic_shape: tuple[int, int, int] = setting(
        (32, 32, 3), "height, width, channels of 'synthetic' images"
    )
    synthetic_classes: int = setting(10, "classes of 'synthetic' images")

    def __post_init__(self):
        check_fields(self)
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        if self.image_size is not None and min(self.image_size) < 1:
            raise ValueError(f"image_size={self.image_size} must be 1 or more each way")
        if self.synthetic_classes < 1:
            raise ValueError(f"synthetic_classes={self.synthetic_classes} must be 1 or more")
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be above 0")
        if self.rand_augment_layers < 0:
            raise ValueError(f"rand_augment_layers={self.rand_augment_layers} must be 0 or more")
        if not 0 <= self.rand_augment_magnitude <= MAX_MAGNITUDE:
            raise ValueError(
                f"rand_augment_magnitude={self.rand_augment_magnitude} is not in [0, 10]"
            )
        if not 0 < self.mixup_alpha < math.inf:
            raise ValueError(f"mixup_alpha={self.mixup_alpha} must be finite and above 0")

    def preprocessing(self, image_shape: tuple[int, int, int]) -> ImagePreprocessing:
        """What evaluation does with an image of that shape before the model sees it."""
        height, width, channels = image_shape
        size = self.image_size or (height, width)
        return ImagePreprocessing(
            image_shape=(*size, channels),
            crop=None if self.image_size is None else CROP,
            mean=self.mean,
            std=self.std,
            resampling="area" if self.resampling == "area" else "opencv",
        )


@functools.lru_cache(maxsize=8)
def open_split(config: ImageDataConfig, split: str) -> sources.Source:
    """The source that a split is read from, opened once.

    Raises:
        DatasetError: it is not there, has no examples, or is a folder of images of several sizes
            that are to be taken as they are.
    """
    if config.dataset == "synthetic":
        return SyntheticImages(
            image_shape=config.synthetic_shape,
            num_classes=config.synthetic_classes,
            num_examples=4 * config.batch_size,
            seed=split != config.train_split,
        )
    source = sources.load(config.dataset, split, config.data_dir, train_split=config.train_split)
    if config.image_size is None and isinstance(source, ImageFolder):
        source.check_sizes()
    return source


def image_batches(
    config: ImageDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`."""
    if training:
        source = open_split(config, config.train_split)
        batches = pipeline.training_batches(
            source,
            _TrainingTransform(config, source),
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
            numbered=config.mixing == "mixup_cutmix",
        )
        return batches.map(functools.partial(_finished, config))
    return pipeline.evaluation_batches(
        open_split(config, config.eval_split),
        _EvaluationTransform(config),
        batch_size=config.eval_batch_size,
        shard=shard,
    )


@dataclasses.dataclass(frozen=True)
class _EvaluationTransform:
    config: ImageDataConfig

    def __call__(self, example: Example) -> Example:
        image = example["image"]
        how = self.config.preprocessing(image.shape)
        return {"image": preprocess(image, how), "label": np.int32(example["label"])}


@dataclasses.dataclass(frozen=True)
class _TrainingTransform:
    config: ImageDataConfig
    source: sources.Source

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image, label = self._augment(example["image"], rng), np.int32(example["label"])
        way = way_of(self.config.mixing, example.get(pipeline.ROW, 0), self.config.batch_size)
        if way is None:
            # Bytes are normalised when they are a batch, which costs less.
            image = image if image.dtype == np.uint8 else self._normalized(image)
            return {"image": image, "label": label}
        image = self._normalized(image)
        other = self.source[int(rng.integers(len(self.source)))]
        image, share = mix(
            image,
            self._normalized(self._augment(other["image"], rng)),
            way,
            mixup_alpha=self.config.mixup_alpha,
            rng=rng,
        )
        num_classes = len(self.source.class_names)
        target = mixed_target(example["label"], other["label"], share, num_classes)
        return {"image": image, "label": label, "target": target}

    def _augment(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[h, w, c] uint8 → [H, W, c] uint8, or float32 where it leaves the range of bytes."""
        config = self.config
        if config.image_size is not None:
            image = random_crop(image, rng)
        if config.random_flip and rng.random() < 0.5:
            image = mirrored(image)
        image = RandAugment(config.rand_augment_layers, config.rand_augment_magnitude)(image, rng)
        if config.image_size is not None:
            image = (
                resize(image, config.image_size, "area")
                if config.resampling == "area"
                else resize_unclamped(image, config.image_size)
            )
        return random_warp(image, config, rng)

    def _normalized(self, image: np.ndarray) -> np.ndarray:
        return normalize(image, self.config.mean, self.config.std)


def _finished(config: ImageDataConfig, batch: Example) -> Example:
    """A batch of which images that are bytes yet are normalised."""
    images = batch["image"]
    if images.dtype != np.uint8:
        return batch
    return {**batch, "image": normalize_bytes(images, config.mean, config.std)}


def random_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part of 10 to 100 % of the area, with an aspect of 3/4 to 4/3.

    The aspect is drawn first, then a height, from the heights of that aspect that lie in the image
    and have an area of 8 % or more, then the place. Where ten tries give less than 10 %, or one
    gives the whole image, it is the central square of evaluation.

    Source: Inception crop; deepmind `train/dataset.py`, which takes TensorFlow's
    `sample_distorted_bounding_box`.
    """
    height, width = image.shape[:2]
    area = height * width
    for _ in range(10):
        aspect = rng.uniform(3 / 4, 4 / 3)
        most = min(height, round(np.sqrt(area / aspect)), int((width + 0.5) / aspect))
        least = min(most, round(np.sqrt(0.08 * area / aspect)))
        h = int(rng.integers(least, most + 1))
        w = min(width, round(h * aspect))
        if h * w == area:
            break
        if h * w >= 0.1 * area:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return image[top : top + h, left : left + w]
    return central_square(image, CROP)


def mirrored(image: np.ndarray) -> np.ndarray:
    """[h, w, c] uint8, left and right exchanged: a copy, which costs less than a view later."""
    return cv2.flip(image, 1).reshape(image.shape)


def random_warp(image: np.ndarray, config: ImageDataConfig, rng: np.random.Generator) -> np.ndarray:
    """Rotates, scales, shears and shifts about the centre, all at once; the border is black."""
    if not (config.max_shift or config.max_rotation or config.max_scale or config.max_shear):
        return image
    height, width = image.shape[:2]
    angle = np.deg2rad(rng.uniform(-config.max_rotation, config.max_rotation))
    scale = 1.0 + rng.uniform(-config.max_scale, config.max_scale)
    shear = rng.uniform(-config.max_shear, config.max_shear)
    shift = rng.uniform(-config.max_shift, config.max_shift, 2)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([linear, center + shift - linear @ center])
    return np.atleast_3d(cv2.warpAffine(image, matrix, (width, height)))
