"""Models at another resolution than that of their training."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.core.position import fourier_features
from perceiver_jax.errors import UserError
from perceiver_jax.models import resolution
from perceiver_jax.models.release import release

IMAGES = np.random.default_rng(0).normal(size=(2, 12, 20, 1)).astype(np.float32)


@pytest.fixture
def released(tiny_config, random_model):
    def make(**fields):
        config = tiny_config(**fields)
        return release(random_model(lambda: models.build(config, jax.random.key(0))))

    return make


def test_fourier_positions_keep_their_frequencies_on_a_finer_grid(released, call):
    model = resolution.at(released(), (12, 20)).model()
    inputs = model.stages(IMAGES)["encoder/inputs"]
    rows, columns = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 20), indexing="ij")
    positions = np.stack([rows.ravel(), columns.ravel()], -1)
    # Trained on 8×8 images: frequencies up to 4 stay.
    want = fourier_features(positions, num_bands=2, max_resolution=(8, 8))
    np.testing.assert_allclose(inputs[0, :, 1:], want, atol=1e-5)
    assert call(model, IMAGES).shape == (2, 5)


@pytest.mark.parametrize(
    ("fields", "grid"),
    [
        ({}, (8.0, 8.0)),
        ({"preprocessing": "patches", "patch_size": 2}, (4.0, 4.0)),
        ({"preprocessing": "conv"}, (2.0, 2.0)),
        ({"max_resolution": (30.0, 30.0)}, (30.0, 30.0)),
    ],
)
def test_every_fourier_model_gets_other_sizes(released, call, fields, grid):
    found = resolution.at(released(**fields), (12, 20))
    assert found.config.encoder.max_resolution == grid
    assert call(found.model(), IMAGES).shape == (2, 5)


def test_learned_positions_are_interpolated_only_on_request(released, call):
    learned = released(
        preprocessing="conv1x1", num_preprocessing_channels=4, num_position_channels=3
    )
    with pytest.raises(UserError, match="learned positions for images of .8, 8."):
        resolution.at(learned, (12, 20))
    found = resolution.at(learned, (12, 20), interpolate_positions=True)
    assert found.arrays[resolution.POSITIONS].shape == (240, 3)
    assert call(found.model(), IMAGES).shape == (2, 5)
    # What varies slowly is found again where it was.
    ramp = np.linspace(0, 1, 8)[:, None, None] + np.zeros((8, 8, 1))
    finer = resolution.interpolated(ramp.reshape(64, 1), (8, 8), (16, 16)).reshape(16, 16)
    centres = (np.arange(16) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(finer[3:-3, 5], centres[3:-3] / 7, atol=1e-4)


def test_the_same_size_changes_nothing(released):
    found = released()
    assert resolution.at(found, (8, 8)) is found


@pytest.mark.parametrize(
    "size", [(96,), 96, (0, 5), (96.0, 64.0), (8, True), (1, 2, 3), "ab", None]
)
def test_a_size_that_is_none_is_refused(released, size):
    with pytest.raises(UserError, match=r"image_size=.*two whole numbers"):
        resolution.at(released(), size)


def test_preprocessing_follows(released):
    found = released()
    grey = ImagePreprocessing(image_shape=(8, 8, 1), mean=(0.5,), std=(0.5,))
    card = dataclasses.replace(found.card, preprocessing=grey)
    bigger = resolution.at(dataclasses.replace(found, card=card), (12, 20))
    assert bigger.card.preprocessing.image_shape == (12, 20, 1)
