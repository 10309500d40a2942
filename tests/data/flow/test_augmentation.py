"""Whether flow still leads from the first frame to the second after each change."""

import dataclasses

import cv2
import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.flow import FlowDataConfig
from perceiver_jax.data.flow.augmentation import (
    augmented,
    central_crop,
    flipped,
    random_crop,
    recoloured,
    resized,
    upside_down,
)
from perceiver_jax.data.flow.synthetic import SyntheticPairs, noise_textures

CONFIG = FlowDataConfig(dataset="synthetic", textures="noise", image_size=(64, 80))
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def pair():
    """A smooth pair of 120×160 pixels that moves without layers."""
    textures = [cv2.GaussianBlur(texture, (0, 0), 6) for texture in noise_textures(0)]
    source = SyntheticPairs(textures, image_size=(120, 160), num_layers=0, max_flow=12.0)
    return source[4]


def error(pair):
    """Of the second frame at x + flow(x), the mean and the highest, 2 pixels inside the border."""
    height, width = pair["valid"].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + pair["flow"][..., 0], y + pair["flow"][..., 1]
    inside = (x >= 2) & (y >= 2) & (x <= width - 3) & (y <= height - 3)
    moved = cv2.remap(pair["frames"][1].astype(np.float32), x, y, cv2.INTER_LINEAR)
    wrong = np.abs(moved - pair["frames"][0])[inside]
    return wrong.mean(), wrong.max()


def places(height=10, width=12):
    """A pair whose flow is the place of each pixel."""
    flow = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    return {
        "frames": np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8),
        "flow": flow.astype(np.float32),
        "valid": np.ones((height, width), bool),
    }


def test_the_pair_itself_is_right(pair):
    assert error(pair)[1] < 2.5
    assert error({**pair, "flow": pair["flow"] * 0})[0] > 4 * error(pair)[0]


@pytest.mark.parametrize("change", [flipped, upside_down])
def test_flips_turn_the_flow(pair, change):
    assert error(change(pair))[1] < 2.5
    for name, array in change(change(pair)).items():
        np.testing.assert_array_equal(array, pair[name])


def test_a_flip_mirrors_what_its_name_says():
    there = places()
    np.testing.assert_array_equal(flipped(there)["flow"][0, 0], (-11, 0))
    np.testing.assert_array_equal(upside_down(there)["flow"][0, 0], (0, -9))
    np.testing.assert_array_equal(flipped(there)["frames"][:, 3, 0], there["frames"][:, 3, 11])
    np.testing.assert_array_equal(upside_down(there)["frames"][:, 0, 5], there["frames"][:, 9, 5])


@pytest.mark.parametrize("size", [(120, 160), (180, 240), (90, 120), (140, 150), (97, 211)])
def test_scales_scale_the_flow(pair, size):
    assert error(resized(pair, size))[1] < 5.0


@pytest.mark.parametrize("seed", range(5))
def test_random_crops_keep_what_flow_means(pair, seed):
    crop = random_crop(pair, (64, 80), 0.8, np.random.default_rng(seed))
    assert crop["frames"].shape == (2, 64, 80, 3)
    assert error(crop)[1] < 5.0


def test_without_scales_crops_are_parts_of_the_frames():
    there, seen = places(), set()
    for seed in range(60):
        crop = random_crop(there, (8, 9), 0.0, np.random.default_rng(seed))
        left, top = crop["flow"][0, 0].astype(int)
        seen.add((top, left))
        np.testing.assert_array_equal(
            crop["frames"], there["frames"][:, top : top + 8, left : left + 9]
        )
        np.testing.assert_array_equal(crop["flow"], there["flow"][top : top + 8, left : left + 9])
    assert seen == {(top, left) for top in range(3) for left in range(4)}


def scales(height, width):
    """Factors that crops of 50×60 pixels of frames of a size are made with."""
    there = {**places(height, width), "flow": np.ones((height, width, 2), np.float32)}
    crops = [random_crop(there, (50, 60), 1.0, np.random.default_rng(s)) for s in range(200)]
    assert all(crop["frames"].shape == (2, 50, 60, 3) for crop in crops)
    return [crop["flow"][0, 0, 0] for crop in crops]


def test_scales_are_from_one_limit_to_the_other_and_never_leave_the_frames():
    large, small = scales(200, 240), scales(52, 60)
    assert 0.48 < min(large) < 0.55 and 1.8 < max(large) < 2.1
    assert min(small) == 1.0 and 1.8 < max(small) <= 2.1


def test_larger_frames_show_less_and_flow_grows_with_them():
    # Flow is a place: 20 pixels of a crop are 20 / s of the frame, and flow there s times as long.
    for seed in range(30):
        crop = random_crop(places(100, 120), (50, 60), 0.5, np.random.default_rng(seed))
        assert crop["flow"][25, 40, 0] - crop["flow"][25, 20, 0] == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("unit", [1.0, 0.05])
def test_flow_is_never_interpolated_over_what_is_not_valid(unit):
    rng = np.random.default_rng(0)
    valid = rng.random((30, 40)) < 0.3
    values = unit * rng.choice([4.0, 8.0, -16.0], (30, 40, 2)).astype(np.float32)
    there = {
        "frames": np.zeros((2, 30, 40, 3), np.uint8),
        "flow": np.where(valid[..., None], values, 0),
        "valid": valid,
    }
    for size in ((60, 80), (45, 60), (24, 32)):
        scaled = resized(there, size)
        factor = size[0] / 30
        assert 0.1 < scaled["valid"].mean() < 0.5
        got = scaled["flow"][scaled["valid"]] / (factor * unit)
        assert set(np.unique(got.round(4))) <= {4.0, 8.0, -16.0}


