"""From a picture to what a model takes: crop, resize, normalise.

- Pictures are [h, w, 3 or 1] uint8, channels last.
- OpenCV's and Pillow's bicubic resampling differ, and so does the corner of the crop by a pixel:
  each model gets what it was published with.
"""

from typing import Any

import cv2
import numpy as np

from perceiver_jax.card import ImagePreprocessing, Resampling
from perceiver_jax.errors import UserError


def preprocess(picture: np.ndarray, how: ImagePreprocessing) -> np.ndarray:
    """A picture [h, w, 3 or 1] uint8 → [H, W, c] float32.

    Raises:
        UserError: it is no such array.

    Source: deepmind ImageNet colab; Hugging Face `PerceiverImageProcessor` for "pillow".
    """
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3) or picture.dtype != np.uint8:
        raise UserError(
            f"a picture of shape {list(picture.shape)} and type {picture.dtype} cannot be "
            "preprocessed; give [height, width, 3 or 1] of type uint8"
        )
    picture = with_channels(picture, how.image_shape[-1])
    if how.crop is not None:
        picture = central_square(picture, how.crop, round_up=how.resampling != "pillow")
    if picture.shape[:2] != how.image_shape[:2]:
        picture = resize(picture, how.image_shape[:2], how.resampling)
    return normalize(picture, how.mean, how.std)


def with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    """Grey to colours by repetition, colours to grey by their luma."""
    if picture.shape[-1] == channels:
        return picture
    if channels == 1:
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None]
    return np.repeat(picture, channels, axis=-1)


def central_square(picture: np.ndarray, fraction: float, *, round_up: bool = True) -> np.ndarray:
    """The square in the middle, with a side of that fraction of the short side.

    Args:
        picture: [h, w, c].
        fraction: in (0, 1]; the side is rounded down.
        round_up: where an odd number of pixels is left over, whether the larger half lies before
            the square (DeepMind) or behind it (Hugging Face).
    """
    height, width = picture.shape[:2]
    side = max(1, int(fraction * min(height, width)))
    top, left = ((size - side + round_up) // 2 for size in (height, width))
    return picture[top : top + side, left : left + side]


def resize(picture: np.ndarray, size: tuple[int, int], resampling: Resampling) -> np.ndarray:
    """[h, w, c] uint8 → [*size, c] uint8; see `ImagePreprocessing.resampling`."""
    height, width = size
    if resampling == "pillow":
        return _resize_by_pillow(picture, height, width)
    shrinks = picture.shape[0] > height
    how = cv2.INTER_AREA if resampling == "area" and shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=how)
    return resized.reshape(height, width, -1)


def _resize_by_pillow(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    channels = [
        Image.fromarray(picture[..., i]).resize((width, height), Image.Resampling.BICUBIC)
        for i in range(picture.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def resize_unclamped(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w, c] → [*size, c] float32, bicubic without antialias, by Keys' kernel.

    At edges it goes beyond the range of the picture, and stays there.

    Source: deepmind ImageNet training, TensorFlow's `resize` with "bicubic".
    Differs: positions are not rounded to 1024ths of a pixel.
    """
    height, width = size
    return _transposed(_resize_rows(_transposed(_resize_rows(picture, height)), width))


def _transposed(picture: np.ndarray) -> np.ndarray:
    """[h, w, c] → [w, h, c]; several times as fast as NumPy's copy of swapped axes."""
    height, width, channels = picture.shape
    return cv2.transpose(picture).reshape(width, height, channels)


def _resize_rows(picture: np.ndarray, wanted: int) -> np.ndarray:
    """[h, ...] → [wanted, ...] float32; each row is a mean of four, weighted by Keys' kernel."""
    length = len(picture)
    positions = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
    taken = np.floor(positions) + np.arange(-1, 3)[:, None]
    x = np.abs(positions - taken)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = np.where(x < 1, near, far) * ((taken >= 0) & (taken < length))
    weights = (weights / weights.sum(0)).astype(np.float32)[:, :, None]
    rows = np.clip(taken, 0, length - 1).astype(int)
    flat = picture.reshape(length, -1)
    resized = weights[0] * flat[rows[0]]
    for i in (1, 2, 3):
        resized += weights[i] * flat[rows[i]]
    return resized.reshape(wanted, *picture.shape[1:])


def normalize(image: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """[H, W, c] of values in [0, 255] → float32, `(pixel / 255 - mean) / std`."""
    height, width, channels = image.shape
    # A row at a time: NumPy is slow where the last axis is as short as that of colours.
    rows = image.reshape(height, -1).astype(np.float32)
    mean, std = (np.tile(np.broadcast_to(np.float32(x), channels), width) for x in (mean, std))
    rows /= np.float32(255)
    rows -= mean
    rows /= std
    return rows.reshape(image.shape)


def normalize_bytes(images: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """What `normalize` makes of [..., W, c] uint8, by a table; with large batches in less time."""
    width, channels = images.shape[-2:]
    values = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], channels, axis=-1)
    table = normalize(values, mean, std)
    if channels not in (1, 3):
        return table[0][images, np.arange(channels)]
    return cv2.LUT(images.reshape(-1, width, channels), table).reshape(images.shape)


def denormalize(image: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """The inverse of `normalize`, clipped to uint8."""
    pixels = (np.asarray(image) * np.asarray(std) + np.asarray(mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
