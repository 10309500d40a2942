"""Seeded images that carry their label, for smoke runs and tests of models of any size."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class SyntheticImages:
    """Noise whose brightness tells the class.

    Args:
        image_shape: (H, W, c).
        num_classes: classes.
        num_examples: how many there are.
        seed: examples of different seeds differ.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        num_examples: int,
        seed: int = 0,
    ):
        self.image_shape, self.num_examples, self.seed = image_shape, num_examples, seed
        self.class_names = tuple(str(i) for i in range(num_classes))

    def __len__(self) -> int:
        return self.num_examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self.seed, index))
        label = int(rng.integers(len(self.class_names)))
        brightness = 32 + 160 * label // len(self.class_names)
        image = rng.integers(0, 64, self.image_shape, np.uint8) + np.uint8(brightness)
        return {"image": image, "label": label}
