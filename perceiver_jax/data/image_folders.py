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
_ORIENTATION, _ON_ITS_SIDE = 0x112, (5, 6, 7, 8)
"""The tag of EXIF, and its values for images whose height and width change places."""


class ImageFolder:
    """The images of a split, `{"image": [H, W, 3] uint8, "label": int}`, by their paths.

    Classes that are named as synsets of ImageNet get their words for names.

    Args:
        data_dir: the folder, see `class_folders`.
        split: a folder in it.
        train_split: likewise; classes are those of it.

    Raises:
        DatasetError: no folder is named, or see `find_class_files`.
    """

    def __init__(self, data_dir: str | None, split: str, *, train_split: str):
        if data_dir is None:
            raise DatasetError("dataset 'folder' needs a folder; name it: --config.data.data_dir")
        found = find_class_files(
            data_dir, split, train_split=train_split, suffixes=SUFFIXES, kind="images"
        )
        self.class_names, self._files = in_words(found.class_names), found.files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        file, label = self._files[index]
        try:
            return {"image": read_image(file), "label": label}
        except UserError as error:
            raise DatasetError(str(error)) from error

    def check_sizes(self) -> None:
        """Looks whether all images have one size, by the beginnings of the files.

        Raises:
            DatasetError: one has another size than the first.
        """
        first: tuple[str, tuple[int, int]] | None = None
        for file, _ in self._files:
            size = _size(file)
            if size is None:
                continue
            first = first or (file, size)
            name, wanted = first
            if size != wanted:
                raise DatasetError(
                    f"{file} has {size[0]} × {size[1]} pixels (height × width), and {name} has "
                    f"{wanted[0]} × {wanted[1]}; set --config.data.image_size=H,W to crop and "
                    "resize all images to one size"
                )


def _size(file: str) -> tuple[int, int] | None:
    """Height and width of an image, turned as its camera says; None where no header tells."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
    except Exception:  # damaged files are told of where they are read
        return None
    return (width, height) if turned else (height, width)
