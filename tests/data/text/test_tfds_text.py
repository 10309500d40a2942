"""Text datasets of TFDS: read without TensorFlow."""

import sys

import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.text.documents import open_documents

tfds = pytest.importorskip("tensorflow_datasets")


class ShortReviews(tfds.core.GeneratorBasedBuilder):
    """Texts with classes, of which one split has none."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "title": tfds.features.Text(),
            "score": tfds.features.Scalar(np.int64),
            "label": tfds.features.ClassLabel(names=["neg", "pos"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(150), "unsupervised": self._generate_examples(0)}

    def _generate_examples(self, count):
        for i in range(count or 3):
            text = f"réview {i}".encode("latin-1" if i == 140 else "utf-8")
            label = i % 2 if count else -1
            yield i, {"text": text, "title": f"title {i}", "score": i, "label": label}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the prepared dataset."""
    folder = tmp_path_factory.mktemp("tfds")
    tfds.display_progress_bar(False)
    ShortReviews(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


@pytest.fixture
def open_split(make_config, data_dir):
    """A function that opens a split of the dataset."""

    def open_it(split="train", labels=False, **fields):
        config = make_config("tfds:short_reviews", data_dir=data_dir, **fields)
        return open_documents(config, split, labels=labels)

    return open_it


def test_texts_and_classes_are_read_back_without_tensorflow(open_split):
    documents = open_split(labels=True, encoding_errors="replace")
    assert documents.class_names == ("neg", "pos")
    found = {document.text: document.label for document in documents}
    assert len(found) == 150
    assert found["réview 7"] == 1
    assert found["r\ufffdview 140"] == 0
    assert "tensorflow" not in sys.modules


def test_without_labels_documents_have_none(open_split):
    assert {document.label for document in open_split(text_field="title")} == {None}


def test_splits_may_be_slices(open_split):
    parts = [open_split(f"train[{part}]", text_field="title") for part in (":90%", "90%:")]
    titles = [{document.text for document in part} for part in parts]
    assert [len(part) for part in titles] == [135, 15]
    assert not titles[0] & titles[1]
    assert parts[0].fingerprint != parts[1].fingerprint


def test_documents_without_a_class_are_left_out_where_classes_are_asked_for(open_split):
    assert len(list(open_split("unsupervised"))) == 3
    assert list(open_split("unsupervised", labels=True)) == []


def test_bytes_that_are_not_utf8_are_named_with_their_example(open_split):
    with pytest.raises(DatasetError, match=r"example \d+ of dataset 'tfds:short_reviews'.* 0xe9"):
        list(open_split())


def test_a_missing_text_is_answered_with_the_features_there_are(open_split):
    with pytest.raises(DatasetError, match="text, title, score, label, and no 'body'"):
        open_split(text_field="body")
    with pytest.raises(DatasetError, match="field 'score', holds int"):
        list(open_split(text_field="score"))


@pytest.mark.parametrize("field", ["gone", "score"])
def test_a_missing_class_is_an_error_where_classes_are_asked_for(open_split, field):
    with pytest.raises(DatasetError, match="has no labels"):
        open_split(labels=True, label_field=field)


def test_an_unprepared_dataset_is_answered_with_how_to_prepare_it(make_config):
    with pytest.raises(DatasetError, match="'tfds:imdb_reviews', split 'train'") as error:
        open_documents(make_config("tfds:imdb_reviews"), "train")
    assert "download_and_prepare" in str(error.value)


def test_imdb_reviews_have_the_features_that_are_read(make_config):
    with tfds.testing.mock_data(num_examples=5):
        config = make_config("tfds:imdb_reviews", data_dir=None)
        assert open_documents(config, "train", labels=True).class_names == ("neg", "pos")


def test_parts_are_blocks_of_examples(open_split, monkeypatch):
    monkeypatch.setattr("perceiver_jax.data.text.tfds_text._PART", 70)
    documents = open_split(encoding_errors="replace")
    assert documents.num_parts == 3
    parts = [[x.text for x in documents.part(i, 0)] for i in range(3)]
    assert [len(part) for part in parts] == [70, 70, 10]
    assert sum(parts, []) == [document.text for document in documents]
    assert [x.text for x in documents.part(1, 67)] == parts[1][67:]
