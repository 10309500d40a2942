import itertools
import math

import numpy as np
import pytest

from perceiver_jax.core.position import (
    fourier_axes,
    fourier_features,
    linear_positions,
    num_fourier_channels,
)

GRIDS = [(5,), (3, 4), (2, 3, 4)]


def by_formula(position, num_bands, max_resolution, channel_order):
    """The features of one position, number by number."""

    def frequency(band, axis):
        return 1 + band * (max_resolution[axis] / 2 - 1) / max(num_bands - 1, 1)

    def wave(function, axis):
        return [
            function(math.pi * frequency(band, axis) * position[axis]) for band in range(num_bands)
        ]

    axes = range(len(position))
    if channel_order == "deepmind":
        sines = [x for axis in axes for x in wave(math.sin, axis)]
        cosines = [x for axis in axes for x in wave(math.cos, axis)]
        return [*position, *sines, *cosines]
    return [
        x for axis in axes for x in [*wave(math.sin, axis), *wave(math.cos, axis), position[axis]]
    ]


def test_positions_go_from_minus_one_to_one_inclusive():
    np.testing.assert_allclose(linear_positions(5), [-1, -0.5, 0, 0.5, 1])


def test_half_open_positions_stop_a_step_before_one():
    np.testing.assert_allclose(linear_positions(5, "half_open"), [-1, -0.6, -0.2, 0.2, 0.6])
    np.testing.assert_allclose(linear_positions(1, "half_open"), [-1])


@pytest.mark.parametrize("num_bands", [1, 2, 5])
@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_fourier_features_are_the_formula(num_axes, num_bands):
    positions = np.random.default_rng(0).uniform(-1, 1, (7, num_axes))
    resolution = [20.0, 9.0, 12.0][:num_axes]
    got = fourier_features(positions, num_bands=num_bands, max_resolution=resolution)
    want = [by_formula(p, num_bands, resolution, "deepmind") for p in positions]
    assert got.shape == (7, num_fourier_channels(num_axes, num_bands))
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, atol=1e-13)


def test_positions_and_cosines_can_be_left_out():
    positions = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    common = {"positions": positions, "num_bands": 3, "max_resolution": (8, 6)}
    everything = fourier_features(**common)
    np.testing.assert_array_equal(
        fourier_features(**common, concat_positions=False), everything[:, 2:]
    )
    np.testing.assert_array_equal(fourier_features(**common, sine_only=True), everything[:, :8])


@pytest.mark.parametrize("channel_order", ["deepmind", "lucidrains"])
@pytest.mark.parametrize("own_resolution", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_axes_and_order_give_the_features_of_every_grid_point(grid, own_resolution, channel_order):
    num_bands = 3
    resolution = tuple(3.0 * size + 1 for size in grid) if own_resolution else None
    tables, order = fourier_axes(
        grid, num_bands=num_bands, max_resolution=resolution, channel_order=channel_order
    )
    assert [table.shape for table in tables] == [(size, 1 + 2 * num_bands) for size in grid]
    assert sorted(order) == list(range(num_fourier_channels(len(grid), num_bands)))
    for point in itertools.product(*(range(size) for size in grid)):
        side_by_side = np.concatenate([t[i] for t, i in zip(tables, point, strict=True)])
        position = [-1 + 2 * i / (size - 1) for i, size in zip(point, grid, strict=True)]
        want = by_formula(position, num_bands, resolution or grid, channel_order)
        np.testing.assert_allclose(side_by_side[list(order)], want, atol=1e-13)


def test_axes_may_be_half_open():
    """As DeepMind computes positions of chosen points: -1 + 2 * index / size, axis by axis."""
    grid, resolution = (2, 5), (3.0, 4.0)
    tables, order = fourier_axes(grid, num_bands=2, max_resolution=resolution, ends="half_open")
    usual_tables, usual_order = fourier_axes(grid, num_bands=2, max_resolution=resolution)
    assert order == usual_order
    for size, table, usual, r in zip(grid, tables, usual_tables, resolution, strict=True):
        positions = -1 + 2 * np.arange(size) / size
        wanted = fourier_features(positions[:, None], num_bands=2, max_resolution=[r])
        np.testing.assert_allclose(table, wanted, atol=1e-12)
        assert not np.allclose(table, usual)


def test_a_resolution_of_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8, 8\) has 3 numbers for a grid of 2 axes"):
        fourier_axes((4, 4), num_bands=2, max_resolution=(8, 8, 8))
