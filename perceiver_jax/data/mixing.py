"""MixUp and CutMix: of two images one, which belongs to both classes.

- MixUp (arXiv:1710.09412) fades one image into the other.
- CutMix (arXiv:1905.04899) shows a part of one in the other.
- The share of an image is also that of its label.

Source: deepmind `train/dataset.py`.
"""

from typing import Literal

import numpy as np

Mixing = Literal["none", "mixup", "cutmix", "mixup_cutmix"]
Way = Literal["mixup", "cutmix"]


def way_of(mixing: Mixing, row: int, batch_size: int) -> Way | None:
    """How a row of a batch is mixed; "mixup_cutmix" is MixUp in the first half, CutMix after it."""
    if mixing == "none":
        return None
    if mixing == "mixup_cutmix":
        return "mixup" if 2 * row < batch_size else "cutmix"
    return mixing


def mix(
    first: np.ndarray,
    second: np.ndarray,
    way: Way,
    *,
    mixup_alpha: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Mixes two images.

    Args:
        first: [H, W, c] float.
        second: the same.
        way: which of the two.
        mixup_alpha: the share of MixUp is drawn from Beta(alpha, alpha).
        rng: draws.

    Returns:
        The image [H, W, c], and the first's share in it, in [0, 1].
    """
    if way == "mixup":
        share = rng.beta(mixup_alpha, mixup_alpha)
        return share * first + (1 - share) * second, share
    height, width = first.shape[:2]
    rows, columns = random_box(height, width, rng)
    mixed = second.copy()
    mixed[rows, columns] = first[rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, area / (height * width)


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of CutMix: a centre drawn from all pixels, an area drawn from all areas.

    What lies outside of the image is cut off, so that boxes are smaller than they were drawn.
    """
    row, column = rng.integers((height, width))
    side = np.sqrt(rng.uniform())
    boxes = []
    for centre, length in ((row, height), (column, width)):
        half = int(side * length) // 2
        boxes.append(slice(max(0, int(centre) - half), min(length, int(centre) + half)))
    return boxes[0], boxes[1]


def mixed_target(label: int, other: int, share: float, num_classes: int) -> np.ndarray:
    """[num_classes] float32 with the share at one label and the rest at the other."""
    target = np.zeros(num_classes, np.float32)
    target[label] = share
    target[other] += 1 - share
    return target
