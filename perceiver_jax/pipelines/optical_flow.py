"""Pairs of pictures of any size to optical flow."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from perceiver_jax.errors import UserError
from perceiver_jax.models import OpticalFlowEncoderConfig
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.pipelines.flow_tiles import MIN_OVERLAP, Tiles
from perceiver_jax.pipelines.model_kinds import kind_of
from perceiver_jax.pretrained import Source, as_release


class OpticalFlowEstimation:
    """A model of optical flow, applied tile by tile.

    Args:
        source: a workdir, `FORMAT:PATH-OR-HUB-ID`, or the model.
        batch_size: tiles that the model sees at once, of one pair or of several.
        min_overlap: pixels that neighbouring tiles share at least.

    Raises:
        UserError: it is no model of optical flow, or the numbers make no sense.
    """

    def __init__(self, source: Source, *, batch_size: int = 1, min_overlap: int | None = None):
        release = as_release(source)
        encoder = half_of(release.config, "encoder")
        if not isinstance(encoder, OpticalFlowEncoderConfig):
            raise UserError(
                f"{kind_of(release.config)} does not estimate optical flow; take a model of "
                "optical flow (OpticalFlowEncoderConfig)"
            )
        self.tile_size: tuple[int, int] = encoder.image_shape
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} tiles is too small; take 1 or more")
        if min_overlap is None:
            # A small model's tiles may be no larger than the usual overlap.
            min_overlap = min(MIN_OVERLAP, min(self.tile_size) // 4)
        if not 0 <= min_overlap < min(self.tile_size):
            raise UserError(
                f"tiles of {self.tile_size[0]}×{self.tile_size[1]} cannot overlap by {min_overlap} "
                "pixels; take 0 or more, and less than their sides"
            )
        self.model = release.model()
        self.batch_size = batch_size
        self.min_overlap = min_overlap

    def __call__(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        """Yields the flow of each pair, [H, W, 2] float32 pixels (dx, dy), first to second.

        Pairs are taken as they are needed to fill a batch: memory does not grow with their number.

        Args:
            pairs: two pictures [H, W, 3] uint8 of one size.

        Raises:
            UserError: the pictures of a pair are not such, when it is reached.
        """
        layouts: deque[Tiles] = deque()

        def cut() -> Iterator[np.ndarray]:
            for first, second in pairs:
                layouts.append(self.tiles(checked_pair(first, second)))
                yield from layouts[-1].cut(np.stack([first, second]))

        flows = self._flows(cut())
        for flow in flows:
            tiles = layouts.popleft()
            others = itertools.islice(flows, len(tiles.places) - 1)
            yield tiles.blend(itertools.chain([flow], others))

    def tiles(self, image_size: tuple[int, int]) -> Tiles:
        """How pictures of a size are cut."""
        return Tiles(image_size, self.tile_size, self.min_overlap)

    def _flows(self, tiles: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """[2, h, w, 3] uint8 tiles → their flow [h, w, 2]."""
        for part in _batches(tiles, self.batch_size):
            # Always the same batch size, so that the model is compiled once.
            filled = part + part[:1] * (self.batch_size - len(part))
            batch = np.stack(filled).astype(np.float32) / 255.0 * 2.0 - 1.0
            yield from np.asarray(_predict(self.model, batch))[: len(part)]


def _batches(tiles: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Lists of so many tiles; shorter are the last, and one before a pair that cannot be used."""
    part: list[np.ndarray] = []
    try:
        for tile in tiles:
            part.append(tile)
            if len(part) == size:
                yield part
                part = []
    except UserError:
        if part:
            yield part
        raise
    if part:
        yield part


@jax.jit
def _predict(model, frames):
    return model(frames)


def checked_pair(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Height and width of both pictures.

    Raises:
        UserError: they are not of one size, have no three colours, or are not of 8 bits.
    """
    for picture in (first, second):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise UserError(
                f"a picture of shape {list(picture.shape)} and type {picture.dtype} is not [height,"
                " width, 3] of 8 bits; convert it to RGB"
            )
    if first.shape != second.shape:
        sizes = " and ".join(f"{one.shape[0]}×{one.shape[1]}" for one in (first, second))
        raise UserError(
            f"the two pictures are of {sizes}; flow is from one to another of the same size, so "
            "resize or crop one of them"
        )
    return first.shape[0], first.shape[1]
