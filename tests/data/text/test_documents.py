"""Text datasets by name, those inside Python and the synthetic ones."""

import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text.documents import open_documents


def texts(config, split, **options):
    return [document.text for document in open_documents(config, split, **options)]


@pytest.mark.parametrize("dataset", ["synthetic", "python_docs"])
def test_a_split_is_the_same_at_every_call_and_passes_again(make_config, dataset):
    config = make_config(dataset)
    for split in ("train", "test"):
        documents = open_documents(config, split)
        first = list(documents)
        assert first and list(documents) == first
        again = open_documents(config, split)
        assert list(again) == first
        assert again.fingerprint == documents.fingerprint
    other = open_documents(config, "train")
    assert other.fingerprint != documents.fingerprint


def test_python_docs_are_every_topic_once(make_config):
    from pydoc_data.topics import topics

    config = make_config("python_docs")
    train, test = texts(config, "train"), texts(config, "test")
    assert sorted(train + test) == sorted(topics.values())
    assert len(test) == len(topics) // 10


def test_synthetic_sentences_tell_their_label(make_config):
    config = make_config("synthetic")
    documents = list(open_documents(config, "train", labels=True))
    assert len(documents) == 2048 and len(texts(config, "test")) == 512
    for document in documents:
        good = any(word in document.text for word in ("enjoys", "finds", "likes", "loves"))
        assert document.label == good
    assert 900 < sum(document.label for document in documents) < 1150


@pytest.mark.parametrize("dataset", ["synthetic", "python_docs"])
def test_an_unknown_split_is_answered_with_the_splits_there_are(make_config, dataset):
    with pytest.raises(DatasetError, match="no split is called 'dev'; there are train, test"):
        open_documents(make_config(dataset), "dev")


@pytest.mark.parametrize("dataset", ["imdb", "tfds:", "files:", "https://x"])
def test_an_unknown_dataset_is_answered_with_the_datasets_there_are(make_config, dataset):
    with pytest.raises(DatasetError, match=f"'{dataset}'; there are python_docs, movie_snippets"):
        open_documents(make_config(dataset), "train")


def test_documents_without_labels_are_refused_where_labels_are_needed(make_config):
    with pytest.raises(DatasetError, match="'python_docs' has no labels"):
        open_documents(make_config("python_docs"), "train", labels=True)
