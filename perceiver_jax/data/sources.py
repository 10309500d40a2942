"""What a data source is, and finding one by name.

- A source is random access: `len` and `[i]`, so that shuffling, sharding and resuming need no state
  but a position.
- Datasets by name: see `DATASETS`; `folder` is of image files, and `tfds:NAME` reads anything
  prepared with TensorFlow Datasets.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from perceiver_jax.errors import UserError


class DatasetError(UserError):
    """A dataset that is not there, or not what the config says."""


class Source(Protocol):
    """Labelled examples by index."""

    class_names: tuple[str, ...]
    """one per class, in the order of the labels"""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """`{"image": [H, W, c] uint8, "label": int}`."""
        ...


def load(name: str, split: str, data_dir: str | None) -> Source:
    """Opens a split of a dataset.

    Args:
        name: a key of `DATASETS`, 'folder', or `tfds:NAME`.
        split: "train", "test", or whatever splits the dataset has.
        data_dir: where prepared datasets lie, or of 'folder' that folder; None: the dataset's
            default.

    Raises:
        DatasetError: no such dataset or split, not installed or not prepared, or no examples.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "tfds" and rest:
        from perceiver_jax.data.tfds import load_tfds

        source = load_tfds(rest, split, data_dir)
    elif name == "folder":
        from perceiver_jax.data.image_folders import ImageFolder

        source = ImageFolder(data_dir, split)
    elif name in DATASETS:
        source = DATASETS[name](split)
    else:
        raise DatasetError(
            f"no dataset is called '{name}'; there are {', '.join(DATASETS)}, 'folder' for image "
            "files in data_dir, and 'tfds:NAME' for datasets prepared with TensorFlow Datasets"
        )
    if not len(source):
        raise DatasetError(f"split '{split}' of dataset '{name}' has no examples; choose another")
    return source


def _mnist5k(split: str) -> Source:
    from perceiver_jax.data.digits import mnist5k

    return mnist5k(split)


def _digits(split: str) -> Source:
    from perceiver_jax.data.digits import digits

    return digits(split)


DATASETS: dict[str, Callable[[str], Source]] = {"mnist5k": _mnist5k, "digits": _digits}
"""Datasets that come inside Python packages, by name."""
