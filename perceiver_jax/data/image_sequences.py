"""Images as sequences of bytes, one channel of a pixel after the other, for causal models.

- `{"ids", "targets": [B, L] int32, "positions": [B, L, 3] int32, "input_mask", "predicted":
  [B, L] bool}`, see `causal_rows`; evaluation adds `"mask": [B]`. L is the number of values of an
  image: ids are SOS and all values but the last, targets are all values.
- Positions are those of ids: x, y and channel, of SOS (1, 1, 1), of values from 2; 0 fills rows up.

Source: perceiver-ar `DownsampledImagenetWithPositionsDataset`, for which no EOS ends an image.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import cv2
import grain
import numpy as np

from perceiver_jax.config import setting
from perceiver_jax.data import pipeline, sources
from perceiver_jax.data.causal_rows import causal_row, fill_left
from perceiver_jax.data.marked_bytes import FIRST_VALUE_ID, PAD_ID, SOS_ID
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.preprocessing import resize, with_channels
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.synthetic import SyntheticImages

Ordering = Literal["pixels", "channels"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSequenceDataConfig:
    """Images as sequences: where from, of which size, and in which order."""

    dataset: str = setting(
        "tfds:downsampled_imagenet/64x64",
        "'mnist5k', 'digits', 'synthetic', or 'tfds:NAME' for a prepared TFDS dataset of images; "
        "labels are not read",
    )
    data_dir: str | None = setting(None, "where prepared datasets lie; None: the default place")
    train_split: str = setting("train", "split to train on")
    eval_split: str = setting("validation", "held-out split")
    batch_size: int = setting(64, "training images per step, over all devices")
    eval_batch_size: int = setting(128, "held-out images per step, over all devices")
    image_shape: tuple[int, int, int] = setting(
        (64, 64, 3),
        "height, width and channels (3 or 1); of images of another size the central part of this "
        "aspect is taken, and resized",
    )
    ordering: Ordering = setting(
        "pixels",
        "'pixels': all channels of a pixel, then the next one, row by row; 'channels': all pixels "
        "of the first channel, then the next one",
    )
    random_min_seq_len: int | None = setting(
        None,
        "training sees the beginnings of images, of a random number of values from this to all; "
        "None: whole images",
    )

    eval_block_size: int | None = setting(
        None,
        "evaluation makes a row of each block of so many values, which alone are predicted, and of "
        "all before them; None: one row of each image, of which a model predicts the end",
    )

    def __post_init__(self):
        if min(self.batch_size, self.eval_batch_size) < 1:
            raise ValueError(
                f"batch_size={self.batch_size} and eval_batch_size={self.eval_batch_size} must be "
                "1 or more"
            )
        if min(self.image_shape[:2]) < 1 or self.image_shape[2] not in (1, 3):
            raise ValueError(
                f"image_shape={self.image_shape} is none; expected height, width, and 3 or 1"
            )
        least = self.random_min_seq_len
        if least is not None and not 1 <= least <= self.max_seq_len:
            raise ValueError(f"random_min_seq_len={least} is not from 1 to {self.max_seq_len}")
        block = self.eval_block_size
        if block is not None and not 1 <= block <= self.max_seq_len:
            raise ValueError(f"eval_block_size={block} is not from 1 to {self.max_seq_len}")

    @property
    def max_seq_len(self) -> int:
        """L, the number of values of an image."""
        height, width, channels = self.image_shape
        return height * width * channels

    @property
    def position_sizes(self) -> tuple[int, int, int]:
        """How many values x, y and channel have, those of SOS and of filled places included."""
        height, width, channels = self.image_shape
        return width + 2, height + 2, channels + 2


def image_sequence_batches(
    config: ImageSequenceDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`.

    Raises:
        DatasetError: the dataset or split is not there, or has no images.
    """
    sequence = _Sequence(config)
    if training:
        return pipeline.training_batches(
            open_images(config, config.train_split),
            sequence.random,
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
        )
    return pipeline.evaluation_batches(
        _Blocks(open_images(config, config.eval_split), config),
        sequence.block,
        batch_size=config.eval_batch_size,
        shard=shard,
    )


def to_image(
    values: np.ndarray, image_shape: tuple[int, int, int], ordering: Ordering
) -> np.ndarray:
    """Ids of all values of an image [L] → [H, W, c] uint8; what stands for no value is black."""
    pixels = np.clip(np.asarray(values) - FIRST_VALUE_ID, 0, 255).astype(np.uint8)
    if ordering == "pixels":
        return pixels.reshape(image_shape)
    height, width, channels = image_shape
    return np.moveaxis(pixels.reshape(channels, height, width), 0, -1)


def positions(image_shape: tuple[int, int, int], ordering: Ordering) -> np.ndarray:
    """x, y and channel of SOS and of all values but the last, [L, 3] int32."""
    height, width, channels = image_shape
    y, x, channel = np.indices((height, width, channels), np.int32) + 2
    values = _flat(np.stack([x, y, channel], axis=-1), ordering)
    return np.concatenate([np.ones((1, 3), np.int32), values[:-1]])


