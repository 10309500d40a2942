"""Random crops and warps of single images."""

import dataclasses

import numpy as np
import pytest

from perceiver_jax.data import DatasetError, ImageDataConfig, Shard, image_batches, images, sources

CONFIG = ImageDataConfig(dataset="synthetic")


class Fixed:
    """A random generator whose every number is `value` of the way from low to high."""

    def __init__(self, value):
        self.value = value

    def uniform(self, low=0.0, high=1.0, size=None):
        number = low + self.value * (high - low)
        return number if size is None else np.full(size, number)

    def random(self):
        return self.value


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("std", [(0.0,), (0.5, -0.5, 0.5)])
def test_a_deviation_that_is_not_positive_is_refused(std):
    with pytest.raises(ValueError, match="std=.* must be above 0"):
        dataclasses.replace(CONFIG, std=std)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 3), (13, 7, 3), (7, 13, 1), (64, 33, 1)])
@pytest.mark.parametrize("size", [(8, 8), (5, 3), (1, 1)])
def test_crops_have_the_wanted_size_for_odd_inputs(shape, size):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    crops = [images.random_resized_crop(image, size, np.random.default_rng(i)) for i in range(20)]
    for crop in crops:
        assert crop.shape == (*size, shape[-1])
        assert crop.dtype == np.uint8


def test_random_crops_lie_inside_and_cover_the_documented_area_and_aspect():
    # Rows and columns count up, so differences over a crop tell how much of the image it shows.
    rows, columns = np.mgrid[0:200:2, 0:200:2].astype(np.uint8)
    image = np.stack([rows, columns, rows], axis=-1)
    areas, aspects = [], []
    for i in range(300):
        crop = images.random_resized_crop(image, (50, 50), np.random.default_rng(i)).astype(int)
        height = (crop[-1, 25, 0] - crop[0, 25, 0]) / 2 * 50 / 49
        width = (crop[25, -1, 1] - crop[25, 0, 1]) / 2 * 50 / 49
        areas.append(height * width / 1e4)
        aspects.append(width / height)
    assert 0.05 < min(areas) < 0.15 and 0.9 < max(areas) < 1.05
    assert 0.7 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.4


def test_a_warp_without_range_returns_the_image(picture):
    assert images.random_warp(picture, CONFIG, np.random.default_rng(0)) is picture


def test_a_warp_that_draws_zeros_changes_nothing(picture):
    config = dataclasses.replace(CONFIG, max_shift=3, max_rotation=20, max_scale=0.2, max_shear=0.2)
    np.testing.assert_array_equal(images.random_warp(picture, config, Fixed(0.5)), picture)


@pytest.mark.parametrize("shift", [1, 2])
def test_a_shift_moves_by_whole_pixels_and_leaves_a_black_border(picture, shift):
    config = dataclasses.replace(CONFIG, max_shift=float(shift))
    for value, forward in ((1.0, True), (0.0, False)):
        moved = images.random_warp(picture, config, Fixed(value))
        want = np.zeros_like(picture)
        if forward:
            want[shift:, shift:] = picture[:-shift, :-shift]
        else:
            want[:-shift, :-shift] = picture[shift:, shift:]
        np.testing.assert_array_equal(moved, want)


def test_a_quarter_turn_is_a_quarter_turn_about_the_centre():
    square = np.random.default_rng(0).integers(0, 256, (7, 7, 1), np.uint8)
    config = dataclasses.replace(CONFIG, max_rotation=90.0)
    turned = images.random_warp(square, config, Fixed(1.0))
    # [column, row] of a point goes to [-row, column]: clockwise, as rows count downwards.
    want = np.rot90(square, -1)
    assert np.abs(turned.astype(int) - want).max() <= 1


def test_zoom_and_shear_keep_the_centre_and_move_the_rest():
    image = np.zeros((21, 21, 1), np.uint8)
    image[10, 10] = image[10, 14] = image[14, 10] = 255
    zoom = dataclasses.replace(CONFIG, max_scale=0.5)
    zoomed = images.random_warp(image, zoom, Fixed(1.0))
    assert zoomed[10, 10] == 255 and zoomed[10, 16] == 255 and zoomed[16, 10] == 255
    shear = dataclasses.replace(CONFIG, max_shear=0.5)
    sheared = images.random_warp(image, shear, Fixed(1.0))
    assert sheared[10, 10] == 255 and sheared[10, 14] == 255 and sheared[14, 12] == 255


def test_a_warp_keeps_the_channel_axis_of_grey_images():
    image = np.full((5, 6, 1), 9, np.uint8)
    config = dataclasses.replace(CONFIG, max_shift=1.0)
    assert images.random_warp(image, config, np.random.default_rng(0)).shape == (5, 6, 1)


def test_flipping_mirrors_about_half_of_the_training_images_and_no_held_out_one(monkeypatch):
    class Halves:
        class_names = ("only",)

        def __len__(self):
            return 200

        def __getitem__(self, index):
            return {"image": np.array([[[0], [255]]], np.uint8), "label": 0}

    monkeypatch.setitem(sources.DATASETS, "halves", lambda split: Halves())
    config = ImageDataConfig(
        dataset="halves", batch_size=200, eval_batch_size=200, random_flip=True
    )

    def mirrored(training):
        batches = image_batches(config, training=training, seed=0, shard=Shard())
        image = batches[0]["image"]
        assert set(np.unique(image)) == {-1.0, 1.0}
        return int((image[:, 0, 0, 0] > image[:, 0, 1, 0]).sum())

    assert 70 < mirrored(training=True) < 130
    assert mirrored(training=False) == 0


def test_datasets_of_any_name_are_opened_through_one_door():
    with pytest.raises(DatasetError, match="no dataset is called 'synthetics'"):
        images.open_split(dataclasses.replace(CONFIG, dataset="synthetics"), "train")
