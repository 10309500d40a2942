"""Pictures to class names, and `python -m perceiver_jax.run classify-image`."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from perceiver_jax import models, run
from perceiver_jax.card import ImagePreprocessing, ModelCard
from perceiver_jax.data.imagenet import imagenet_classes
from perceiver_jax.data.preprocessing import preprocess
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import release
from perceiver_jax.pipelines.image_classification import (
    ImageClassification,
    image_files,
    read_picture,
    usual_labels,
    usual_preprocessing,
)

GREY = ImagePreprocessing(image_shape=(8, 8, 1), crop=None, mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def released(tiny_config, random_model):
    """A tiny classifier with names for its five classes."""
    found = release(random_model(lambda: models.build(tiny_config(), jax.random.key(0))))
    return dataclasses.replace(found, card=ModelCard(labels=tuple("abcde"), preprocessing=GREY))


@pytest.fixture
def pictures(tmp_path):
    """Ten image files of different sizes and kinds."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(10):
        pixels = rng.integers(0, 256, (9 + i, 14, 3), np.uint8)
        paths.append(tmp_path / f"{i}.{('png', 'jpg')[i % 2]}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_guesses_are_the_models_probabilities(released, pictures):
    guesses = ImageClassification(released)(pictures, top=3)
    images = np.stack([preprocess(read_picture(path), GREY) for path in pictures])
    probabilities = np.asarray(jax.nn.softmax(released.model()(images)))
    assert len(guesses) == 10
    for found, row in zip(guesses, probabilities, strict=True):
        order = np.argsort(-row)[:3]
        assert [label for label, _ in found] == ["abcde"[i] for i in order]
        np.testing.assert_allclose([p for _, p in found], row[order], atol=1e-6)


def test_arrays_are_pictures_too(released, pictures):
    classify = ImageClassification(released)
    assert classify([read_picture(pictures[3])]) == classify([pictures[3]])


def test_the_command_names_each_file_and_its_classes(released, pictures, tmp_path, capsys):
    released.save(tmp_path / "model")
    folder = pictures[0].parent
    run.main(["classify-image", f"--source=ours:{tmp_path / 'model'}", "--top=2", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == [str(path) for path in sorted(pictures)]
    label, probability = ImageClassification(released)(sorted(pictures))[0][0]
    assert lines[1].split() == [f"{probability:.2%}", label]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--source=nowhere", "x.png"], "there is no workdir nowhere"),
        (["--source=onnx:x", "x.png"], "there is no format 'onnx'"),
        (["--source=hugginface:x", "x.png"], "did you mean 'huggingface'"),
    ],
)
def test_the_command_ends_in_a_sentence(arguments, complaint, capsys):
    assert run.main(["classify-image", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and complaint in said


def test_files_that_are_no_images_are_named(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="x.png cannot be read as an image"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(UserError, match="there is no image file"):
        read_picture(tmp_path / "y.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="has no images"):
        image_files([empty])


def test_a_picture_is_upright_and_its_transparency_white(tmp_path):
    lying = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    exif = lying.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    lying.save(tmp_path / "lying.png", exif=exif)
    assert read_picture(tmp_path / "lying.png").shape == (4, 2, 3)
    Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()


def test_imagenet_classes_are_a_thousand_in_order():
    names = imagenet_classes()
    assert len(names) == 1000
    assert names[0].startswith("tench") and names[281].startswith("tabby")
    assert names[999].startswith("toilet tissue")
    assert usual_labels(1000) == names
    assert usual_labels(2) == ("class 0", "class 1")


def test_usual_preprocessing_depends_on_the_channels():
    assert usual_preprocessing((224, 224, 3)) == ImagePreprocessing()
    assert usual_preprocessing((8, 8, 1)) == GREY


def test_preprocessing_for_other_images_is_refused(released):
    card = ModelCard(preprocessing=dataclasses.replace(GREY, image_shape=(9, 9, 1)))
    with pytest.raises(
        UserError, match=r"makes images of \[9, 9, 1\], the model takes \[8, 8, 1\]"
    ):
        ImageClassification(dataclasses.replace(released, card=card))
