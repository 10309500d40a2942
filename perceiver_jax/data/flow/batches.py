"""Batches of pairs of frames with optical flow.

- `{"frames": [B, 2, H, W, 3] float32 in [-1, 1], "flow": [B, H, W, 2] float32, "valid": [B, H, W]
  bool}`; evaluation adds `"mask": [B]`, see `pipeline`. H and W are `image_size`.
- Flow is (dx, dy) in pixels, to the right and down, from the first frame to the second; it is 0
  where it is not valid.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import grain
import numpy as np

from perceiver_jax.data import pipeline
from perceiver_jax.data.flow import folders
from perceiver_jax.data.flow.augmentation import Pair, augmented, central_crop, check_size
from perceiver_jax.data.flow.config import FlowDataConfig
from perceiver_jax.data.flow.synthetic import ENDLESS, SyntheticPairs, noise_textures
from perceiver_jax.data.pipeline import Example, Shard
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split


class FlowSource(Protocol):
    """Pairs by index."""

    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """`{"frames": [2, h, w, 3] uint8, "flow": [h, w, 2] float32, "valid": [h, w] bool}`."""
        ...


@functools.lru_cache(maxsize=8)
def open_split(config: FlowDataConfig, split: str) -> FlowSource:
    """The source that a split is read from, opened once.

    Raises:
        DatasetError: it is not there, or not what the config says.
    """
    if config.dataset == "synthetic":
        return _synthetic(config, split)
    if config.dataset == "middlebury":
        # It reads files of `photos`, which is a command as well: see below.
        from perceiver_jax.data.flow.middlebury import Motorcycle

        return Motorcycle(split, config.data_dir)
    if config.data_dir is None:
        raise DatasetError(
            f"dataset '{config.dataset}' is a folder of yours; name it in --config.data.data_dir"
        )
    return folders.open_folder(config.dataset, config.data_dir, split, config.frame_pass)


def _synthetic(config: FlowDataConfig, split: str) -> SyntheticPairs:
    check_split(split, ("train", "val"))
    held_out = split == "val"
    if config.textures == "noise":
        textures = noise_textures(seed=int(held_out))
    else:
        # A module that is a command must not be imported when its package is.
        from perceiver_jax.data.flow.photos import load_photos

        textures = load_photos(split, config.data_dir, max_size=config.max_photo_size)
    return SyntheticPairs(
        textures,
        image_size=config.image_size,
        num_layers=config.num_layers,
        max_flow=config.max_flow,
        num_examples=config.num_eval_examples if held_out else ENDLESS,
        seed=int(held_out),
    )


def flow_batches(
    config: FlowDataConfig, *, training: bool, seed: int, shard: Shard
) -> grain.MapDataset:
    """Training or evaluation batches, see `pipeline`.

    Raises:
        DatasetError: the dataset or split is not there, does not end though it should, or its
            frames are smaller than `image_size`.
        UserError: a file of it cannot be read.
    """
    split = config.train_split if training else config.eval_split
    source = open_split(config, split)
    if training:
        _check_first(source, config)
        return pipeline.training_batches(
            source,
            _TrainingTransform(config),
            batch_size=config.batch_size,
            seed=seed,
            shard=shard,
        )
    if len(source) == ENDLESS:
        raise DatasetError(f"split '{split}' does not end; evaluate on eval_split='val'")
    _check_first(source, config)
    return pipeline.evaluation_batches(
        source, _EvaluationTransform(config), batch_size=config.eval_batch_size, shard=shard
    )


def _check_first(source: FlowSource, config: FlowDataConfig) -> None:
    """Before the work starts: most datasets have frames of one size."""
    check_size(source[0], config.image_size)


@dataclasses.dataclass(frozen=True)
class _EvaluationTransform:
    config: FlowDataConfig

    def __call__(self, example: Example) -> Example:
        return _ready(central_crop(example, self.config.image_size))


@dataclasses.dataclass(frozen=True)
class _TrainingTransform:
    config: FlowDataConfig

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        return _ready(augmented(example, self.config, rng))


def _ready(pair: Pair) -> Example:
    """Source: deepmind optical-flow colab `normalize`, pixels to [-1, 1]."""
    return {
        "frames": pair["frames"].astype(np.float32) / 255 * 2 - 1,
        "flow": np.ascontiguousarray(pair["flow"], np.float32),
        "valid": np.ascontiguousarray(pair["valid"]),
    }
