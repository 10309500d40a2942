import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.adapters import ArrayInputAdapter
from perceiver_jax.core.position import fourier_features, linear_positions


def draw(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("grid", [(7,), (3, 4), (2, 3, 2)])
def test_an_element_is_its_channels_and_the_features_of_its_place(grid):
    adapter = ArrayInputAdapter(num_input_channels=2, num_axes=len(grid), num_frequency_bands=2)
    inputs = draw(2, *grid, 2)
    tokens = adapter(inputs)
    dense = np.asarray(tokens.dense())
    assert tokens.grid == grid and dense.shape[-1] == adapter.num_input_channels
    for i, place in enumerate(np.ndindex(*grid)):
        np.testing.assert_array_equal(dense[:, i, :2], inputs[:, *place])
        at = [linear_positions(size)[k] for size, k in zip(grid, place, strict=True)]
        want = fourier_features(np.asarray(at), num_bands=2, max_resolution=grid)
        np.testing.assert_allclose(dense[:, i, 2:], [want, want], atol=1e-6)


def test_one_adapter_takes_grids_of_every_size():
    adapter = ArrayInputAdapter(num_input_channels=1, num_axes=2, num_frequency_bands=3)
    for grid in ((2, 5), (6, 1)):
        assert adapter(draw(1, *grid, 1)).dense().shape == (1, np.prod(grid), 1 + 2 * 7)


def test_one_highest_frequency_holds_for_every_axis():
    adapter = ArrayInputAdapter(
        num_input_channels=1, num_axes=2, num_frequency_bands=2, max_frequency=9.0
    )
    positions = adapter(draw(1, 2, 3, 1)).dense_positions()
    at = np.asarray([linear_positions(2)[1], linear_positions(3)[0]])
    want = fourier_features(at, num_bands=2, max_resolution=(9.0, 9.0))
    np.testing.assert_allclose(positions[3], want, atol=1e-6)


def test_the_channel_order_of_positions_is_a_choice():
    one, other = (
        ArrayInputAdapter(num_input_channels=1, num_frequency_bands=2, channel_order=order)
        for order in ("deepmind", "lucidrains")
    )
    inputs = draw(1, 5, 1)
    # Of one axis: coordinate, sines, cosines; or sines, cosines, coordinate.
    np.testing.assert_array_equal(
        other(inputs).dense(), one(inputs).dense()[..., [0, 2, 3, 4, 5, 1]]
    )


def test_without_bands_there_are_no_positions():
    adapter = ArrayInputAdapter(num_input_channels=3)
    inputs = draw(2, 5, 3)
    assert adapter.num_input_channels == 3
    np.testing.assert_array_equal(adapter(inputs).dense(), inputs)


@pytest.mark.parametrize("flat", [False, True])
def test_a_mask_has_the_grid_s_axes_or_one(flat):
    adapter = ArrayInputAdapter(num_input_channels=1, num_axes=2)
    mask = np.random.default_rng(0).random((2, 3, 4)) < 0.5
    tokens = adapter(draw(2, 3, 4, 1), mask.reshape(2, 12) if flat else mask)
    np.testing.assert_array_equal(tokens.mask, mask.reshape(2, 12))


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 11), (12,), (1, 3, 4)])
def test_masks_of_another_shape_are_refused(shape):
    adapter = ArrayInputAdapter(num_input_channels=1, num_axes=2)
    message = r"does not fit the inputs; it takes \(2, 3, 4\) or \(2, 12\), one bool"
    with pytest.raises(ValueError, match=message):
        adapter(draw(2, 3, 4, 1), np.ones(shape, bool))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 2), (2, 5, 5, 3)])
def test_inputs_of_another_shape_are_refused_with_the_one_wanted(shape):
    with pytest.raises(ValueError, match=r"which takes \[batch, size 1, 3\], channels last"):
        ArrayInputAdapter(num_input_channels=3)(draw(*shape))


def test_inputs_of_integers_are_refused():
    with pytest.raises(ValueError, match="of type int32 are not numbers on a scale; convert"):
        ArrayInputAdapter(num_input_channels=1)(jnp.zeros((2, 5, 1), jnp.int32))
