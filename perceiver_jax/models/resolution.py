"""Image models at another resolution than they were trained at.

- Fourier features go on with the frequencies of training: only the grid of positions gets finer or
  coarser between -1 and 1.
- A table of learned positions has one row per pixel; it can be interpolated.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from perceiver_jax.adapters.conv_stem import stem_grid
from perceiver_jax.errors import UserError
from perceiver_jax.models.image_encoder import ImageEncoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.models.release import Release

POSITIONS = "encoder/input_adapter/positions"


def at(
    released: Release, image_size: tuple[int, int], *, interpolate_positions: bool = False
) -> Release:
    """The same model for images of another size.

    Args:
        released: an image model.
        image_size: new height and width.
        interpolate_positions: whether a table of learned positions may be interpolated (bicubic).

    Raises:
        UserError: it is no image model, has learned positions that may not be interpolated, or
            the size is not two positive whole numbers.
    """
    encoder = half_of(released.config, "encoder")
    if not isinstance(encoder, ImageEncoderConfig):
        raise UserError(
            f"a model whose encoder is of {type(encoder).__name__} takes no images, so it has no "
            "image_size"
        )
    if not _is_size(image_size):
        raise UserError(
            f"image_size={image_size!r} is no height and width; give two whole numbers from 1 on, "
            "as in (224, 224)"
        )
    old_size = encoder.image_shape[:2]
    if tuple(image_size) == old_size:
        return released
    changes: dict[str, Any] = {"image_shape": (*image_size, encoder.image_shape[-1])}
    arrays = dict(released.arrays)
    if encoder.preprocessing == "conv1x1":
        if not interpolate_positions:
            raise UserError(
                f"this model has learned positions for images of {old_size}, not {image_size}; "
                "resize the images, or allow interpolate_positions=True"
            )
        arrays[POSITIONS] = interpolated(arrays[POSITIONS], old_size, image_size)
    elif encoder.num_frequency_bands and encoder.max_resolution is None:
        changes["max_resolution"] = tuple(map(float, token_grid(encoder)))
    config = dataclasses.replace(released.config, encoder=dataclasses.replace(encoder, **changes))
    card = released.card
    if card.preprocessing is not None:
        shape = changes["image_shape"]
        preprocessing = dataclasses.replace(card.preprocessing, image_shape=shape)
        card = dataclasses.replace(card, preprocessing=preprocessing)
    return Release(config=config, arrays=arrays, card=card)


def token_grid(encoder: ImageEncoderConfig) -> tuple[int, int]:
    """Rows and columns of tokens that an image becomes."""
    height, width, _ = encoder.image_shape
    if encoder.preprocessing == "conv":
        return stem_grid((height, width), encoder.conv_padding)
    side = encoder.patch_size or 1
    return height // side, width // side


def interpolated(
    table: np.ndarray, old_size: tuple[int, int], new_size: tuple[int, int]
) -> np.ndarray:
    """[H·W, P] positions of one grid as [H'·W', P] of another, bicubic, antialiased."""
    grid = np.asarray(table).reshape(*old_size, -1)
    resized = jax.image.resize(grid, (*new_size, grid.shape[-1]), "bicubic")
    return np.asarray(resized).reshape(math.prod(new_size), -1)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in size)
    )
