"""Random crops, scales, flips and colours of pairs, and their flow with them.

- Flow keeps its meaning: it scales with the frames and turns its sign with them.
- Flow is interpolated only between pixels where it is known and differs by less than one pixel;
  elsewhere the nearest pixel's is taken. So no flow arises that no surface has.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from perceiver_jax.data.flow.config import FlowDataConfig
from perceiver_jax.data.sources import DatasetError

cv2.setNumThreads(0)

Pair = Mapping[str, np.ndarray]
"""`{"frames": [2, h, w, 3] uint8, "flow": [h, w, 2] float32, "valid": [h, w] bool}`."""


def central_crop(pair: Pair, size: tuple[int, int]) -> Pair:
    """The part of that height and width in the middle.

    Raises:
        DatasetError: the frames are smaller.
    """
    check_size(pair, size)
    height, width = pair["valid"].shape
    return _cut(pair, (height - size[0]) // 2, (width - size[1]) // 2, size)


def check_size(pair: Pair, size: tuple[int, int]) -> None:
    """Raises a DatasetError for frames that are smaller than crops of them."""
    height, width = pair["valid"].shape
    if height < size[0] or width < size[1]:
        raise DatasetError(
            f"frames of {height}×{width} pixels are smaller than crops of {size[0]}×{size[1]}; "
            "lower --config.data.image_size"
        )


def augmented(pair: Pair, config: FlowDataConfig, rng: np.random.Generator) -> Pair:
    """A random crop of `config.image_size`, changed in all the ways that the config asks for.

    Raises:
        DatasetError: the frames are smaller.
    """
    pair = random_crop(pair, config.image_size, config.max_scale, rng)
    if config.random_flip and rng.random() < 0.5:
        pair = flipped(pair)
    if config.random_vertical_flip and rng.random() < 0.1:
        pair = upside_down(pair)
    return {**pair, "frames": recoloured(pair["frames"], config, rng)}


def random_crop(
    pair: Pair, size: tuple[int, int], max_scale: float, rng: np.random.Generator
) -> Pair:
    """A part of frames that are made larger or smaller by a factor of up to 1 + `max_scale`.

    Raises:
        DatasetError: the frames are smaller.
    """
    check_size(pair, size)
    shape = pair["valid"].shape
    smallest = max(1 / (1 + max_scale), size[0] / shape[0], size[1] / shape[1])
    scale = np.exp(rng.uniform(np.log(smallest), np.log(1 + max_scale)))
    part = tuple(
        min(whole, max(1, round(side / scale))) for whole, side in zip(shape, size, strict=True)
    )
    top, left = (int(rng.integers(a - b + 1)) for a, b in zip(shape, part, strict=True))
    return resized(_cut(pair, top, left, (part[0], part[1])), size)


def _cut(pair: Pair, top: int, left: int, size: tuple[int, int]) -> Pair:
    rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
    return {
        "frames": pair["frames"][:, rows, columns],
        "flow": pair["flow"][rows, columns],
        "valid": pair["valid"][rows, columns],
    }


def resized(pair: Pair, size: tuple[int, int]) -> Pair:
    """The pair with frames of another height and width."""
    height, width = pair["valid"].shape
    if (height, width) == size:
        return pair
    target = (size[1], size[0])
    smaller = size[0] < height
    frames = [
        cv2.resize(
            np.ascontiguousarray(frame),
            target,
            interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR,
        )
        for frame in pair["frames"]
    ]
    flow, valid = np.ascontiguousarray(pair["flow"]), pair["valid"].astype(np.uint8)
    nearest = cv2.resize(flow, target, interpolation=cv2.INTER_NEAREST_EXACT)
    between = cv2.resize(flow, target, interpolation=cv2.INTER_LINEAR)
    smooth = cv2.resize(_smooth(flow, valid), target, interpolation=cv2.INTER_NEAREST_EXACT)
    mask = cv2.resize(valid, target, interpolation=cv2.INTER_NEAREST_EXACT)
    factors = np.array([size[1] / width, size[0] / height], np.float32)
    return {
        "frames": np.stack(frames),
        "flow": np.where(smooth[..., None] > 0, between, nearest) * factors,
        "valid": mask > 0,
    }


def _smooth(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """1 where all 3×3 pixels are valid and their flow differs by less than a pixel; uint8."""
    window = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(flow, window) - cv2.erode(flow, window)
    whole = np.asarray(cv2.erode(valid, window)) > 0
    return ((spread < 1).all(-1) & whole).astype(np.uint8)


def flipped(pair: Pair) -> Pair:
    """Left to right."""
    return {
        "frames": pair["frames"][:, :, ::-1],
        "flow": pair["flow"][:, ::-1] * np.array([-1, 1], np.float32),
        "valid": pair["valid"][:, ::-1],
    }


def upside_down(pair: Pair) -> Pair:
    """Top to bottom."""
    return {
        "frames": pair["frames"][:, ::-1],
        "flow": pair["flow"][::-1] * np.array([1, -1], np.float32),
        "valid": pair["valid"][::-1],
    }


def recoloured(frames: np.ndarray, config: FlowDataConfig, rng: np.random.Generator) -> np.ndarray:
    """[2, h, w, 3] uint8 with other brightness, contrast, saturation and hue."""
    if not (config.brightness or config.contrast or config.saturation or config.hue):
        return frames
    if rng.random() < config.asymmetric_colors:
        return np.stack([_recoloured(frame, config, rng) for frame in frames])
    rows = frames.reshape(-1, *frames.shape[2:])
    return _recoloured(rows, config, rng).reshape(frames.shape)


def _recoloured(image: np.ndarray, config: FlowDataConfig, rng: np.random.Generator) -> np.ndarray:
    image = np.ascontiguousarray(image)
    strengths = np.array([config.brightness, config.contrast, config.saturation])
    brightness, contrast, saturation = 1 + strengths * rng.uniform(-1, 1, 3)
    turn = round(256 * config.hue * rng.uniform(-1, 1))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    middle = brightness * grey.mean()
    levels = middle + contrast * (brightness * np.arange(256) - middle)
    image = cv2.LUT(image, np.clip(np.round(levels), 0, 255).astype(np.uint8))
    if config.saturation:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    if turn:
        colors = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        colors[..., 0] += np.uint8(turn % 256)  # the circle of hues has 256 parts
        image = cv2.cvtColor(colors, cv2.COLOR_HSV2RGB_FULL)
    return image
