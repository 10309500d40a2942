"""Endless pairs of frames whose flow is known exactly: photos that move before other photos.

- Pair i of a seed is always the same. Each draws its layers, their outlines and motions.
- A layer moves by a `Motion`, given on the first frame in closed form. Flow of a pixel of the first
  frame is the motion of the topmost layer that covers at least half of it.
- The second frame is rendered through the inverse of each motion, right to 0.001 pixels.
- Flow is valid everywhere, also where what is seen disappears behind a layer or out of the frame.

Source: after AutoFlow (Sun et al. 2021), on whose data the published Perceiver IO was trained.
Differs: photos, shapes and motions are other ones, drawn from fixed ranges.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from perceiver_jax.data.flow.layers import Layer, Outline, random_outline
from perceiver_jax.data.flow.motion import Motion, Rectangle, random_motion

cv2.setNumThreads(0)

ENDLESS = 2**30
"""Length of a source that does not end: as far as orders are shuffled by position."""


class SyntheticPairs:
    """Pairs by index, `{"frames": [2, H, W, 3] uint8, "flow": [H, W, 2], "valid": [H, W]}`.

    Args:
        textures: [h, w, 3] uint8 each, what is seen of layers and background.
        image_size: H and W.
        num_layers: most layers before the background; there are 0 to so many.
        max_flow: the longest flow, in pixels.
        num_examples: how many pairs there are.
        seed: pairs of different seeds differ.
    """

    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        textures: Sequence[np.ndarray],
        *,
        image_size: tuple[int, int],
        num_layers: int,
        max_flow: float,
        num_examples: int = ENDLESS,
        seed: int = 0,
    ):
        self._textures, self._image_size = tuple(textures), image_size
        self._num_layers, self._max_flow = num_layers, max_flow
        self._num_examples, self._seed = num_examples, seed

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self._seed, index))
        layers = [self._layer(None, rng)]
        for _ in range(rng.integers(self._num_layers + 1)):
            layers.append(self._layer(random_outline(self._image_size, rng), rng))
        return render(layers, self._image_size)

    def _layer(self, outline: Outline | None, rng: np.random.Generator) -> Layer:
        height, width = self._image_size
        whole = Rectangle(0, 0, width, height)
        extent = outline.extent if outline else whole
        centre = np.array(
            [extent.left + (extent.width - 1) / 2, extent.top + (extent.height - 1) / 2]
        )
        texture = self._textures[rng.integers(len(self._textures))]
        motion = random_motion(centre, self._max_flow, rng)
        return Layer(
            texture=_recoloured(texture, rng),
            view=_random_view(centre, texture.shape[:2], rng),
            motion=_limited(motion, extent.intersection(whole), self._max_flow),
            outline=outline,
        )


def render(layers: Sequence[Layer], image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Two frames and the flow from the first to the second, of layers from bottom to top."""
    frames = np.zeros((2, *image_size, 3), np.uint8)
    flow = np.zeros((*image_size, 2), np.float32)
    for layer in layers:
        layer.paint_first(frames[0], flow)
        layer.paint_second(frames[1])
    return {"frames": frames, "flow": flow, "valid": np.ones(image_size, bool)}


def _limited(motion: Motion, region: Rectangle, max_flow: float) -> Motion:
    """The motion, made smaller where it moves a pixel of a region too far."""
    if region.empty:
        return motion
    longest = np.sqrt(np.square(motion.displacement(region)).sum(-1).max())
    # A little less than allowed, for float32's sake.
    return motion if longest < max_flow else motion.scaled(0.9999 * max_flow / longest)


def _random_view(
    centre: np.ndarray, texture_size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """[2, 3]: about a point of the texture turned, perhaps mirrored, magnified once to twice."""
    turn, step = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.0)
    mirror = rng.choice([-1.0, 1.0])
    cos, sin = step * np.cos(turn), step * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]]) * (mirror, 1.0)
    target = rng.uniform(0, 1, 2) * texture_size[::-1]
    return np.column_stack([linear, target - linear @ centre])


def _recoloured(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With channels exchanged, each brighter or darker than it was."""
    levels = np.arange(256)[:, None] / 255
    gains, gammas = rng.uniform(0.7, 1.2, 3), np.exp(rng.uniform(-0.4, 0.4, 3))
    table = np.clip(255 * gains * levels**gammas, 0, 255).round().astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(texture[..., rng.permutation(3)]), table[:, None, :])


def noise_textures(seed: int) -> tuple[np.ndarray, ...]:
    """Eight textures of coloured noise at all scales, [512, 512, 3] uint8."""
    rng = np.random.default_rng((seed, 0))
    return tuple(_noise(rng) for _ in range(8))


def _noise(rng: np.random.Generator) -> np.ndarray:
    total = np.zeros((512, 512, 3), np.float32)
    for size in (4, 8, 16, 32, 64, 128):
        grid = rng.standard_normal((size, size, 3), np.float32)
        total += cv2.resize(grid, (512, 512), interpolation=cv2.INTER_CUBIC) / np.sqrt(size)
    return np.clip(128 + 80 * total, 0, 255).astype(np.uint8)
