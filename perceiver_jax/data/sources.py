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


def check_source(source: Any, what: str) -> None:
    """Raises a DatasetError where something is no `Source`.

    Args:
        source: anything.
        what: how to call it.
    """
    if source is None:
        raise DatasetError(f"{what} is None; return a source: `len`, `[i]` and class_names")
    name = type(source).__name__
    for attribute, meaning, example in _ASKED_OF_A_SOURCE:
        try:
            getattr(source, attribute)
        except AttributeError as error:
            if error.name != attribute:
                raise
            raise DatasetError(
                f"{what} is of class {name}, which has no {attribute}: {meaning}; give it one, "
                f"for example, {example}"
            ) from error
    names = source.class_names
    if isinstance(names, str) or not _all_strings(names):
        raise DatasetError(
            f"class_names of {name} is {names!r}; expected a name for each class, for example, "
            "class_names = ('cat', 'dog')"
        )


def _all_strings(names: Any) -> bool:
    try:
        return all(isinstance(name, str) for name in names)
    except TypeError:
        return False


_ASKED_OF_A_SOURCE = (
    ("__len__", "the number of its examples", "def __len__(self): return len(self.labels)"),
    (
        "__getitem__",
        "an example by its number",
        "def __getitem__(self, index): return {'image': self.images[index], "
        "'label': self.labels[index]}",
    ),
    (
        "class_names",
        "the names of its classes, in the order of the labels",
        "class_names = ('cat', 'dog')",
    ),
)
"""Attributes of a `Source`: what they mean, and what to write."""


def load(name: str, split: str, data_dir: str | None, *, train_split: str = "train") -> Source:
    """Opens a split of a dataset.

    Args:
        name: a key of `DATASETS`, 'folder', or `tfds:NAME`.
        split: "train", "test", or whatever splits the dataset has.
        data_dir: where prepared datasets lie, or of 'folder' that folder; None: the dataset's
            default.
        train_split: of 'folder', the split whose classes count.

    Raises:
        DatasetError: no such dataset or split, not installed or not prepared, or no examples.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "tfds" and rest:
        from perceiver_jax.data.tfds import load_tfds

        source = load_tfds(rest, split, data_dir)
    elif name == "folder":
        from perceiver_jax.data.image_folders import ImageFolder

        source = ImageFolder(data_dir, split, train_split=train_split)
    elif name in DATASETS:
        source = DATASETS[name](split)
        check_source(source, f"dataset '{name}'")
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
