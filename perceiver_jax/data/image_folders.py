"""Image files in folders, one for each class: DIR/SPLIT/CLASS/*.jpg and what else is read.

Files are decoded when they are read, and turned as their cameras say; all have three channels.
"""

from collections.abc import Mapping
from typing import Any

from perceiver_jax.data.class_folders import find_class_files
from perceiver_jax.data.flow.files import read_image
from perceiver_jax.data.imagenet import in_words
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")


class ImageFolder:
    """The images of a split, `{"image": [H, W, 3] uint8, "label": int}`, by their paths.

    Classes that are named as synsets of ImageNet get their words for names.

    Args:
        data_dir: the folder, see `class_folders`.
        split: a folder in it.

    Raises:
        DatasetError: no folder is named, there is no such one or no such split, or no image in it.
    """

    def __init__(self, data_dir: str | None, split: str):
        if data_dir is None:
            raise DatasetError("dataset 'folder' needs a folder; name it: --config.data.data_dir")
        found = find_class_files(data_dir, split, suffixes=SUFFIXES, kind="images")
        self.class_names, self._files = in_words(found.class_names), found.files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        file, label = self._files[index]
        try:
            return {"image": read_image(file), "label": label}
        except UserError as error:
            raise DatasetError(str(error)) from error
