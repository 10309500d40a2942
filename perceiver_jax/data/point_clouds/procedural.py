"""Clouds of shapes made by formula, and of three real meshes: endless examples without a dataset.

- Every example has proportions, a bend, a pose and a draw of points of its own, and a little noise.
- Of a real mesh there is but one: held-out examples of its class are other poses, bends and draws
  of the very mesh that is trained on. Held-out shapes by formula have other proportions, too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.point_clouds.augmentation import normalized, rotation_about, turned
from perceiver_jax.data.point_clouds.files import read_mesh
from perceiver_jax.data.point_clouds.meshes import MEMBERS, find_mesh
from perceiver_jax.data.point_clouds.shapes import SHAPES, Surface, deformed
from perceiver_jax.data.point_clouds.surfaces import draw_points
from perceiver_jax.data.splits import check_split

_SPLITS = ("train", "test")
_NOISE = 0.02
"""Standard deviation of the noise of a coordinate; shapes are two units large."""
_TILT = np.deg2rad(30.0)
"""Shapes stand upright, but for a tilt of this at most."""


class ProceduralClouds:
    """Clouds by index, the classes by turns: `{"points": [n, 6] float32, "label": int}`.

    Args:
        split: "train" or "test".
        num_examples: how many there are.
        num_points: points n of a cloud.
        meshes: whether the real meshes are classes, too.
        data_dir: the folder of datasets, where those lie; None: the default place.

    Raises:
        DatasetError: there is no such split, or the meshes are not there.
    """

    def __init__(
        self,
        split: str,
        *,
        num_examples: int,
        num_points: int,
        meshes: bool,
        data_dir: str | None = None,
    ):
        check_split(split, _SPLITS)
        self._seed = _SPLITS.index(split)
        self._num_examples, self._num_points = num_examples, num_points
        names = sorted(MEMBERS) if meshes else []
        self._meshes = {name: _unit(read_mesh(find_mesh(name, data_dir))) for name in names}
        self.class_names: tuple[str, ...] = (*SHAPES, *self._meshes)

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        rng = np.random.default_rng((self._seed, index))
        label = index % len(self.class_names)
        name = self.class_names[label]
        vertices, faces = self._meshes[name] if name in self._meshes else SHAPES[name](rng)
        drawn = draw_points(deformed(vertices, rng), faces, self._num_points, rng)
        points, normals = (x.astype(np.float32) for x in drawn)
        points = points + _NOISE * rng.standard_normal(points.shape, np.float32)
        rows = turned(np.concatenate([points, normals], axis=1), _pose(rng))
        return {"points": rows, "label": label}


def _pose(rng: np.random.Generator) -> np.ndarray:
    """[3, 3] matrix: z tilts, in any direction, and there is any turn about it."""
    tilt, before, after = rng.uniform(-_TILT, _TILT), *rng.uniform(-np.pi, np.pi, 2)
    tilted = rotation_about("x", tilt) @ rotation_about("z", before)
    return rotation_about("z", after) @ tilted


def _unit(surface: Surface) -> Surface:
    """A surface about two units large."""
    vertices, faces = surface
    return normalized(vertices - vertices.mean(axis=0)), faces
