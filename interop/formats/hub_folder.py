"""Folders as Hugging Face's `save_pretrained` writes them: config, weights, preprocessing.

- `config.json` is written last: a folder that has one is whole.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, safetensors_files, torch_files
from interop.formats.settings import read_json, write_json
from perceiver_jax.card import ImagePreprocessing

CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX, TORCH_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
FILES = (CONFIG, PREPROCESSING, WEIGHTS, INDEX, TORCH_WEIGHTS, "model-*.safetensors")
"""What a folder may hold, as patterns of file names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFolder:
    """The contents of a folder.

    Attributes:
        config: `config.json`.
        arrays: tensors by name.
        preprocessing: `preprocessor_config.json` as far as it concerns images, or None.
    """

    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    preprocessing: ImagePreprocessing | None = None


def config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`.

    Raises:
        FileError: there is none, or it is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise FileError(f"{folder} has no {CONFIG}; a folder written by save_pretrained does")
    return read_json(folder / CONFIG)


def read(folder: Path, num_channels: int = 3) -> HubFolder:
    """Reads a folder.

    Args:
        folder: with `config.json` and weights.
        num_channels: of the images that the model takes.

    Raises:
        FileError: something is missing or damaged.
    """
    settings = config(folder)
    if (folder / WEIGHTS).is_file():
        arrays = safetensors_files.read(folder / WEIGHTS)
    elif (folder / INDEX).is_file():
        arrays = safetensors_files.read(folder / INDEX)
    elif (folder / TORCH_WEIGHTS).is_file():
        arrays = dict(torch_files.read(folder / TORCH_WEIGHTS).tensors)
    else:
        raise FileError(f"{folder} has no weights; it takes {WEIGHTS}, {INDEX} or {TORCH_WEIGHTS}")
    preprocessing = None
    if (folder / PREPROCESSING).is_file():
        preprocessing = image_preprocessing(read_json(folder / PREPROCESSING), num_channels)
    return HubFolder(config=settings, arrays=arrays, preprocessing=preprocessing)


def write(folder: Path, contents: HubFolder, **processor: Any) -> None:
    """Writes a folder, over an earlier one if there is one.

    Args:
        folder: made if it is not there.
        contents: what it gets.
        **processor: further entries of `preprocessor_config.json`.

    Raises:
        FileError: the path is that of a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; this format is a folder, so name another path")
    folder.mkdir(parents=True, exist_ok=True)
    safetensors_files.write(folder / WEIGHTS, contents.arrays, {"format": "pt"})
    if contents.preprocessing is not None:
        write_json(folder / PREPROCESSING, processor_settings(contents.preprocessing) | processor)
    write_json(folder / CONFIG, contents.config)


def image_preprocessing(settings: Mapping[str, Any], num_channels: int) -> ImagePreprocessing:
    """Ours from the settings of a `PerceiverImageProcessor`.

    Raises:
        FileError: it does something that ours does not.
    """
    size, crop_size = (_sides(settings.get(name, usual)) for name, usual in _SIZES.items())
    crops = settings.get("do_center_crop", True)
    resizes = settings.get("do_resize", True)
    needed = {
        "resample": (settings.get("resample", 3), 3),
        "do_rescale": (settings.get("do_rescale", True), True),
        "do_normalize": (settings.get("do_normalize", True), True),
    }
    if crops and not np.isclose(size[0] / crop_size[0], size[1] / crop_size[1], rtol=0.01):
        needed["crop_size"] = (crop_size, "of the shape of size")
    wrong = {name: got for name, (got, want) in needed.items() if got != want}
    if wrong or not np.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255):
        raise FileError(
            f"{PREPROCESSING} asks for {wrong or 'another rescale_factor'}, which this library "
            "does not do; give images that are already preprocessed"
        )
    if crops and not resizes:
        raise FileError(f"{PREPROCESSING} crops without resizing, which this library does not do")
    return ImagePreprocessing(
        image_shape=(*size, num_channels),
        crop=size[0] / crop_size[0] if crops else None,
        mean=_numbers(settings.get("image_mean", ImagePreprocessing().mean)),
        std=_numbers(settings.get("image_std", ImagePreprocessing().std)),
        resampling="pillow",
    )


_SIZES = {"size": {"height": 224, "width": 224}, "crop_size": {"height": 256, "width": 256}}


def processor_settings(preprocessing: ImagePreprocessing) -> dict[str, Any]:
    """Settings of a `PerceiverImageProcessor`; its resampling is always Pillow's."""
    height, width, _ = preprocessing.image_shape
    crop = preprocessing.crop
    sides = [height, width] if crop is None else [round(height / crop), round(width / crop)]
    return {
        "image_processor_type": "PerceiverImageProcessor",
        "do_center_crop": crop is not None,
        "crop_size": {"height": sides[0], "width": sides[1]},
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names from `id2label`, in order; empty where they are only `LABEL_0` and so on.

    Raises:
        FileError: the ids do not count from 0.
    """
    names = {str(i): str(name) for i, name in (config.get("id2label") or {}).items()}
    if not names or all(name == f"LABEL_{i}" for i, name in names.items()):
        return ()
    try:
        return tuple(names[str(i)] for i in range(len(names)))
    except KeyError as error:
        raise FileError(f"id2label in {CONFIG} has no class {error}; ids count from 0") from error


def label_settings(names: tuple[str, ...]) -> dict[str, Any]:
    """`id2label` and `label2id`; of names that occur twice, the later id."""
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def _sides(size: Any) -> tuple[int, int]:
    """A size that is a number, or has a height and a width."""
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)
