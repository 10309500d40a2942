"""Where text comes from: documents one after the other, never all in memory."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.text.config import TextDataConfig


@dataclasses.dataclass(frozen=True)
class Document:
    """A text.

    Attributes:
        text: all of it.
        label: its class, from 0; None where it has none or none is asked for.
        target: probabilities of the classes, where the dataset knows more than the label.
    """

    text: str
    label: int | None = None
    target: tuple[float, ...] | None = None


class Documents(Protocol):
    """A split of a dataset, in an order that is always the same."""

    @property
    def fingerprint(self) -> str:
        """Tells whether the documents are those of another time, before they are divided."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class, in the order of the labels; empty where there are no labels."""
        ...

    def __iter__(self) -> Iterator[Document]:
        """The documents; empty ones may be among them."""
        ...


@runtime_checkable
class DividedDocuments(Protocol):
    """What documents have besides that need not be read from the first, but lie in parts."""

    @property
    def num_parts(self) -> int:
        """One or more, files for example."""
        ...

    def part(self, index: int, start: int) -> Iterator[Document]:
        """The documents of a part from number `start` on; all parts in order are all documents."""
        ...


def open_documents(config: TextDataConfig, split: str, *, labels: bool = False) -> Documents:
    """The documents of a split.

    Args:
        config: names the dataset.
        split: "train", "test", or whatever splits the dataset has.
        labels: whether documents have their labels, and those without one are left out.

    Raises:
        DatasetError: no such dataset or split, not prepared, or no labels where they are asked for.
    """
    scheme, _, rest = config.dataset.partition(":")
    documents: Documents
    if scheme == "tfds" and rest:
        from perceiver_jax.data.text.tfds_text import TfdsDocuments

        documents = TfdsDocuments(rest, split, config, labels=labels)
    elif scheme == "files" and rest:
        from perceiver_jax.data.text.files import FileDocuments

        documents = FileDocuments(rest, split, config, labels=labels)
    elif scheme == "enwik8" and rest:
        from perceiver_jax.data.text.enwik8 import Enwik8

        documents = Enwik8(rest, split, config.encoding_errors)
    elif config.dataset == "movie_snippets":
        from perceiver_jax.data.text.movie_snippets import MovieSnippets

        documents = MovieSnippets(split, config.data_dir, labels=labels)
    elif config.dataset == "python_docs":
        from perceiver_jax.data.text.python_docs import PythonDocs

        documents = PythonDocs(split)
    elif config.dataset == "synthetic":
        from perceiver_jax.data.text.synthetic import SyntheticSentences

        documents = SyntheticSentences(split)
    else:
        raise DatasetError(
            f"no text dataset is called '{config.dataset}'; there are python_docs, "
            "movie_snippets, synthetic, 'files:PATH' for files of your own, 'enwik8:PATH' for that "
            "file and 'tfds:NAME' for datasets prepared with TensorFlow Datasets"
        )
    if labels and not documents.class_names:
        raise DatasetError(
            f"dataset '{config.dataset}' has no labels, which classification needs; choose "
            "another one, or, for files of your own, name their --config.data.label_field "
            f"(it is '{config.label_field}')"
        )
    return documents
