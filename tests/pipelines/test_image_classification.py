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
from perceiver_jax.pipelines.attention_plots import write_figure
from perceiver_jax.pipelines.image_classification import (
    BATCH_SIZE,
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
    guesses = list(ImageClassification(released)(pictures, top=3))
    images = np.stack([preprocess(read_picture(path), GREY) for path in pictures])
    probabilities = np.asarray(jax.nn.softmax(released.model()(images)))
    assert len(guesses) == 10
    for found, row in zip(guesses, probabilities, strict=True):
        order = np.argsort(-row)[:3]
        assert [label for label, _ in found] == ["abcde"[i] for i in order]
        np.testing.assert_allclose([p for _, p in found], row[order], atol=1e-6)


def test_arrays_are_pictures_too(released, pictures):
    classify = ImageClassification(released)
    assert list(classify([read_picture(pictures[3])])) == list(classify([pictures[3]]))


def test_the_command_names_each_file_and_its_classes(released, pictures, tmp_path, capsys):
    released.save(tmp_path / "model")
    folder = pictures[0].parent
    run.main(["classify-image", f"--source=ours:{tmp_path / 'model'}", "--top=2", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == [str(path) for path in sorted(pictures)]
    label, probability = next(ImageClassification(released)(sorted(pictures)))[0]
    assert lines[1].split() == [f"{probability:.2%}", label]


def test_the_command_draws_where_the_model_looked(released, pictures, tmp_path, capsys):
    released.save(tmp_path / "model")
    source, out = f"--source=ours:{tmp_path / 'model'}", tmp_path / "out"
    run.main(["classify-image", source, "--top=1", f"--attention={out}", *map(str, pictures[:2])])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2::3] == [f"  attention: {out / name}.png" for name in "01"]
    classify = ImageClassification(released)
    for name, file in zip("01", pictures, strict=False):
        label, probability = next(classify([file]))[0]
        title = f"{file.name}: {label}, {probability:.1%}"
        write_figure(classify.attention(file).figure(title), tmp_path / "want.png")
        assert (out / f"{name}.png").read_bytes() == (tmp_path / "want.png").read_bytes()


def test_the_command_draws_the_latents_that_are_wanted(released, pictures, tmp_path):
    released.save(tmp_path / "model")
    source, drawn = f"--source=ours:{tmp_path / 'model'}", []
    for latents in ("3", "0,3", "3"):
        out = tmp_path / "a.png"
        options = [f"--attention={out}", f"--latents={latents}", str(pictures[0])]
        assert run.main(["classify-image", source, *options]) == 0
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[2] != drawn[1]


def test_latents_that_there_are_not_are_refused_before_anything_is_printed(
    released, pictures, tmp_path, capsys
):
    released.save(tmp_path / "model")
    options = [f"--attention={tmp_path / 'a.png'}", "--latents=0,3,700", str(pictures[0])]
    assert run.main(["classify-image", f"--source=ours:{tmp_path / 'model'}", *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: there is no latent 700; the model has 0 to 3\n"


def test_a_model_of_one_token_is_refused_before_anything_is_printed(
    tiny_config, random_model, pictures, tmp_path, capsys
):
    config = tiny_config(preprocessing="patches", patch_size=8)
    release(random_model(lambda: models.build(config, jax.random.key(0)))).save(tmp_path / "model")
    options = [f"--attention={tmp_path / 'a.png'}", str(pictures[0])]
    assert run.main(["classify-image", f"--source=ours:{tmp_path / 'model'}", *options]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "have no places in an image of 8×8" in said.err


def test_other_models_are_refused(text_release):
    with pytest.raises(UserError, match="^a masked language model .* does not classify images"):
        ImageClassification(text_release())


def test_pictures_are_read_batch_by_batch(released):
    read = []

    def pictures():
        for i in range(20):
            read.append(i)
            yield np.full((9, 9, 3), i, np.uint8)

    found = ImageClassification(released)(pictures())
    assert not read
    next(found)
    assert len(read) == BATCH_SIZE
    assert len(list(found)) == 19 and len(read) == 20


def test_a_bad_file_leaves_what_is_printed(released, pictures, tmp_path, capsys):
    released.save(tmp_path / "model")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    files = [str(path) for path in (*sorted(pictures)[:BATCH_SIZE], bad)]
    assert run.main(["classify-image", f"--source=ours:{tmp_path / 'model'}", *files]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[::6] == files[:BATCH_SIZE]
    assert "bad.png cannot be read as an image" in said.err


@pytest.mark.parametrize("top", ["0", "-1", "x"])
def test_the_number_of_classes_is_positive(top, capsys):
    with pytest.raises(SystemExit):
        run.main(["classify-image", "--source=x", f"--top={top}", "x.png"])
    assert f"'{top}' is no whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("latents", ["", "1,", "-1", "1;2"])
def test_latents_are_whole_numbers(latents, capsys):
    with pytest.raises(SystemExit):
        run.main(["classify-image", "--source=x", f"--latents={latents}", "x.png"])
    assert "is no whole number from 0 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--source=nowhere", "x.png"], "there is no workdir nowhere"),
        (["--source=onnx:x", "x.png"], "there is no format 'onnx'"),
        (["--source=nowhere", "--attention=a.gif", "x.png"], "ends in none of .png, .pdf, .svg"),
        (["--source=nowhere", "--latents=1,2", "x.png"], "--attention=OUT draws; give that"),
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


DEEP = np.array([[0, 257, 1000], [40_000, 65_278, 65_535]], np.uint16)


@pytest.mark.parametrize(
    ("name", "pixels", "mode"),
    [
        ("16.png", DEEP, "I;16"),
        ("16.tif", DEEP, "I;16"),
        ("big-endian.tif", None, "I;16B"),
        ("32.tif", DEEP.astype(np.int32), "I"),
    ],
)
def test_deep_pictures_become_8_bits(tmp_path, name, pixels, mode):
    if pixels is None:
        Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes()).save(tmp_path / name)
    else:
        Image.fromarray(pixels).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode == mode
    want = np.repeat(np.round(DEEP[..., None] / 257), 3, axis=-1)
    found = read_picture(tmp_path / name)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, want)


def test_the_transparent_grey_of_a_deep_picture_is_white(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "x.png", transparency=1000)
    assert read_picture(tmp_path / "x.png")[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (DEEP.astype(np.float32), "floating-point"),
        (DEEP.astype(np.int32) - 1, "-1 to 65534"),
        (DEEP.astype(np.int32) + 1, "1 to 65536"),
    ],
)
def test_pictures_of_unknown_range_are_refused(tmp_path, pixels, complaint):
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=f"x.tif cannot be read as an image: .*{complaint}"):
        read_picture(tmp_path / "x.tif")


def test_every_other_kind_of_picture_is_read(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    kinds = {
        "cmyk.tif": (Image.new("CMYK", (2, 1), (255, 0, 0, 0)), {}, [[0, 255, 255]] * 2),
        "la.png": (Image.new("LA", (2, 1), (0, 0)), {}, [[255] * 3] * 2),
        "half.png": (Image.new("LA", (2, 1), (0, 51)), {}, [[204] * 3] * 2),
        "p.png": (palette, {}, [[10, 20, 30], [200, 100, 50]]),
        "clear.png": (palette, {"transparency": 0}, [[255] * 3, [200, 100, 50]]),
        "bits.png": (Image.new("1", (2, 1), 1), {}, [[255] * 3] * 2),
    }
    for name, (image, options, want) in kinds.items():
        image.save(tmp_path / name, **options)
        assert read_picture(tmp_path / name)[0].tolist() == want, name


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
