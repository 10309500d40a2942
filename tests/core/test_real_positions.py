import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.position import fourier_features
from perceiver_jax.core.real_positions import fourier_features_at


@pytest.mark.parametrize("concat_positions", [True, False])
@pytest.mark.parametrize("shape", [(7, 1), (2, 5, 2), (2, 3, 4, 3)])
def test_features_are_those_of_the_numpy_formula(shape, concat_positions):
    positions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    options = {
        "num_bands": 6,
        "max_resolution": [20.0, 9.0, 12.0][: shape[-1]],
        "concat_positions": concat_positions,
    }
    got = jax.jit(lambda x: fourier_features_at(x, **options))(positions)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, fourier_features(positions, **options), atol=5e-6)


def test_high_frequencies_keep_their_digits():
    positions = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    options = {"num_bands": 64, "max_resolution": (1120.0,) * 3}
    got = fourier_features_at(jnp.asarray(positions), **options)
    np.testing.assert_allclose(got, fourier_features(positions, **options), atol=3e-4)


def test_float64_positions_are_computed_in_float64():
    positions = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    options = {"num_bands": 64, "max_resolution": (1120.0,) * 3}
    with jax.enable_x64(True):
        got = fourier_features_at(jnp.asarray(positions), **options)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, fourier_features(positions, **options), atol=1e-11)


def test_bfloat16_positions_are_computed_in_float32():
    positions = jnp.linspace(-1, 1, 9, dtype=jnp.bfloat16)[:, None]
    got = fourier_features_at(positions, num_bands=4, max_resolution=(64.0,))
    assert got.dtype == jnp.float32
    want = fourier_features(np.asarray(positions, np.float64), num_bands=4, max_resolution=(64.0,))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_gradients_flow_to_the_positions():
    def features(x):
        return fourier_features_at(x, num_bands=2, max_resolution=(4.0,)).sum()

    got = jax.grad(features)(jnp.asarray([0.3]))
    angles = np.pi * np.array([1.0, 2.0])
    want = 1 + (angles * (np.cos(angles * 0.3) - np.sin(angles * 0.3))).sum()
    np.testing.assert_allclose(got, [want], rtol=1e-5)


def test_integers_are_refused():
    with pytest.raises(ValueError, match="positions are of type int32; give real coordinates"):
        fourier_features_at(jnp.arange(4)[:, None], num_bands=2, max_resolution=(4.0,))


def test_a_resolution_of_another_number_of_dimensions_is_refused():
    with pytest.raises(ValueError, match=r"\(4.0,\) has 1 numbers for positions of 3 dimensions"):
        fourier_features_at(jnp.zeros((2, 3)), num_bands=2, max_resolution=(4.0,))
