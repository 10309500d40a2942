"""What the tests of text share: documents in memory, and configs that write below tmp_path."""

import dataclasses

import pytest

from perceiver_jax.data.text import TextDataConfig
from perceiver_jax.data.text.documents import Document


@dataclasses.dataclass
class Listed:
    """Documents in a list; `labels` and `targets` may be shorter."""

    texts: list
    labels: tuple = ()
    class_names: tuple = ()
    fingerprint: str = "listed"
    targets: tuple = ()

    def __iter__(self):
        for i, text in enumerate(self.texts):
            label, target = (x[i] if i < len(x) else None for x in (self.labels, self.targets))
            yield Document(text, label, target)


@pytest.fixture(scope="session")
def listed():
    """The class of documents in a list."""
    return Listed


@pytest.fixture
def make_config(tmp_path):
    """A function that makes a config whose files lie below tmp_path."""

    def make(dataset="synthetic", **fields):
        folders = {"cache_dir": str(tmp_path / "prepared"), "data_dir": str(tmp_path / "datasets")}
        small = {"batch_size": 4, "eval_batch_size": 4, "max_seq_len": 16}
        return TextDataConfig(dataset=dataset, **(folders | small | fields))

    return make
