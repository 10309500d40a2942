"""Colours of flow."""

import numpy as np
import pytest

from perceiver_jax.flow_colors import color_wheel, flow_to_image


def color(dx, dy, max_flow=1.0):
    return flow_to_image(np.array([[[dx, dy]]]), max_flow)[0, 0].tolist()


def test_the_wheel_has_the_55_colours_of_baker():
    wheel = np.round(color_wheel() * 255).astype(int)
    assert wheel.shape == (55, 3)
    corners = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255)}
    corners |= {36: (0, 0, 255), 49: (255, 0, 255)}
    for place, want in corners.items():
        assert tuple(wheel[place]) == want
    # 255 * 1 / 15, rounded down; and 255 minus 255 * 1 / 6, rounded down.
    assert tuple(wheel[1]) == (255, 17, 0) and tuple(wheel[16]) == (213, 255, 0)


@pytest.mark.parametrize(
    ("direction", "want"),
    [
        # The places 0, 13.5, 27 and 40.5 of the wheel.
        ((1, 0), (255, 0, 0)),
        ((0, 1), (255, 229, 0)),
        ((-1, 0), (0, 209, 255)),
        ((0, -1), (88, 0, 255)),
    ],
)
def test_directions_are_hues(direction, want):
    assert np.abs(np.subtract(color(*direction), want)).max() <= 1


def test_the_length_is_the_saturation_and_what_is_longer_is_darker():
    assert color(0, 0) == [255, 255, 255]
    assert color(0.5, 0) == [255, 127, 127]
    assert color(2, 0) == [191, 0, 0]
    assert color(2, 0, max_flow=4.0) == [255, 127, 127]


def test_the_longest_flow_has_full_colours_where_no_length_is_given():
    flow = np.zeros((3, 4, 2))
    flow[1, 2] = (3, 0)
    image = flow_to_image(flow)
    assert image.shape == (3, 4, 3) and image.dtype == np.uint8
    assert image[1, 2].tolist() == [255, 0, 0]
    image[1, 2] = 255
    assert (image == 255).all()


def test_what_is_unknown_is_black_and_changes_nothing_else():
    flow = np.ones((2, 3, 2), np.float32)
    whole = flow_to_image(flow)
    for unknown in (np.nan, np.inf, 1e9):
        flow[0, 1, 0] = unknown
        image = flow_to_image(flow)
        assert image[0, 1].tolist() == [0, 0, 0]
        image[0, 1] = whole[0, 1]
        np.testing.assert_array_equal(image, whole)


def test_flow_that_is_nowhere_known_or_nowhere_at_all_has_a_picture():
    assert (flow_to_image(np.full((2, 2, 2), np.nan)) == 0).all()
    assert (flow_to_image(np.zeros((2, 2, 2))) == 255).all()
    assert flow_to_image(np.zeros((0, 2, 2))).shape == (0, 2, 3)
