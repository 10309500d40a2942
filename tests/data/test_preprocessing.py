"""From pictures to model inputs: crop, resize, normalise, as each reference does it."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from perceiver_jax.card import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessing
from perceiver_jax.data.preprocessing import (
    central_square,
    denormalize,
    normalize,
    normalize_bytes,
    preprocess,
    resize,
    resize_unclamped,
    with_channels,
)
from perceiver_jax.errors import UserError

PLAIN = ImagePreprocessing(image_shape=(6, 9, 3), crop=None, mean=(0.0,), std=(1.0,))


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_normalize_is_its_formula_per_channel(picture):
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    got = normalize(picture, mean, std)
    assert got.dtype == np.float32
    want = (picture.astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.5,)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
)
def test_denormalize_undoes_normalize_for_every_value_of_a_pixel(mean, std):
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=-1)
    back = denormalize(normalize(every, mean, std), mean, std)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, every)


def test_denormalize_clips_what_lies_outside():
    np.testing.assert_array_equal(denormalize(np.array([-9.0, 9.0]), 0.5, 0.5), [0, 255])


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 3), (13, 7, 3), (7, 13, 1), (64, 33, 1)])
@pytest.mark.parametrize("resampling", ["opencv", "pillow", "area"])
def test_any_picture_becomes_the_wanted_shape(shape, resampling):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for channels in (1, 3):
        how = ImagePreprocessing(
            image_shape=(8, 5, channels), mean=(0.5,), std=(0.5,), resampling=resampling
        )
        got = preprocess(picture, how)
        assert got.shape == (8, 5, channels) and got.dtype == np.float32
        assert np.abs(got).max() <= 1.0


def test_the_square_is_seven_eighths_of_the_short_side():
    # What is cut away is black: what remains is the crop.
    image = np.zeros((256, 300, 1), np.uint8)
    image[16:240, 38:262] = 255
    assert (central_square(image, 224 / 256) == 255).all()
    image[15, :] = image[:, 37] = 255
    image[16, 38] = 0
    crop = central_square(image, 224 / 256)
    assert crop.shape == (224, 224, 1)
    assert crop[0, 0] == 0 and (crop.reshape(-1)[1:] == 255).all()


def test_an_odd_rest_lies_before_the_square_or_behind_it():
    rows = np.arange(9, dtype=np.uint8)[:, None, None] + np.zeros((1, 9, 1), np.uint8)
    assert central_square(rows, 0.5)[0, 0, 0] == 3  # a side of 4, 5 pixels left over
    assert central_square(rows, 0.5, round_up=False)[0, 0, 0] == 2


def test_resampling_is_that_of_the_named_library(picture):
    np.testing.assert_array_equal(
        resize(picture, (4, 5), "opencv"),
        cv2.resize(picture, (5, 4), interpolation=cv2.INTER_CUBIC),
    )
    np.testing.assert_array_equal(
        resize(picture, (4, 5), "pillow"),
        np.asarray(Image.fromarray(picture).resize((5, 4), Image.Resampling.BICUBIC)),
    )
    np.testing.assert_array_equal(
        resize(picture, (3, 3), "area"),
        np.round(picture.reshape(3, 2, 3, 3, 3).mean((1, 3))),
    )


@pytest.mark.parametrize("size", [(20, 30), (61, 40), (100, 83), (224, 224), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_unclamped_resizing_is_keys_cubic_without_antialias(size, channels):
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, channels), np.uint8)
    got = resize_unclamped(noise, size)
    want = jax.image.resize(np.float32(noise), (*size, channels), "cubic", antialias=False)
    assert got.shape == (*size, channels) and got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=0.02)


def test_unclamped_resizing_goes_beyond_an_edge():
    edge = np.repeat([0, 255], 4).astype(np.uint8)[None, :, None]
    got = resize_unclamped(edge, (1, 16))[0, :, 0]
    # Three quarters of a pixel before the first light one: Keys' kernel at 3/4 and at 7/4.
    near, far = 1.5 * 0.75**3 - 2.5 * 0.75**2 + 1, -0.5 * 1.75**3 + 2.5 * 1.75**2 - 4 * 1.75 + 2
    np.testing.assert_allclose(got[7], 255 * (near + far), atol=1e-3)
    assert got.min() < -10 and got.max() > 265
    np.testing.assert_allclose(got + got[::-1], 255, atol=1e-3)


def test_a_picture_of_the_right_size_keeps_its_pixels(picture):
    got = preprocess(picture, PLAIN)
    np.testing.assert_array_equal(np.round(got * 255), picture)


def test_grey_is_repeated_and_colours_become_their_luma(picture):
    grey = picture[..., :1]
    np.testing.assert_array_equal(with_channels(grey, 3), np.repeat(grey, 3, -1))
    luma = picture @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(with_channels(picture, 1)[..., 0], luma, atol=0.51)


def test_imagenet_is_the_default():
    how = ImagePreprocessing()
    grey = np.full((256, 300, 3), 100, np.uint8)
    want = (100 / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(preprocess(grey, how), np.broadcast_to(want, (224, 224, 3)), 1e-5)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(UserError, match="cannot be preprocessed"):
        preprocess(picture, PLAIN)


def test_numbers_for_other_channels_are_refused():
    with pytest.raises(ValueError, match="2 numbers for images of 3 channels"):
        dataclasses.replace(PLAIN, mean=(0.5, 0.5))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bytes_are_normalised_by_a_table_to_the_same_numbers(channels):
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 9, channels), np.uint8)
    mean, std = np.linspace(0.2, 0.6, channels), np.linspace(0.3, 0.1, channels)
    found = normalize_bytes(images, mean, std)
    assert found.dtype == np.float32 and found.shape == images.shape
    for image, one in zip(images, found, strict=True):
        np.testing.assert_array_equal(one, normalize(image, mean, std))
