"""Labelled images prepared with TensorFlow Datasets, read without TensorFlow.

- Datasets must be prepared in the ArrayRecord format, which gives random access.
- Images are decoded here, with OpenCV, and greyscale ones keep one channel. As TFDS does it, they
  are not turned as their cameras say.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from perceiver_jax.data import imagenet
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.errors import how_to_install


class TfdsImages:
    """A split of a prepared dataset with the features `image` and `label`.

    Args:
        records: TFDS data source whose images are left encoded.
        image_channels: channels to decode to, 1 or 3.
        class_names: names of the labels.
    """

    def __init__(self, records: Any, image_channels: int, class_names: tuple[str, ...]):
        self.records, self.class_names = records, class_names
        colors = cv2.IMREAD_GRAYSCALE if image_channels == 1 else cv2.IMREAD_COLOR_RGB
        self._flag = colors | cv2.IMREAD_IGNORE_ORIENTATION

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        record = self.records[index]
        image = cv2.imdecode(np.frombuffer(record["image"], np.uint8), self._flag)
        if image is None:
            raise DatasetError(
                f"example {index} of {self.records} holds no readable image; "
                "prepare the dataset again"
            )
        return {"image": np.atleast_3d(image), "label": int(record["label"])}


def load_tfds(name: str, split: str, data_dir: str | None) -> TfdsImages:
    """Opens a split of a prepared dataset.

    Args:
        name: TFDS name, with or without config and version.
        split: a TFDS split, slices such as "train[:90%]" included.
        data_dir: where prepared datasets lie; None: TFDS's default.

    Raises:
        DatasetError: the dataset is unknown, not prepared as ArrayRecord, without images or
            labels, or has no such split.
    """
    import tensorflow_datasets as tfds

    builder, records = open_records(
        name, split, data_dir, decoders={"image": tfds.decode.SkipDecoding()}
    )
    features = builder.info.features
    class_names = getattr(features["label"], "names", None) if "label" in features else None
    if "image" not in features or class_names is None:
        raise DatasetError(
            f"dataset 'tfds:{name}' has the features {', '.join(features)}; image classification "
            "needs 'image' and a 'label' of named classes; choose a dataset that has them"
        )
    return TfdsImages(records, features["image"].shape[-1], imagenet.in_words(class_names))


def open_records(
    name: str, split: str, data_dir: str | None, *, decoders: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """Opens a split of a prepared dataset of any features.

    Args:
        name: TFDS name, with or without config and version.
        split: a TFDS split, slices such as "train[:90%]" included.
        data_dir: where prepared datasets lie; None: TFDS's default.
        decoders: TFDS decoders of features.

    Returns:
        TFDS's builder, and its data source: `len` and `[i]`.

    Raises:
        DatasetError: the dataset is unknown, not prepared as ArrayRecord, or has no such split.
    """
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        return builder, builder.as_data_source(split=split, decoders=decoders)
    except Exception as error:  # TFDS raises many types; each means that there is nothing to read
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        where = f" in {data_dir}" if data_dir else ""
        raise DatasetError(
            f"dataset 'tfds:{name}', split '{split}', cannot be read{where}: {reason}\n"
            f"{_how_to_prepare(name)}, or point --config.data.data_dir to where it lies."
        ) from error


def _how_to_prepare(name: str) -> str:
    if name.partition(":")[0] == "imagenet2012":
        return f"Prepare it once, out of its archives, with: {imagenet.COMMAND} --archives=DIR"
    return (
        f'Prepare it once with: python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\" "
        f"(most datasets need TensorFlow for this step; {how_to_install('tf')})"
    )
