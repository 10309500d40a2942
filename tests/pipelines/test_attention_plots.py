"""Heat over a picture, and where figures are written."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceiver_jax.errors import UserError
from perceiver_jax.pipelines.attention_plots import (
    Heat,
    brightest,
    figure_files,
    heat_figure,
    write_figure,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
HEAT = Heat("rollout of the answer", np.array([[0.4, 0.1], [0.2, 0.3]]))


def made(parts=(HEAT,), title="title", picture=PICTURE):
    return heat_figure(picture, HEAT, parts, title=title, caption="caption")


def pixels(figure):
    """The figure as [height, width, 3]."""
    figure.savefig(png := io.BytesIO(), format="png")
    return np.asarray(Image.open(png).convert("RGB"))


def test_heat_lies_over_the_whole_picture_cell_by_cell():
    figure = made()
    axes = [axes for axes in figure.axes if axes.images][1]
    below, above = axes.images
    assert above.get_extent() == below.get_extent() == [-0.5, 39.5, 19.5, -0.5]
    np.testing.assert_allclose(above.get_array(), HEAT.weights * 4)
    assert above.get_interpolation() == "nearest"


def test_the_scale_is_told():
    figure = made([HEAT, Heat("part", np.array([[0.97, 0.01, 0.01, 0.01]]))])
    titles = [axes.get_title() for axes in figure.axes]
    assert "rollout of the answer\n0 to 1.6×" in titles and "part\n0 to 3.9×" in titles
    (bar,) = [axes for axes in figure.axes if not axes.images and axes.axison]
    np.testing.assert_allclose(bar.get_ylim(), (0, 1.6))
    assert "rollout of the answer\nin multiples of the even weight" in titles


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        (np.full(100, 0.01), 0.01),
        # One of many cells does not leave the others dark.
        (np.array([0.1] + [0.009] * 100), 0.009),
        # Where it has the most of it, it is the brightest.
        (np.array([0.6] + [0.004] * 100), 0.6),
        (np.array([1.0, 0, 0, 0]), 1.0),
    ],
)
def test_the_brightest_colour_is_of_a_fifth_of_the_weight(weights, want):
    assert brightest(weights) == want
    assert brightest(weights[::-1].reshape(-1, 1)) == want


def texts(figure):
    """Where each text of a figure lies, in pixels, and the text."""
    figure.draw_without_rendering()
    titles = [axes.title for axes in figure.axes] + [part._suptitle for part in figure.subfigs]
    return [(t.get_window_extent(), t.get_text()) for t in titles if t.get_text()]


@pytest.mark.parametrize(
    ("shape", "count"), [((20, 20, 1), 1), ((10, 40, 3), 20), ((40, 20, 3), 6)]
)
def test_no_text_lies_on_another_or_beyond_the_edge(shape, count):
    parts = [Heat(f"latent {100 + i}: 10.0%", HEAT.weights) for i in range(count)]
    title = "a rather long name of a file.jpeg: " + "a class, of many names, " * 5
    figure = made(parts, title, np.zeros(shape, np.uint8))
    places = texts(figure)
    assert len(places) == count + 4
    whole = figure.bbox
    for i, (box, text) in enumerate(places):
        assert box.x0 >= 0 and box.x1 <= whole.width, text
        assert box.y0 >= 0 and box.y1 <= whole.height, text
        for other, other_text in places[:i]:
            assert not box.overlaps(other), (text, other_text)


def test_a_title_is_no_formula():
    plain = pixels(made(title="x a$b$ y"))
    assert (plain != pixels(made(title="x ab y"))).any()
    pixels(made(title=r"$\nothing$.png"))


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")]
)
def test_figures_are_written_in_the_format_of_their_name(tmp_path, ending, begins):
    path = tmp_path / f"a.{ending}"
    write_figure(made(), path)
    assert path.read_bytes().startswith(begins)


def test_a_figure_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="a.png cannot be written: "):
        write_figure(made(), tmp_path / "a.png")


def test_one_image_has_one_file(tmp_path):
    out = tmp_path / "out.pdf"
    assert figure_files(out, [Path("a.jpg")]) == [out]


def test_images_have_a_folder(tmp_path):
    out = tmp_path / "new" / "out"
    assert figure_files(out, [Path("a.jpg"), Path("b.png")]) == [out / "a.png", out / "b.png"]
    assert out.is_dir()
    found = figure_files(out, [Path("a.jpg"), Path("a.png")])
    assert found == [out / "a.jpg.png", out / "a.png.png"]
    dotted = tmp_path / "v1.png"
    dotted.mkdir()
    assert figure_files(dotted, [Path("a.jpg")]) == [dotted / "a.png"]


@pytest.mark.parametrize(
    ("out", "images", "complaint"),
    [
        ("out.gif", ["a.jpg"], "ends in none of .png, .pdf, .svg"),
        ("out.png", ["a.jpg", "b.jpg"], "is one file, and there are 2 images; name a folder"),
        ("missing/out.png", ["a.jpg"], "a folder that is not there; make .*missing"),
        ("out", ["x/a.jpg", "y/a.jpg"], "2 images are named a.jpg"),
        ("a.png", ["a.png"], "would replace the image .*a.png"),
        (".", ["b.jpg", "a.png"], "would replace the image .*a.png"),
        ("file", ["a.jpg"], "file cannot be made: File exists"),
    ],
)
def test_what_cannot_be_written_is_told_before(tmp_path, monkeypatch, out, images, complaint):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UserError, match=complaint):
        figure_files(Path(out), [Path(image) for image in images])
