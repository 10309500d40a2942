"""Rotary positions, beside straightforward formulas and what they are for."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.position import Rotation, rotary_frequencies


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def turned_by_complex_numbers(x, positions, frequencies, pairs):
    """[B, N, H, K], where each pair of channels is a complex number."""
    half = len(frequencies)
    if pairs == "interleaved":
        z = x[..., : 2 * half : 2] + 1j * x[..., 1 : 2 * half : 2]
    else:
        z = x[..., :half] + 1j * x[..., half : 2 * half]
    z = z * np.exp(1j * positions[:, :, None, None] * frequencies)
    y = x.copy()
    if pairs == "interleaved":
        y[..., : 2 * half : 2], y[..., 1 : 2 * half : 2] = z.real, z.imag
    else:
        y[..., :half], y[..., half : 2 * half] = z.real, z.imag
    return y


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
@pytest.mark.parametrize("num_turned", [4, 8])
@pytest.mark.parametrize("real_valued", [False, True])
def test_pairs_of_channels_are_turned(float64, pairs, num_turned, real_valued):
    x = draw(2, 5, 3, 8)
    positions = (
        draw(2, 5, seed=1) * 10 if real_valued else np.array([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])
    )
    frequencies = rotary_frequencies(num_turned)
    rotation = Rotation.of(jnp.asarray(positions), frequencies, pairs=pairs)
    wanted = turned_by_complex_numbers(x, positions, frequencies, pairs)
    np.testing.assert_allclose(rotation(jnp.asarray(x)), wanted, atol=1e-13)


def test_some_heads_only(float64):
    x, positions = jnp.asarray(draw(1, 4, 3, 8)), jnp.arange(4)[None]
    every = Rotation.of(positions, rotary_frequencies(8))(x)
    some = Rotation.of(positions, rotary_frequencies(8), num_heads=2)(x)
    np.testing.assert_array_equal(some[:, :, :2], every[:, :, :2])
    np.testing.assert_array_equal(some[:, :, 2:], x[:, :, 2:])


def test_scores_depend_on_distances_alone(float64):
    q, k = jnp.asarray(draw(1, 6, 2, 8)), jnp.asarray(draw(1, 6, 2, 8, seed=1))

    def scores(shift):
        rotation = Rotation.of(jnp.arange(6)[None] + shift, rotary_frequencies(8))
        return jnp.einsum("bnhk,bmhk->bhnm", rotation(q), rotation(k))

    np.testing.assert_allclose(scores(0), scores(1000.5), atol=1e-10)
    assert np.abs(scores(0) - jnp.einsum("bnhk,bmhk->bhnm", q, k)).max() > 0.1


def test_queries_stand_at_the_last_positions():
    rotation = Rotation.of(jnp.arange(7)[None], rotary_frequencies(4))
    np.testing.assert_array_equal(rotation.of_queries(3).angles, rotation.angles[:, 4:])


def test_frequencies_are_the_references():
    np.testing.assert_allclose(rotary_frequencies(8), 10_000.0 ** -np.array([0, 0.25, 0.5, 0.75]))
    closed = rotary_frequencies(8, max_wavelength=1024, spacing="closed")
    np.testing.assert_allclose(closed, 1024.0 ** -np.linspace(0, 1, 4))
    with pytest.raises(ValueError, match="3 channels cannot be turned in pairs"):
        rotary_frequencies(3)


def test_angles_are_float32_at_least():
    rotation = Rotation.of(jnp.arange(3)[None], rotary_frequencies(4))
    x = jnp.ones((1, 3, 1, 4), jnp.bfloat16)
    assert rotation.angles.dtype == jnp.float32 and rotation(x).dtype == jnp.bfloat16
