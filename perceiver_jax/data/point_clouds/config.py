"""What a dataset of point clouds is and what is done to it, as one config."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from perceiver_jax.config import setting
from perceiver_jax.data.folders import prepared_folder
from perceiver_jax.data.labelled import LabelledDataConfig
from perceiver_jax.data.pipeline import Example
from perceiver_jax.data.point_clouds import augmentation
from perceiver_jax.data.point_clouds.folders import find_files
from perceiver_jax.data.point_clouds.picture import draw_cloud
from perceiver_jax.data.point_clouds.prepared import PreparedClouds
from perceiver_jax.data.sources import DatasetError, Source
from perceiver_jax.data.stored_examples import entry, label_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointCloudDataConfig(LabelledDataConfig):
    """Clouds with a class each: inputs are [num_points, 3 or 6] float32, coordinates first."""

    dataset: Literal["modelnet40", "modelnet40_resampled", "folders", "shapes", "synthetic"] = (
        setting(
            doc="'modelnet40' (.off meshes), 'modelnet40_resampled' (points with normals) or "
            "'folders', DIR/SPLIT/CLASS/*, in data_dir; 'synthetic': shapes made by formula; "
            "'shapes': those and three real meshes, fetched once by "
            "`python -m perceiver_jax.data.point_clouds.meshes`"
        )
    )
    cache_dir: str | None = setting(
        None, "where points of files are kept; None: perceiver_jax/prepared in the user's cache"
    )
    num_points: int = setting(2048, "points of a cloud that the model is given", minimum=2)
    num_stored_points: int = setting(
        10_000,
        "points drawn of a mesh once and for all, or kept of a file of points at most; training "
        "takes num_points of them, others every time",
        minimum=2,
    )
    normals: bool = setting(
        False, "whether the unit normal of each point follows its coordinates, 3 more channels"
    )
    padded: bool = setting(
        False,
        "whether clouds with fewer points than num_points are padded and masked; else some of "
        "their points come twice",
    )
    point_scale: float = setting(
        0.01,
        "training multiplies each point of a centred cloud by a number of its own, from 1 - this "
        "to 1 + this",
    )
    max_rotation: float = setting(
        0.0, "training turns clouds about up_axis by up to this many degrees; 180: anyhow"
    )
    up_axis: augmentation.Axis = setting("z", "'x', 'y' or 'z', which is up in the files")
    max_stretch: float = setting(
        0.0, "training multiplies each axis by a factor from 1 - this to 1 + this, in [0, 1)"
    )
    jitter: float = setting(
        0.0, "standard deviation of what training adds to each coordinate, cut off at 5 times it"
    )
    num_views: int = setting(
        1, "runs of num_points of the stored points over which evaluation averages"
    )
    num_train_shapes: int = setting(8192, "training examples of 'shapes' and 'synthetic'")
    num_eval_shapes: int = setting(1024, "held-out examples of 'shapes' and 'synthetic'")

    def __post_init__(self):
        super().__post_init__()
        if self.num_views * self.num_points > self.num_stored_points:
            raise ValueError(
                f"num_stored_points={self.num_stored_points} are too few for num_views="
                f"{self.num_views} of num_points={self.num_points}; raise it to "
                f"{self.num_views * self.num_points} or more"
            )
        for name, most in (("point_scale", 1.0), ("max_stretch", 1.0), ("jitter", 1.0)):
            if not 0.0 <= getattr(self, name) < most:
                raise ValueError(f"{name}={getattr(self, name)} is not in [0, {most:g})")
        if not 0.0 <= self.max_rotation <= 180.0:
            raise ValueError(f"max_rotation={self.max_rotation} is not in [0, 180] degrees")

    def open(self, split: str) -> Source:
        """See `LabelledDataConfig`; examples are `{"points": [n, 3 or 6], "label": int}`."""
        if self.dataset in ("shapes", "synthetic"):
            # Not at the top: the module of meshes is a command, which would be loaded twice.
            from perceiver_jax.data.point_clouds.procedural import ProceduralClouds

            training = split == "train"
            return ProceduralClouds(
                split,
                num_examples=self.num_train_shapes if training else self.num_eval_shapes,
                num_points=self.num_stored_points,
                meshes=self.dataset == "shapes",
                data_dir=self.data_dir,
            )
        return PreparedClouds(
            find_files(self.dataset, self.data_dir, split, train_split=self.train_split),
            self.num_stored_points,
            prepared_folder(self.cache_dir) / "point_clouds",
            normals=self.normals,
        )

    def prepare(self, example: Example, rng: np.random.Generator | None) -> Example:
        """See `LabelledDataConfig`.

        Args:
            example: `{"points": [n, 3 or 6], "label": int}`; without a label what is returned has
                none.
            rng: draws the points and the augmentation; None in evaluation.
        """
        return self._view(example, rng, 0)

    def views(self, example: Example) -> Sequence[Example]:
        """See `LabelledDataConfig`; further views are of other points of the same cloud."""
        return [self._view(example, None, view) for view in range(self.num_views)]

    def picture(self, inputs: Any) -> np.ndarray:
        """See `LabelledDataConfig`."""
        return draw_cloud(np.asarray(inputs)[:, :3])

    def _view(self, example: Example, rng: np.random.Generator | None, view: int) -> Example:
        rows = self._points(example)
        num_points = min(self.num_points, len(rows)) if self.padded else self.num_points
        rows = augmentation.normalized_rows(augmentation.choose(rows, num_points, rng, view))
        if rng is not None:
            rows = augmentation.normalized_rows(self._augmented(rows, rng))
        if not self.padded:
            return {"inputs": rows, **label_of(example)}
        rows, mask = augmentation.padded(rows, self.num_points)
        return {"inputs": rows, "input_mask": mask, **label_of(example)}

    def _points(self, example: Example) -> np.ndarray:
        """[n, 3 or 6] of the points of an example, those columns that are wanted."""
        wanted = 6 if self.normals else 3
        form = f"[points, {'6' if self.normals else '3 or more'}] numbers"
        points = np.asarray(entry(example, "points", form))
        if points.ndim != 2 or not len(points) or points.shape[1] < wanted:
            raise DatasetError(f"'points' has shape {points.shape}; expected {form}")
        return points[:, :wanted]

    def _augmented(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows of points around zero, moved as the settings say."""
        if self.max_rotation:
            angle = np.deg2rad(rng.uniform(-self.max_rotation, self.max_rotation))
            rows = augmentation.turned(rows, augmentation.rotation_about(self.up_axis, angle))
        if self.max_stretch:
            factors = 1.0 + rng.uniform(-self.max_stretch, self.max_stretch, 3)
            rows = augmentation.stretched(rows, factors)
        coordinates, normals = rows[:, :3], rows[:, 3:]
        if self.point_scale:
            scales = rng.uniform(1.0 - self.point_scale, 1.0 + self.point_scale, (len(rows), 1))
            coordinates = coordinates * scales.astype(np.float32)
        if self.jitter:
            noise = rng.standard_normal(coordinates.shape, np.float32).clip(-5.0, 5.0)
            coordinates = coordinates + np.float32(self.jitter) * noise
        return np.concatenate([coordinates, normals], axis=1)
