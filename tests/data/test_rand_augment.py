"""Operations of RandAugment: those of Pillow, where it has them, and their formulas."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from perceiver_jax.data import rand_augment
from perceiver_jax.data.rand_augment import OPERATIONS, RandAugment

GREY = (128, 128, 128)
FACTORS = [0.0, 0.1, 0.55, 1.0, 1.3, 1.9]


@pytest.fixture
def picture():
    """Noise of some contrast, below a stripe of full contrast."""
    rng = np.random.default_rng(0)
    picture = rng.integers(40, 220, (61, 83, 3), np.uint8)
    picture[:5] = rng.integers(0, 256, (5, 83, 3))
    return picture


def difference(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max()


def affine(picture, *matrix):
    """Pillow's transform by the matrix from output to input positions of pixels' corners."""
    image = Image.fromarray(picture)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=GREY
    )


def test_contrasts_and_histograms_are_those_of_pillow(picture):
    picture[5:] = picture[5:] // 2 + 30
    picture = picture[5:]
    image = Image.fromarray(picture)
    assert difference(picture, rand_augment.autocontrast(picture)) > 20
    np.testing.assert_array_equal(rand_augment.autocontrast(picture), ImageOps.autocontrast(image))
    np.testing.assert_array_equal(rand_augment.equalize(picture), ImageOps.equalize(image))


@pytest.mark.parametrize("operation", [rand_augment.autocontrast, rand_augment.equalize])
def test_channels_of_one_value_stay_as_they_are(picture, operation):
    picture[..., 1] = 77
    changed = operation(picture // 2)
    assert (changed[..., 1] == 38).all()
    assert difference(changed[..., 0], picture[..., 0] // 2) > 20


def test_equalizing_few_pixels_changes_nothing(picture):
    few = picture[:10, :20]
    np.testing.assert_array_equal(rand_augment.equalize(few), few)


def test_inversion_is_that_of_pillow(picture):
    image = Image.fromarray(picture)
    np.testing.assert_array_equal(rand_augment.invert(picture), ImageOps.invert(image))


def test_no_bits_are_black(picture):
    assert not rand_augment.posterize(picture, 0).any()


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterizing_is_that_of_pillow(picture, bits):
    want = ImageOps.posterize(Image.fromarray(picture), bits)
    np.testing.assert_array_equal(rand_augment.posterize(picture, bits), want)


@pytest.mark.parametrize("threshold", [0, 100, 128, 256])
def test_solarizing_is_that_of_pillow(picture, threshold):
    want = ImageOps.solarize(Image.fromarray(picture), threshold)
    np.testing.assert_array_equal(rand_augment.solarize(picture, threshold), want)


def test_adding_stops_at_white_and_spares_the_light():
    values = np.array([0, 10, 127, 128, 255], np.uint8).reshape(1, 5, 1).repeat(3, -1)
    got = rand_augment.solarize_add(values, 55)[0, :, 0]
    np.testing.assert_array_equal(got, [55, 65, 182, 128, 255])
    assert rand_augment.solarize_add(values, 200)[0, 2, 0] == 255


@pytest.mark.parametrize("factor", FACTORS)
def test_brightness_is_that_of_pillow(picture, factor):
    want = ImageEnhance.Brightness(Image.fromarray(picture)).enhance(factor)
    np.testing.assert_array_equal(rand_augment.brightness(picture, factor), want)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", ["color", "sharpness"])
def test_other_blends_are_those_of_pillow_up_to_its_rounding(picture, name, factor):
    enhance = {"color": ImageEnhance.Color, "sharpness": ImageEnhance.Sharpness}[name]
    want = enhance(Image.fromarray(picture)).enhance(factor)
    got = getattr(rand_augment, name)(picture, factor)
    assert difference(got, want) <= 1
    assert (difference(got, picture) == 0) == (factor == 1.0)


def test_smoothing_is_cut_off_and_not_rounded():
    dot = np.zeros((3, 4, 3), np.uint8)
    dot[1, 1] = 12
    smooth = rand_augment.sharpness(dot, 0.0)
    assert smooth[1, 1, 0] == 60 // 13 and smooth[1, 2, 0] == 12 // 13
    assert (smooth[0] == 0).all() and (smooth[:, 0] == 0).all()


def test_grey_counts_bytes_as_tensorflow_does():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    want = np.floor(np.array([0.2989, 0.587, 0.114, 0.9999]) * 255.5)
    got = rand_augment.color(colours, 0.0)
    np.testing.assert_array_equal(got, np.broadcast_to(want[None, :, None], got.shape))


@pytest.mark.parametrize(("shape", "grey"), [((60, 85), 19), ((300, 300), 255)])
def test_contrast_is_to_the_published_grey(shape, grey):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for factor in (0.0, 0.5, 1.5):
        want = np.clip(grey + factor * (picture.astype(float) - grey), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(rand_augment.contrast(picture, factor), want)


@pytest.mark.parametrize("degrees", [-30, -15, 7, 15, 90])
def test_rotation_is_that_of_pillow(picture, degrees):
    want = np.asarray(Image.fromarray(picture).rotate(degrees, fillcolor=GREY))
    got = rand_augment.rotate(picture, degrees)
    assert (got != want).any(-1).mean() < 0.001  # where two pixels are as near


@pytest.mark.parametrize("slope", [-0.15, 0.15, 0.3])
def test_shears_leave_their_edge_in_place_and_are_those_of_pillow(picture, slope):
    sideways, up = rand_augment.shear_x(picture, slope), rand_augment.shear_y(picture, slope)
    want = affine(picture, 1, slope, -slope / 2, 0, 1, 0)
    assert (sideways != np.asarray(want)).any(-1).mean() < 0.06
    want = affine(picture, 1, 0, 0, slope, 1, -slope / 2)
    assert (up != np.asarray(want)).any(-1).mean() < 0.06
    np.testing.assert_array_equal(sideways[0], picture[0])
    np.testing.assert_array_equal(up[:, 0], picture[:, 0])


@pytest.mark.parametrize("pixels", [-50, 7, 50, 90])
def test_translations_are_those_of_pillow(picture, pixels):
    want = affine(picture, 1, 0, pixels, 0, 1, 0)
    np.testing.assert_array_equal(rand_augment.translate_x(picture, pixels), want)
    want = affine(picture, 1, 0, 0, 0, 1, pixels)
    np.testing.assert_array_equal(rand_augment.translate_y(picture, pixels), want)


def test_a_position_between_two_pixels_is_rounded_away_from_zero():
    columns = np.arange(6, dtype=np.uint8)[None, :, None].repeat(3, -1)
    moved = rand_augment.translate_x(columns, 0.5)[0, :, 0]
    np.testing.assert_array_equal(moved, [1, 2, 3, 4, 5, 128])
    moved = rand_augment.translate_x(columns, -0.5)[0, :, 0]
    np.testing.assert_array_equal(moved, [128, 1, 2, 3, 4, 5])


def test_cutout_ends_at_the_border():
    black = np.zeros((10, 12, 3), np.uint8)
    for row, column, rows, columns in (
        (5, 6, slice(2, 8), slice(3, 9)),
        (0, 11, slice(0, 3), slice(8, 12)),
    ):
        want = black.copy()
        want[rows, columns] = 128
        np.testing.assert_array_equal(rand_augment.cutout(black, 3, row, column), want)
    assert not black.any()


def by_level(level, way):
    """Each operation with the arguments that the reference has for a level of 10ths."""
    factor = 1.8 * level / 10 + 0.1
    return [
        rand_augment.autocontrast,
        rand_augment.equalize,
        rand_augment.invert,
        lambda p: rand_augment.rotate(p, way * 3 * level),
        lambda p: rand_augment.posterize(p, {2: 0, 5: 2, 10: 4}[level]),
        lambda p: rand_augment.solarize(p, {2: 51, 5: 128, 10: 256}[level]),
        lambda p: rand_augment.color(p, factor),
        lambda p: rand_augment.contrast(p, factor),
        lambda p: rand_augment.brightness(p, factor),
        lambda p: rand_augment.sharpness(p, factor),
        lambda p: rand_augment.shear_x(p, way * 0.03 * level),
        lambda p: rand_augment.shear_y(p, way * 0.03 * level),
        lambda p: rand_augment.translate_x(p, way * 10 * level),
        lambda p: rand_augment.translate_y(p, way * 10 * level),
        None,
        lambda p: rand_augment.solarize_add(p, {2: 22, 5: 55, 10: 110}[level]),
    ]


@pytest.mark.parametrize("level", [2, 5, 10])
@pytest.mark.parametrize("index", [*range(14), 15])
def test_levels_become_the_published_arguments_either_way(picture, index, level):
    rng = np.random.default_rng(0)
    drawn = {OPERATIONS[index](picture, level / 10, rng).tobytes() for _ in range(20)}
    assert drawn == {by_level(level, way)[index](picture).tobytes() for way in (1, -1)}


@pytest.mark.parametrize(("level", "half"), [(2, 8), (5, 20), (10, 40)])
def test_cutouts_lie_anywhere(level, half):
    black = np.zeros((101, 121, 3), np.uint8)
    rng = np.random.default_rng(0)
    cuts = np.stack([OPERATIONS[14](black, level / 10, rng)[..., 0] for _ in range(300)]) == 128
    sizes = cuts.any(2).sum(1), cuts.any(1).sum(1)
    assert sizes[0].max() == sizes[1].max() == 2 * half
    assert cuts.any((0, 1)).all() and cuts.any((0, 2)).all()
    middles = [np.argwhere(cut).mean(0) for cut in cuts]
    np.testing.assert_allclose(np.mean(middles, 0), [50, 60], atol=5)


def test_blends_change_nothing_at_the_published_magnitude(picture):
    for index in (6, 7, 8, 9):
        np.testing.assert_array_equal(OPERATIONS[index](picture, 0.5, None), picture)


def test_operations_are_drawn_evenly_and_applied_one_after_the_other(monkeypatch):
    def append(index):
        return lambda picture, level, rng: np.append(picture, [index, int(100 * level)])

    monkeypatch.setattr(rand_augment, "OPERATIONS", tuple(map(append, range(16))))
    rng = np.random.default_rng(0)
    drawn = [RandAugment(4, 7.0)(np.array([-1]), rng) for _ in range(400)]
    assert {len(each) for each in drawn} == {9}
    assert {each[0] for each in drawn} == {-1}
    assert set(np.ravel([each[2::2] for each in drawn])) == {70}
    counts = np.bincount(np.ravel([each[1::2] for each in drawn]), minlength=16)
    assert counts.min() > 60 and counts.max() < 140
    first, second = np.array([each[[1, 3]] for each in drawn]).T
    assert (first == second).mean() < 0.12


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (30, 20, 3)])
def test_any_picture_keeps_its_shape_and_is_not_written_to(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    picture.flags.writeable = False
    for magnitude in (0.0, 5.0, 10.0):
        for seed in range(40):
            got = RandAugment(4, magnitude)(picture[:, ::-1], np.random.default_rng(seed))
            assert got.shape == shape and got.dtype == np.uint8


def test_the_generator_is_all_the_randomness(picture):
    augment = RandAugment(4, 5.0)
    one, same, other = (augment(picture, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
