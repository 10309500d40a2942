"""Images of any size as tiles of one size, and tiles of flow as one field.

- Tiles overlap; where they do, flow is averaged with weights that grow with the distance to the
  tile's border.
- Images smaller than a tile are continued by repeating their border.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

MIN_OVERLAP = 20
"""Pixels that neighbouring tiles share at least."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Where the tiles of an image lie.

    Attributes:
        image_size: height and width of the image.
        tile_size: those of a tile.
        min_overlap: pixels that neighbouring tiles share at least.

    Raises:
        ValueError: the overlap is not less than a tile.

    Source: deepmind optical flow colab, `compute_grid_indices`.
    Differs: the colab moves only the last tile back to the border, so that for some sizes (widths
    of 953 to 971, say) the one before it hangs over; and a size of one tile gives the same tile
    twice.
    """

    image_size: tuple[int, int]
    tile_size: tuple[int, int]
    min_overlap: int = MIN_OVERLAP

    def __post_init__(self):
        if not 0 <= self.min_overlap < min(self.tile_size):
            raise ValueError(
                f"tiles of {self.tile_size[0]}×{self.tile_size[1]} cannot overlap by "
                f"{self.min_overlap}; take 0 or more, and less than their sides"
            )

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width of the image continued to at least one tile."""
        height, width = (
            max(size, tile) for size, tile in zip(self.image_size, self.tile_size, strict=True)
        )
        return height, width

    @property
    def places(self) -> list[tuple[int, int]]:
        """Row and column where each tile begins, row by row."""
        rows, columns = (
            _starts(size, tile, self.min_overlap)
            for size, tile in zip(self.padded_size, self.tile_size, strict=True)
        )
        return [(row, column) for row in rows for column in columns]

    def cut(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """[..., H, W, c] → tiles [..., h, w, c], in the order of their places."""
        missing = [p - s for p, s in zip(self.padded_size, self.image_size, strict=True)]
        if any(missing):
            width = [(0, 0)] * images.ndim
            width[-3], width[-2] = (0, missing[0]), (0, missing[1])
            images = np.pad(images, width, mode="edge")
        height, width = self.tile_size
        for row, column in self.places:
            yield images[..., row : row + height, column : column + width, :]

    def blend(self, tiles: Iterator[np.ndarray], num_channels: int = 2) -> np.ndarray:
        """Tiles [h, w, c], in the order of their places → [H, W, c] weighted means."""
        weights = border_distance(self.tile_size)[:, :, None]
        height, width = self.tile_size
        total, weight = (
            np.zeros((*self.padded_size, num_channels)),
            np.zeros((*self.padded_size, 1)),
        )
        for (row, column), tile in zip(self.places, tiles, strict=True):
            here = (slice(row, row + height), slice(column, column + width))
            total[here] += tile * weights
            weight[here] += weights
        whole = total / weight
        return whole[: self.image_size[0], : self.image_size[1]].astype(np.float32)


def border_distance(size: tuple[int, int]) -> np.ndarray:
    """[h, w] distance to the nearest border, 1 at the border itself."""
    rows, columns = (np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in size)
    return np.minimum(rows[:, None], columns[None]).astype(np.float64)


def _starts(size: int, tile: int, min_overlap: int) -> list[int]:
    """Where tiles along an axis begin: as far apart as they may be, the last at the end."""
    last = size - tile
    step = tile - min_overlap
    return [*(i * step for i in range(math.ceil(last / step))), last]
