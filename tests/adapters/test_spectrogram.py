import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import SpectrogramConfig, SpectrogramInputAdapter
from perceiver_jax.core.position import fourier_features

OPTIONS = {"num_frames": 6, "num_mel_bands": 4, "num_frequency_bands": 2}


def spectrograms(shape=(2, 6, 4), dtype="float64"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def test_of_patches_of_one_a_token_is_a_value_and_where_it_is(float64):
    adapter = SpectrogramInputAdapter(**OPTIONS)
    x = spectrograms()
    dense = np.asarray(adapter(x).dense())
    assert dense.shape == (2, 24, adapter.num_input_channels) == (2, 24, 1 + 2 * 5)
    np.testing.assert_array_equal(dense[:, :, 0], x.reshape(2, 24))
    time, frequency = np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 4), indexing="ij")
    places = np.stack([time, frequency], axis=-1).reshape(24, 2)
    features = fourier_features(places, num_bands=2, max_resolution=[6, 4])
    np.testing.assert_allclose(dense[1, :, 1:], features, rtol=1e-12)


def test_a_patch_is_a_token_frame_by_frame(float64):
    adapter = SpectrogramInputAdapter(**OPTIONS, patch_size=(3, 2))
    x = spectrograms()
    tokens = adapter(x)
    assert tokens.grid == (2, 2) and adapter.num_input_channels == 6 + 2 * 5
    np.testing.assert_array_equal(tokens.content[1, 0, 1], x[1, :3, 2:].ravel())
    np.testing.assert_array_equal(tokens.content[0, 1, 0], x[0, 3:, :2].ravel())


def test_frequencies_are_those_of_the_grid_unless_said(float64):
    def positions(**fields):
        return SpectrogramInputAdapter(**OPTIONS, **fields)(spectrograms()).positions

    for usual, same, other in zip(
        positions(),
        positions(max_resolution=(6.0, 4.0)),
        positions(max_resolution=(12.0, 8.0)),
        strict=True,
    ):
        np.testing.assert_array_equal(usual, same)
        assert not np.allclose(usual, other)


def test_the_mask_is_handed_on():
    mask = np.arange(24)[None] < 9
    assert SpectrogramInputAdapter(**OPTIONS)(spectrograms(), mask).mask is mask


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 4, 6), "float32", r"shape \(2, 4, 6\) do not fit .* \[batch, 6, 4\]"),
        ((2, 6, 4, 1), "float32", "do not fit this model"),
        ((2, 6, 4), "int16", "type int16 are not floats"),
    ],
)
def test_other_spectrograms_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        SpectrogramInputAdapter(**OPTIONS)(np.zeros(shape, dtype))


@pytest.mark.parametrize("patch_size", [(4, 2), (3, 3), (0, 2)])
def test_patches_must_tile_the_spectrogram(patch_size):
    with pytest.raises(ValueError, match="does not divide spectrograms of 6 frames and 4 mel"):
        SpectrogramInputAdapter(**OPTIONS, patch_size=patch_size)
    with pytest.raises(ValueError, match="does not divide"):
        SpectrogramConfig(**OPTIONS, patch_size=patch_size)


def test_the_config_makes_the_adapter_that_it_describes():
    config = SpectrogramConfig(**OPTIONS, patch_size=(2, 2), max_resolution=(5.0, 7.0))
    adapter = config.input_adapter(rngs=nnx.Rngs(0))
    assert (adapter.shape, adapter.patch_size) == ((6, 4), (2, 2))
    assert (adapter.num_frequency_bands, adapter.max_resolution) == (2, (5.0, 7.0))


def test_without_more_it_is_the_published_number_of_inputs():
    adapter = SpectrogramConfig().input_adapter(rngs=nnx.Rngs(0))
    assert np.prod(adapter.grid) == 4_800


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_a_resolution_of_nothing_or_without_end_is_refused(wrong):
    for resolution in ((wrong, 4.0), (4.0, wrong)):
        with pytest.raises(ValueError, match=r"max_resolution=\(.*\) must be above 0 and finite"):
            SpectrogramConfig(**OPTIONS, max_resolution=resolution)
