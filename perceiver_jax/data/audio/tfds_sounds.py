"""Labelled sounds prepared with TensorFlow Datasets, such as speech_commands.

- Datasets must be prepared in the ArrayRecord format, which gives random access.
- The package's feature for sounds needs TensorFlow, the extra [tf], to be read as well.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.data.audio.sounds import Samples
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.tfds import open_records

_FULL_SCALE = 2.0**15
"""TFDS decodes files to integers of 16 bits."""


class TfdsSounds:
    """A split of a prepared dataset with the features `audio` and `label`.

    Args:
        records: TFDS data source.
        rate: samples a second.
        class_names: names of the labels.
    """

    def __init__(self, records: Any, rate: int, class_names: tuple[str, ...]):
        self._records, self._rate, self.class_names = records, rate, class_names

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        record = self._records[index]
        samples = np.asarray(record["audio"])
        scale = _FULL_SCALE if samples.dtype.kind in "iu" else 1.0
        if not samples.size:
            raise DatasetError(
                f"example {index} of {self._records} holds no sound; prepare it again"
            )
        sound = np.atleast_2d(np.float32(samples / scale).T)
        return {"sound": Samples(sound, self._rate), "label": int(record["label"])}


def load_tfds_sounds(name: str, split: str, data_dir: str | None) -> TfdsSounds:
    """Opens a split of a prepared dataset.

    Args:
        name: TFDS name, with or without config and version.
        split: a TFDS split, slices such as "train[:90%]" included.
        data_dir: where prepared datasets lie; None: TFDS's default.

    Raises:
        DatasetError: the dataset is unknown, not prepared as ArrayRecord, without sounds of a known
            rate or labels, or has no such split.
    """
    builder, records = open_records(name, split, data_dir)
    features = builder.info.features
    class_names = getattr(features["label"], "names", None) if "label" in features else None
    rate = getattr(features["audio"], "sample_rate", None) if "audio" in features else None
    if class_names is None or not rate:
        raise DatasetError(
            f"dataset 'tfds:{name}' has the features {', '.join(features)}; sounds are classified "
            "by 'audio' of a known sample rate and a 'label' of named classes"
        )
    return TfdsSounds(records, int(rate), tuple(class_names))