def test_flow_is_not_mixed_where_it_jumps_and_is_interpolated_where_it_is_smooth():
    flow = np.zeros((20, 20, 2), np.float32)
    flow[:, 10:] = 30.0
    flow[:, :, 1] += 0.1 * np.arange(20, dtype=np.float32)
    there = {"frames": FRAMES[:, :20, :20], "flow": flow, "valid": np.ones((20, 20), bool)}
    scaled = resized(there, (40, 40))
    assert set(np.unique(scaled["flow"][..., 0])) == {0.0, 60.0}
    left = scaled["flow"][5, 4:14, 1]
    # 0.1 per pixel, of which there are twice as many, at twice the length.
    np.testing.assert_allclose(np.diff(left), 0.1, atol=1e-5)


def test_the_central_crop_is_in_the_middle():
    crop = central_crop(places(10, 13), (4, 6))
    np.testing.assert_array_equal(crop["flow"][0, 0], (3, 3))
    assert crop["frames"].shape == (2, 4, 6, 3) and crop["valid"].shape == (4, 6)


@pytest.mark.parametrize("size", [(11, 12), (10, 13)])
def test_frames_that_are_too_small_are_an_error(size):
    message = rf"frames of 10×12 pixels are smaller than crops of {size[0]}×{size[1]}; lower --con"
    with pytest.raises(DatasetError, match=message):
        central_crop(places(), size)
    with pytest.raises(DatasetError, match=message):
        random_crop(places(), size, 1.0, np.random.default_rng(0))


def test_without_strengths_colours_stay():
    rng = np.random.default_rng(0)
    assert recoloured(FRAMES, CONFIG, rng) is FRAMES


@pytest.mark.parametrize(
    ("field", "value"),
    [("brightness", 0.5), ("contrast", 0.5), ("saturation", 0.5), ("hue", 0.3)],
)
def test_both_frames_change_alike_unless_asked_otherwise(field, value):
    config = dataclasses.replace(CONFIG, **{field: value})
    twice = np.stack([FRAMES[0]] * 2)
    together = recoloured(twice, config, np.random.default_rng(1))
    assert (together[0] == together[1]).all() and (together != twice).any()
    assert together.shape == twice.shape and together.dtype == np.uint8
    config = dataclasses.replace(config, asymmetric_colors=1.0)
    apart = recoloured(twice, config, np.random.default_rng(1))
    assert (apart[0] != apart[1]).any()


def factors(field, value, measure):
    config = dataclasses.replace(CONFIG, **{field: value})
    middle = (FRAMES // 4 + 96).astype(np.uint8)  # not clipped by any factor
    return [
        measure(recoloured(middle, config, np.random.default_rng(seed)).astype(float))
        / measure(middle.astype(float))
        for seed in range(100)
    ]


def test_each_strength_changes_what_its_name_says():
    def spread(image):
        return image.std()

    def colour(image):
        return np.ptp(image, axis=-1).mean()

    brightness = factors("brightness", 0.4, np.mean)
    assert 0.6 <= min(brightness) < 0.65 and 1.35 < max(brightness) <= 1.41
    contrast = factors("contrast", 0.4, spread)
    assert 0.59 <= min(contrast) < 0.65 and 1.35 < max(contrast) <= 1.42
    np.testing.assert_allclose(factors("contrast", 0.4, np.mean), 1, atol=0.02)
    saturation = factors("saturation", 0.4, colour)
    assert 0.57 <= min(saturation) < 0.66 and 1.34 < max(saturation) <= 1.43
    np.testing.assert_allclose(factors("hue", 0.4, spread), 1, atol=0.1)


def test_hue_turns_red_to_green_and_blue():
    red = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    config = dataclasses.replace(CONFIG, hue=0.5)
    strongest = {
        int(recoloured(red, config, np.random.default_rng(seed))[0, 0, 0].argmax())
        for seed in range(30)
    }
    assert strongest == {0, 1, 2}


def test_everything_at_once_keeps_the_flow_right(pair):
    config = dataclasses.replace(
        CONFIG, max_scale=0.5, random_flip=True, random_vertical_flip=True, brightness=0.2
    )
    crops = [augmented(pair, config, np.random.default_rng(seed)) for seed in range(20)]
    assert max(error(crop)[1] for crop in crops) < 6.0


@pytest.mark.parametrize(
    ("field", "column", "low", "high"),
    [("random_flip", 0, 0.35, 0.65), ("random_vertical_flip", 1, 0.04, 0.18)],
)
def test_so_many_pairs_are_flipped(field, column, low, high):
    there = {**places(64, 80), "flow": np.ones((64, 80, 2), np.float32)}
    config = dataclasses.replace(CONFIG, **{field: True})
    flows = [augmented(there, config, np.random.default_rng(s))["flow"] for s in range(200)]
    assert low < np.mean([flow[0, 0, column] < 0 for flow in flows]) < high
    assert all(flow[0, 0, 1 - column] > 0 for flow in flows)
