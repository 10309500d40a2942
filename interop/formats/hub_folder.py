"""Folders as Hugging Face's `save_pretrained` writes them: config, weights, what goes before them.

- `config.json` is removed first and written last: a folder that has one is whole.
"""

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, safetensors_files, torch_files
from interop.formats import hub_tokenizer
from interop.formats.settings import read_json, write_bytes, write_json
from perceiver_jax.card import ImagePreprocessing, TextPreprocessing

CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX, TORCH_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
FILES = (
    *(CONFIG, PREPROCESSING, WEIGHTS, INDEX, TORCH_WEIGHTS, "model-*.safetensors"),
    *hub_tokenizer.FILES,
)
"""What a folder may hold, as patterns of file names."""
PROVENANCE = ("origin", "licence")
"""Entries of `config.json` that say where weights come from; ours."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubFolder:
    """The contents of a folder.

    Attributes:
        config: `config.json`.
        arrays: tensors by name.
        preprocessing: `preprocessor_config.json` as far as it concerns images, or None.
        text: what the tokenizer's files say, or None.
        files: contents of the tokenizer's own files by name, where it has any.
        tokenizer: further entries of the tokenizer's settings; not read.
    """

    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    preprocessing: ImagePreprocessing | None = None
    text: TextPreprocessing | None = None
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    tokenizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`.

    Raises:
        FileError: there is none, or it is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise FileError(f"{folder} has no {CONFIG}; a folder written by save_pretrained does")
    return read_json(folder / CONFIG)


def read(folder: Path, num_channels: int | None = 3, *, between: bool = True) -> HubFolder:
    """Reads a folder.

    Args:
        folder: with `config.json` and weights.
        num_channels: of the images that the model takes; None: it takes none.
        between: as in `hub_tokenizer.read`.

    Raises:
        FileError: something is missing or damaged.
    """
    settings = config(folder)
    arrays = weights(folder)
    preprocessing = None
    if num_channels is not None and (folder / PREPROCESSING).is_file():
        preprocessing = image_preprocessing(read_json(folder / PREPROCESSING), num_channels)
    text, files = hub_tokenizer.read(folder, between=between)
    return HubFolder(
        config=settings, arrays=arrays, preprocessing=preprocessing, text=text, files=files
    )


def weights(folder: Path, below: str = "") -> dict[str, np.ndarray]:
    """The tensors in a folder.

    Args:
        folder: with weights.
        below: prefix of the names to read, which these lose. What lies elsewhere is not read, but
            in a file of PyTorch's, which is read as a whole.

    Raises:
        FileError: there are none, or they are damaged.
    """
    paths = [folder / name for name in (WEIGHTS, INDEX, TORCH_WEIGHTS)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileError(f"{folder} has no weights; it takes {WEIGHTS}, {INDEX} or {TORCH_WEIGHTS}")
    if found.name == TORCH_WEIGHTS:
        tensors = torch_files.read(found).tensors
    else:
        tensors = safetensors_files.read(found, below)
    arrays = {
        name.removeprefix(below): array for name, array in tensors.items() if name.startswith(below)
    }
    if below and not arrays:
        raise FileError(f"{found} has no tensors whose names start with '{below}'")
    return arrays


def write(folder: Path, contents: HubFolder, **processor: Any) -> None:
    """Writes a folder, over an earlier one if there is one, of which no other weights stay.

    Args:
        folder: made if it is not there.
        contents: what it gets.
        **processor: further entries of `preprocessor_config.json`.

    Raises:
        FileError: the path is that of a file, or cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; this format is a folder, so name another path")
    tokenizer = hub_tokenizer.contents(contents.text, contents.files, contents.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    _remove(folder / CONFIG)
    safetensors_files.write(folder / WEIGHTS, contents.arrays, {"format": "pt"})
    for name in (INDEX, TORCH_WEIGHTS, PREPROCESSING, *hub_tokenizer.FILES, *hub_tokenizer.STALE):
        _remove(folder / name)
    for name, content in tokenizer.items():
        write_bytes(folder / name, content)
    if contents.preprocessing is not None:
        write_json(folder / PREPROCESSING, processor_settings(contents.preprocessing) | processor)
    write_json(folder / CONFIG, contents.config)


def image_preprocessing(settings: Mapping[str, Any], num_channels: int) -> ImagePreprocessing:
    """Ours from the settings of a `PerceiverImageProcessor`.

    Raises:
        FileError: it does something that ours does not, or an entry makes no sense.
    """
    size = height, width = _sides(settings, "size")
    crops = settings.get("do_center_crop", True)
    resizes = settings.get("do_resize", True)
    needed = {
        "resample": (settings.get("resample", 3), 3),
        "do_rescale": (settings.get("do_rescale", True), True),
        "do_normalize": (settings.get("do_normalize", True), True),
    }
    wrong = {name: got for name, (got, want) in needed.items() if got != want}
    factor = settings.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or not math.isclose(factor, 1 / 255, rel_tol=1e-5):
        wrong["rescale_factor"] = factor
    crop = None
    if crops:
        crop_height, crop_width = _sides(settings, "crop_size")
        crop = height / crop_height
        if not math.isclose(crop, width / crop_width, rel_tol=0.01):
            wrong["crop_size"] = settings["crop_size"]
    if wrong:
        asked = ", ".join(f"{name}={reprlib.repr(got)}" for name, got in wrong.items())
        raise FileError(
            f"{PREPROCESSING} asks for {asked}, which this library does not do; give images that "
            "are already preprocessed"
        )
    if crops and not resizes:
        raise FileError(f"{PREPROCESSING} crops without resizing, which this library does not do")
    if not resizes and "size" not in settings:
        raise FileError(
            f"{PREPROCESSING} has do_resize=False and no size; add the size that pictures have"
        )
    try:
        return ImagePreprocessing(
            image_shape=(*size, num_channels),
            crop=crop,
            mean=_numbers(settings, "image_mean", ImagePreprocessing().mean, num_channels),
            std=_numbers(settings, "image_std", ImagePreprocessing().std, num_channels),
            resampling="pillow",
        )
    except FileError:
        raise
    except ValueError as error:
        raise FileError(f"{PREPROCESSING} cannot be used: {error}") from error


_SIZES = {"size": 224, "crop_size": 256}


def processor_settings(preprocessing: ImagePreprocessing) -> dict[str, Any]:
    """Settings of a `PerceiverImageProcessor`; its resampling is always Pillow's."""
    height, width, _ = preprocessing.image_shape
    crop = preprocessing.crop
    sides = [height, width] if crop is None else [_uncropped(n, crop) for n in (height, width)]
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
        FileError: there is no mapping, or its ids do not count from 0.
    """
    given = config.get("id2label")
    if not isinstance(given, Mapping | None):
        raise FileError(
            f"{CONFIG} has id2label={reprlib.repr(given)}; it takes names by id, as in "
            '{"0": "cat", "1": "dog"}'
        )
    names = {str(i): str(name) for i, name in (given or {}).items()}
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


def _sides(settings: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """A size that is one number, or has a height and a width."""
    size: Any = settings.get(name, _SIZES[name])
    sides: tuple[Any, Any] = (size, size)
    if isinstance(size, Mapping):
        sides = (size.get("height"), size.get("width"))
    whole = name == "size"
    if not all(_is_number(n) and n >= 1 and (n % 1 == 0 or not whole) for n in sides):
        kind = "a whole number" if whole else "a number"
        raise FileError(
            f"{PREPROCESSING} has {name}={reprlib.repr(size)}; it takes {kind} from 1 on, or a "
            "height and a width"
        )
    return (int(sides[0]), int(sides[1])) if whole else sides


def _uncropped(side: int, crop: float) -> float:
    """What the image processor divides a side by to get the fraction, whole where it can be."""
    exact = side / crop
    near = (round(exact), exact, math.nextafter(exact, 0), math.nextafter(exact, math.inf))
    # Not below the fraction, as the processor rounds the side of the square down.
    return min((n for n in near if side / n >= crop), key=lambda n: side / n)


def _numbers(
    settings: Mapping[str, Any], name: str, usual: tuple[float, ...], num_channels: int
) -> tuple[float, ...]:
    given = settings.get(name, usual)
    values = given if isinstance(given, list | tuple) else [given]
    if len(values) not in (1, num_channels) or not all(map(_is_number, values)):
        raise FileError(
            f"{PREPROCESSING} has {name}={reprlib.repr(given)}; it takes one number, or one for "
            f"each of {num_channels} channels"
        )
    return tuple(map(float, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot replace {path}: {error.strerror}") from error


def provenance(known: Any) -> dict[str, Any]:
    """Origin and licence, from a `config.json` or a `Foreign`, as far as they are known.

    Their libraries keep entries of `config.json` that they do not know.
    """
    values = known if isinstance(known, Mapping) else vars(known)
    return {name: str(values[name]) for name in PROVENANCE if values.get(name)}
