"""Datasets of TFDS: read without TensorFlow, and said in a sentence where they cannot be read."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from perceiver_jax.data import DatasetError, sources
from perceiver_jax.data.tfds import TfdsImages, load_tfds

tfds = pytest.importorskip("tensorflow_datasets")


def encoded(image, suffix):
    """[H, W, c] uint8, RGB or grey → bytes of an image file."""
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


class TwoColours(tfds.core.GeneratorBasedBuilder):
    """Images of changing height whose red channel is ten times their number."""

    VERSION = tfds.core.Version("1.0.0")
    NAMES = ("warm", "cold")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=self.NAMES),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(5), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for i in range(count):
            image = np.full((4 + i, 6, 3), [10 * i, 0, 255], np.uint8)
            # Files that are encoded already are stored as they are, without TensorFlow.
            yield i, {"image": io.BytesIO(encoded(image, ".png")), "label": i % 2}


class NoClasses(tfds.core.GeneratorBasedBuilder):
    """Datasets of which nothing can be told apart."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("caption", "label")]

    def _info(self):
        text, number = tfds.features.Text(), tfds.features.Scalar(np.int64)
        second = {"caption": text} if self.builder_config.name == "caption" else {"label": number}
        features = tfds.features.FeaturesDict({"image": tfds.features.Image()} | second)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        raise NotImplementedError

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder with the prepared dataset."""
    folder = tmp_path_factory.mktemp("tfds")
    tfds.display_progress_bar(False)
    TwoColours(data_dir=folder, file_format="array_record").download_and_prepare()
    return str(folder)


def test_a_prepared_dataset_is_read_back_without_tensorflow(data_dir):
    source = sources.load("tfds:two_colours", "train", data_dir)
    assert source.class_names == TwoColours.NAMES
    examples = [source[i] for i in range(len(source))]
    assert len(examples) == 5
    for example in examples:
        number = example["image"].shape[0] - 4
        expected = np.full((4 + number, 6, 3), [10 * number, 0, 255], np.uint8)
        np.testing.assert_array_equal(example["image"], expected)
        assert example["label"] == number % 2
    assert {example["image"].shape[0] for example in examples} == {4, 5, 6, 7, 8}
    assert "tensorflow" not in sys.modules


def test_slices_of_a_split_can_be_read(data_dir):
    assert len(load_tfds("two_colours", "train[:2]", data_dir)) == 2
    assert len(load_tfds("two_colours:1.0.0", "test", data_dir)) == 3


def test_a_split_that_is_not_there_is_answered_with_those_there_are(data_dir):
    with pytest.raises(DatasetError, match=r"split 'dev', cannot be read.*'train', 'test'"):
        load_tfds("two_colours", "dev", data_dir)


@pytest.mark.parametrize(
    ("name", "split", "shape", "suffix", "num_classes"),
    [
        ("mnist", "test", (28, 28, 1), ".png", 10),
        ("imagenet2012", "validation", (40, 30, 3), ".jpg", 1000),
    ],
)
def test_a_stock_dataset_is_decoded_with_its_own_features(
    name, split, shape, suffix, num_classes, monkeypatch
):
    image = np.full(shape, 200, np.uint8)
    image[: shape[0] // 2] = 20

    def records(builder, split, decoders):
        assert type(decoders["image"]).__name__ == "SkipDecoding"
        return [{"image": encoded(image, suffix), "label": np.int64(7)}] * 4

    with tfds.testing.mock_data(as_data_source_fn=records):
        source = sources.load(f"tfds:{name}", split, None)
    assert len(source) == 4 and len(source.class_names) == num_classes
    assert source[3]["label"] == 7
    # JPEG loses a little at the edge between the halves.
    off = np.abs(source[3]["image"].astype(int) - image)
    assert source[3]["image"].shape == shape and np.median(off) == 0 and off.max() <= 12
    assert "tensorflow" not in sys.modules


def test_a_dataset_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(DatasetError) as error:
        sources.load("tfds:mnist", "test", str(tmp_path))
    message = str(error.value)
    assert "'tfds:mnist', split 'test', cannot be read" in message
    assert "tfds.builder('mnist', file_format='array_record').download_and_prepare()" in message
    assert "--config.data.data_dir" in message


def test_a_dataset_that_tfds_does_not_know_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="'tfds:no_such_set'.* cannot be read"):
        sources.load("tfds:no_such_set", "test", str(tmp_path))


@pytest.mark.parametrize("features", ["caption", "label"])
def test_a_dataset_without_class_labels_is_refused(features):
    with tfds.testing.mock_data(as_data_source_fn=lambda builder, split, decoders: []):
        with pytest.raises(DatasetError, match=f"image, {features}; image classification needs"):
            load_tfds(f"no_classes/{features}", "train", None)


def test_images_are_not_turned_as_their_cameras_say():
    photo, file = Image.new("RGB", (6, 4)), io.BytesIO()
    exif = photo.getexif()
    exif[0x112] = 6
    photo.save(file, "JPEG", exif=exif)
    source = TfdsImages([{"image": file.getvalue(), "label": 0}], 3, ("only",))
    # As TFDS itself.
    decoded = tfds.features.Image(shape=(None, None, 3)).decode_example_np(file.getvalue())
    assert source[0]["image"].shape == decoded.shape == (4, 6, 3)


def test_bytes_that_are_no_image_are_an_error_that_names_the_example():
    def records(builder, split, decoders):
        return [{"image": b"no picture", "label": 0}]

    with tfds.testing.mock_data(as_data_source_fn=records):
        source = load_tfds("mnist", "test", None)
    with pytest.raises(DatasetError, match="example 0 .* holds no readable image; prepare"):
        source[0]
