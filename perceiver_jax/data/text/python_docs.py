"""The language reference that comes with Python: half a megabyte of English that is always there.

- One document per topic of `help()`; the text differs a little between versions of Python.
- The split is a fixed permutation, the same for every run and seed; a tenth is held out.
"""

from collections.abc import Iterator

import numpy as np

from perceiver_jax.data.fingerprints import fingerprint
from perceiver_jax.data.splits import check_split
from perceiver_jax.data.text.documents import Document


class PythonDocs:
    """Topics of Python's language reference.

    Args:
        split: "train" or "test".

    Raises:
        DatasetError: the split is unknown.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, split: str):
        from pydoc_data.topics import topics

        check_split(split, ("train", "test"))
        names = sorted(topics)
        order = np.random.default_rng(0).permutation(len(names))
        num_test = len(names) // 10
        chosen = order[-num_test:] if split == "test" else order[:-num_test]
        self._texts = [topics[names[i]] for i in chosen]
        self.fingerprint = fingerprint("python_docs", self._texts)

    def __iter__(self) -> Iterator[Document]:
        return map(Document, self._texts)
