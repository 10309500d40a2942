"""Classic classifiers on the clouds that `configs/shapes.py` trains on: what to compare with.

python benchmarks/shape_baselines.py

- Distances: how often each distance between two points of a cloud comes, whatever its pose (the
  shape distribution D2 of Osada et al., 2002), and the three principal extents.
- Voxels: which part of the points lies in each of 8×8×8 cubes.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs import shapes
from perceiver_jax.config import from_dict
from perceiver_jax.data import PointCloudDataConfig
from perceiver_jax.train.config import ExperimentConfig

NUM_BINS, NUM_CUBES = 32, 8


def main() -> None:
    """Prints held-out accuracies."""
    data = from_dict(ExperimentConfig, shapes.get_config()).data
    assert isinstance(data, PointCloudDataConfig)
    (train, y), (test, real) = (clouds_and_labels(data, split) for split in ("train", "test"))
    print(f"{len(y):,} clouds to train on, {len(real):,} held out")
    for name, features in (("distances", distance_features), ("voxels", voxel_features)):
        x, held_out = (np.stack([features(cloud) for cloud in part]) for part in (train, test))
        for label, classifier in (
            ("3 nearest neighbours", KNeighborsClassifier(3)),
            ("logistic regression", LogisticRegression(max_iter=500)),
            ("random forest", RandomForestClassifier(300, random_state=0)),
        ):
            model = make_pipeline(StandardScaler(), classifier)
            accuracy = model.fit(x, y).score(held_out, real)
            print(f"{name:<10} {label:<22} {accuracy:.1%}", flush=True)


def clouds_and_labels(data: PointCloudDataConfig, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Clouds of a split as they are evaluated, [n, points, 3], and labels [n]."""
    source = data.open(split)
    examples = [data.prepare(source[i], None) for i in range(len(source))]
    return tuple(np.stack([x[name] for x in examples]) for name in ("inputs", "label"))  # type: ignore


def distance_features(cloud: np.ndarray) -> np.ndarray:
    """[NUM_BINS + 3] features that no rotation changes; distances are over their mean."""
    distances = np.concatenate(
        [np.linalg.norm(cloud - np.roll(cloud, step, axis=0), axis=1) for step in range(1, 21)]
    )
    edges = np.linspace(0.0, 3.0, NUM_BINS + 1)
    counts, _ = np.histogram(distances / distances.mean(), edges)
    extents = np.sqrt(np.linalg.eigvalsh(np.cov(cloud.T))[::-1])
    return np.append(counts / len(distances), extents / extents[0])


def voxel_features(cloud: np.ndarray) -> np.ndarray:
    """[NUM_CUBES³] parts of the points."""
    cubes = np.clip(((cloud + 1.0) / 2.0 * NUM_CUBES).astype(int), 0, NUM_CUBES - 1)
    index = np.ravel_multi_index(tuple(cubes.T), (NUM_CUBES,) * 3)
    return np.bincount(index, minlength=NUM_CUBES**3) / len(cloud)


if __name__ == "__main__":
    main()
