"""Text datasets prepared with TensorFlow Datasets, read without TensorFlow."""

from collections.abc import Iterator

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text import readers
from perceiver_jax.data.text.config import TextDataConfig
from perceiver_jax.data.text.documents import Document
from perceiver_jax.data.tfds import open_records

_BATCH = 64
"""Records that are read at once."""
_PART = 1024
"""Records of a part."""


class TfdsDocuments:
    """A split of a prepared dataset.

    Args:
        name: TFDS name, with or without config and version.
        split: a TFDS split, slices such as "train[:90%]" included.
        config: fields, and how texts are read.
        labels: whether documents have labels, and those without one (TFDS: -1) are left out.

    Raises:
        DatasetError: the dataset is not prepared as ArrayRecord, or has no such split or text.
    """

    def __init__(self, name: str, split: str, config: TextDataConfig, *, labels: bool):
        builder, self._records = open_records(name, split, config.data_dir)
        self._name, self._config, self._labels = f"tfds:{name}", config, labels
        features = builder.info.features
        if config.text_field not in features:
            raise DatasetError(
                f"dataset '{self._name}' has the features {', '.join(features)}, and no "
                f"'{config.text_field}'; name the one of the text with --config.data.text_field"
            )
        label = features[config.label_field] if config.label_field in features else None
        self.class_names: tuple[str, ...] = tuple(getattr(label, "names", None) or ())
        self.fingerprint = fingerprint(
            *("tfds", 1, builder.info.full_name, split, len(self._records), labels),
            *(config.text_field, config.label_field, config.encoding_errors),
        )

    def __iter__(self) -> Iterator[Document]:
        return self._read(0, len(self._records))

    @property
    def num_parts(self) -> int:
        """See `DividedDocuments`."""
        return max(1, -(-len(self._records) // _PART))

    def part(self, index: int, start: int) -> Iterator[Document]:
        """See `DividedDocuments`; without labels, as those are what documents are left out by."""
        first = index * _PART
        return self._read(first + start, min(first + _PART, len(self._records)))

    def _read(self, first: int, stop: int) -> Iterator[Document]:
        for start in range(first, stop, _BATCH):
            numbers = range(start, min(start + _BATCH, stop))
            for i, record in zip(numbers, self._records.__getitems__(list(numbers)), strict=True):
                label = int(record[self._config.label_field]) if self._labels else None
                if label is None or label >= 0:
                    yield Document(self._text(record[self._config.text_field], i), label)

    def _text(self, value: object, index: int) -> str:
        where = f"example {index} of dataset '{self._name}', field '{self._config.text_field}',"
        if isinstance(value, bytes):
            return readers.decoded(value, self._config.encoding_errors, where)
        if isinstance(value, str):
            return value
        raise DatasetError(
            f"{where} holds {type(value).__name__}; name the one of the text with "
            "--config.data.text_field"
        )