def _flat(image: np.ndarray, ordering: Ordering) -> np.ndarray:
    """[H, W, c, ...] → [L, ...]."""
    if ordering == "channels":
        image = np.moveaxis(image, 2, 0)
    return image.reshape(-1, *image.shape[3:])


class _Blocks:
    """A source of images with the blocks of values to predict, `{"image", "block": (first, end)}`.

    Source: perceiver-ar `load_block_eval`.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, images: "Images", config: ImageSequenceDataConfig):
        self._images = images
        size, whole = config.eval_block_size or config.max_seq_len, config.max_seq_len
        self._blocks = [(first, min(first + size, whole)) for first in range(0, whole, size)]

    def __len__(self) -> int:
        return len(self._images) * len(self._blocks)

    def __getitem__(self, index: int) -> Example:
        image, block = divmod(index, len(self._blocks))
        return {"image": self._images[image]["image"], "block": self._blocks[block]}


@dataclasses.dataclass(frozen=True)
class _Sequence:
    config: ImageSequenceDataConfig

    def block(self, example: Example) -> Example:
        """All values up to the end of a block, and whether they are of it."""
        first, end = example["block"]
        row = self._row(example["image"], end)
        row["predicted"][: len(row["predicted"]) - (end - first)] = False
        return row

    def random(self, example: Example, rng: np.random.Generator) -> Example:
        """A random beginning, where one is asked for.

        Source: perceiver-ar `generate_crops`, for rows no longer than the context. Where a model
        predicts the last tokens alone, each value of an image is among them at some time.
        """
        most, least = self.config.max_seq_len, self.config.random_min_seq_len
        return self._row(example["image"], int(rng.integers(least or most, most + 1)))

    def _row(self, image: np.ndarray, length: int) -> Example:
        most, ordering = self.config.max_seq_len, self.config.ordering
        values = _flat(_fitted(image, self.config.image_shape), ordering)[:length]
        tokens = np.concatenate([[SOS_ID], values.astype(np.int32) + FIRST_VALUE_ID])
        places = self._positions[:length]
        return {
            **causal_row(tokens, length=most, pad_id=PAD_ID),
            "positions": fill_left(places, most, 0),
        }

    @functools.cached_property
    def _positions(self) -> np.ndarray:
        return positions(self.config.image_shape, self.config.ordering)


def _fitted(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """[h, w, c] uint8 → [*shape] uint8."""
    image = with_channels(image, shape[-1])
    if image.shape[:2] == shape[:2]:
        return image
    height, width = image.shape[:2]
    scale = min(height / shape[0], width / shape[1])
    rows, columns = (max(1, round(scale * size)) for size in shape[:2])
    top, left = (height - rows) // 2, (width - columns) // 2
    return resize(image[top : top + rows, left : left + columns], shape[:2], "area")


class Images(Protocol):
    """Images by index."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """`{"image": [H, W, c] uint8}`, and what else there may be."""
        ...


@functools.lru_cache(maxsize=8)
def open_images(config: ImageSequenceDataConfig, split: str) -> Images:
    """The source that a split is read from, opened once.

    Raises:
        DatasetError: it is not there, or has no images.
    """
    scheme, _, rest = config.dataset.partition(":")
    if config.dataset == "synthetic":
        return SyntheticImages(
            image_shape=config.image_shape,
            num_classes=10,
            num_examples=4 * config.batch_size,
            seed=split != config.train_split,
        )
    if scheme == "tfds" and rest:
        return _UnlabelledImages(rest, split, config.data_dir)
    return sources.load(config.dataset, split, config.data_dir, train_split=config.train_split)


class _UnlabelledImages:
    """Images of a dataset prepared with TensorFlow Datasets, whatever else it has."""

    class_names: tuple[str, ...] = ()

    def __init__(self, name: str, split: str, data_dir: str | None):
        import tensorflow_datasets as tfds

        from perceiver_jax.data.tfds import open_records

        decoders = {"image": tfds.decode.SkipDecoding()}
        builder, self._records = open_records(name, split, data_dir, decoders=decoders)
        features = builder.info.features
        if "image" not in features:
            raise DatasetError(
                f"dataset 'tfds:{name}' has the features {', '.join(features)}; image sequences "
                "need 'image'"
            )
        if not len(self._records):
            raise DatasetError(
                f"split '{split}' of dataset 'tfds:{name}' has no examples; choose another"
            )
        grey = features["image"].shape[-1] == 1
        self._flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        encoded = np.frombuffer(self._records[index]["image"], np.uint8)
        image = cv2.imdecode(encoded, self._flag)
        if image is None:
            raise DatasetError(
                f"example {index} of {self._records} holds no readable image; "
                "prepare the dataset again"
            )
        return {"image": np.atleast_3d(image)}
