"""Synthetic pairs: whether the second frame is the first one, moved by the flow."""

import dataclasses

import cv2
import numpy as np
import pytest

from perceiver_jax.data.flow.layers import Layer, Outline, random_outline
from perceiver_jax.data.flow.motion import Motion, Rectangle, random_motion
from perceiver_jax.data.flow.synthetic import ENDLESS, SyntheticPairs, noise_textures, render

SIZE = (120, 160)


def pairs(textures=None, **fields):
    textures = smooth_textures() if textures is None else textures
    return SyntheticPairs(
        textures, **({"image_size": SIZE, "num_layers": 5, "max_flow": 20.0} | fields)
    )


def smooth_textures():
    """Of hardly any detail, so that interpolating them loses nothing."""
    return [cv2.GaussianBlur(texture, (0, 0), 8) for texture in noise_textures(0)[:4]]


def along(pair):
    """The second frame at x + flow(x), float32, and whether that is inside of it."""
    height, width = pair["valid"].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + pair["flow"][..., 0], y + pair["flow"][..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return cv2.remap(pair["frames"][1].astype(np.float32), x, y, cv2.INTER_LINEAR), inside


def still(shift):
    """The motion that adds the same to all points."""
    return Motion(
        centre=np.zeros(2),
        linear=np.zeros((2, 2)),
        shift=np.array(shift, float),
        heights=np.zeros((0, 2)),
        frequencies=np.zeros((0, 2)),
        phases=np.zeros(0),
    )


def layer(texture, shift, outline=None):
    return Layer(texture, np.eye(2, 3), still(shift), outline)


@pytest.mark.parametrize("seed", range(6))
def test_without_layers_the_flow_leads_every_pixel_to_its_colour(seed):
    pair = pairs(num_layers=0, seed=seed, max_flow=30.0)[seed]
    moved, inside = along(pair)
    assert inside.mean() > 0.4
    assert np.abs(pair["flow"]).max() > 1e-2
    # Both frames are rounded to whole numbers.
    assert np.abs(moved - pair["frames"][0])[inside].max() < 2.0


def test_a_flow_that_is_off_by_half_a_pixel_would_be_noticed():
    pair = pairs(noise_textures(0), num_layers=0)[0]
    errors = []
    for off in (0.0, 0.5):
        moved, inside = along({**pair, "flow": pair["flow"] + np.float32(off)})
        errors.append(np.abs(moved - pair["frames"][0])[inside].mean())
    assert errors[1] > 2 * errors[0]


@pytest.mark.parametrize("seed", range(6))
def test_with_layers_all_that_is_not_hidden_moves_by_the_flow(seed):
    rng, textures = np.random.default_rng(seed), smooth_textures()
    layers = []
    for i in range(6):
        outline = random_outline(SIZE, rng) if i else None
        motion = random_motion(np.array([80.0, 60.0]), 15.0, rng)
        layers.append(Layer(textures[i % 4], np.eye(2, 3), motion, outline))
    pair = render(layers, SIZE)
    moved, seen = along(pair)
    for i, upper in enumerate(layers[1:], start=1):
        first, second = covered_by(upper)
        there, _ = along({**pair, "frames": [None, second]})
        # Pixels of an outline are of two layers: those are not looked at.
        on_it = cv2.erode(np.uint8(first == 255), np.ones((3, 3))) > 0
        off_it = cv2.dilate(first, np.ones((3, 3))) == 0
        seen &= (on_it & (there == 255)) | (off_it & (there == 0)) | over(layers[i + 1 :])
    assert seen.mean() > 0.25
    assert np.abs(moved - pair["frames"][0])[seen].max() < 2.0


def covered_by(upper):
    """What a layer covers of both frames, 255 where nothing else is to be seen."""
    masks = np.zeros((2, *SIZE, 3), np.uint8)
    white = dataclasses.replace(upper, texture=np.full((8, 8, 3), 255, np.uint8))
    white.paint_first(masks[0], np.zeros((*SIZE, 2), np.float32))
    white.paint_second(masks[1])
    return masks[..., 0]


def over(layers):
    """Where a layer of these covers the first frame for sure: what is below does not matter."""
    covered = np.zeros(SIZE, bool)
    for upper in layers:
        covered |= cv2.erode(np.uint8(covered_by(upper)[0] == 255), np.ones((3, 3))) > 0
    return covered


def outlines(pair):
    """Where the flow jumps."""
    window = np.ones((3, 3), np.uint8)
    flow = pair["flow"]
    return ((cv2.dilate(flow, window) - cv2.erode(flow, window)) > 1.0).any(-1)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_layer_on_top_is_never_hidden_and_moves_by_its_flow(seed):
    rng = np.random.default_rng(seed)
    background, texture = smooth_textures()[:2]
    outline = random_outline(SIZE, rng)
    top = Layer(texture, np.eye(2, 3), random_motion(np.array([80.0, 60.0]), 15.0, rng), outline)
    pair = render([layer(background, (0.0, 0.0)), top], SIZE)
    moved, inside = along(pair)
    whole = Rectangle(0, 0, SIZE[1], SIZE[0])
    region = outline.extent.intersection(whole)
    covered = np.zeros(SIZE, np.uint8)
    covered[region.within(whole)] = outline.alpha[region.within(outline.extent)] >= 0.5
    # Pixels of the outline are partly the background's, which moves otherwise.
    middle = (cv2.erode(covered, np.ones((5, 5))) > 0) & inside
    assert middle.any()
    assert np.abs(moved - pair["frames"][0])[middle].max() < 2.0
    np.testing.assert_array_equal(
        pair["flow"][covered > 0], top.motion.displacement(whole)[covered > 0]
    )
    assert not pair["flow"][covered == 0].any()


def test_a_square_that_moves_hides_and_uncovers_the_background():
    background = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    texture = np.full((64, 64, 3), 200, np.uint8)
    square = Outline(Rectangle(10, 12, 8, 6), np.ones((6, 8), np.float32))
    pair = render([layer(background, (0, 0)), layer(texture, (5, -3), square)], (40, 50))
    want = np.stack([background[:40, :50]] * 2)
    want[0, 12:18, 10:18] = want[1, 9:15, 15:23] = 200
    np.testing.assert_array_equal(pair["frames"], want)
    flow = np.zeros((40, 50, 2))
    flow[12:18, 10:18] = (5, -3)
    np.testing.assert_array_equal(pair["flow"], flow)
    assert pair["valid"].all()


def test_the_layer_above_hides_the_one_below_in_both_frames():
    plain = [np.full((8, 8, 3), value, np.uint8) for value in (10, 100, 200)]
    square = Outline(Rectangle(10, 10, 10, 10), np.ones((10, 10), np.float32))
    layers = [
        layer(texture, shift, outline)
        for texture, shift, outline in zip(
            plain, [(0, 0), (6, 0), (3, 0)], [None, square, square], strict=True
        )
    ]
    pair = render(layers, (30, 40))
    first, second = pair["frames"][:, 15, :, 0]
    assert (first[10:20] == 200).all() and (first == 100).sum() == 0
    assert (second[13:23] == 200).all() and (second[23:26] == 100).all() and second[26] == 10
    assert (pair["flow"][15, 10:20] == (3, 0)).all()


def test_layers_that_leave_or_enter_are_cut_at_the_frame():
    plain = [np.full((8, 8, 3), value, np.uint8) for value in (10, 100)]
    for left, shift in ((36, 10), (36, -50), (36, 2), (-8, 4), (-20, 25)):
        square = Outline(Rectangle(left, 5, 10, 10), np.ones((10, 10), np.float32))
        pair = render([layer(plain[0], (0, 0)), layer(plain[1], (shift, 0), square)], (30, 40))
        for frame, start in zip(pair["frames"], (left, left + shift), strict=True):
            there = np.zeros(40, bool)
            there[max(start, 0) : max(start + 10, 0)] = True
            np.testing.assert_array_equal(frame[9, :, 0] == 100, there)


@pytest.mark.parametrize("max_flow", [0.5, 6.0, 60.0])
def test_no_flow_is_longer_than_allowed(max_flow):
    source = pairs(max_flow=max_flow, num_layers=4)
    longest = [np.linalg.norm(source[i]["flow"], axis=-1).max() for i in range(12)]
    assert max(longest) <= max_flow
    assert max(longest) > 0.8 * max_flow


def test_a_pair_of_an_index_is_always_the_same_and_others_differ():
    textures = noise_textures(0)
    source = pairs(textures)
    again, other = pairs(textures), pairs(textures, seed=1)
    for index in (0, 7, ENDLESS - 1):
        for name, array in source[index].items():
            np.testing.assert_array_equal(array, again[index][name])
        for different in (source[index - 1 if index else 1], other[index]):
            assert (source[index]["frames"] != different["frames"]).any()


def test_pairs_have_the_documented_types():
    source = pairs(num_examples=3)
    pair = source[0]
    assert len(source) == 3 and len(pairs()) == ENDLESS
    assert pair["frames"].shape == (2, *SIZE, 3) and pair["frames"].dtype == np.uint8
    assert pair["flow"].shape == (*SIZE, 2) and pair["flow"].dtype == np.float32
    assert pair["valid"].shape == SIZE and pair["valid"].dtype == bool and pair["valid"].all()


def test_layers_are_as_many_as_allowed_and_fewer():
    def regions(num_layers):
        source = pairs(num_layers=num_layers, max_flow=60.0)
        return [outlines(source[i]).mean() for i in range(8)]

    assert max(regions(0)) == 0.0
    many = regions(12)
    assert max(many) > 0.1 and min(many) < 0.5 * max(many)


def test_outlines_are_closed_and_their_middle_is_in_the_frame():
    for seed in range(40):
        extent, alpha = random_outline(SIZE, np.random.default_rng(seed))
        assert alpha.shape == (extent.height, extent.width)
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert not border.any() and alpha.max() == 1.0
        assert not extent.intersection(Rectangle(0, 0, SIZE[1], SIZE[0])).empty


def test_noise_differs_between_seeds_and_has_detail_and_colour():
    first, second = noise_textures(0), noise_textures(1)
    assert len({texture.tobytes() for texture in first + second}) == 16
    for texture in first:
        assert texture.shape == (512, 512, 3) and texture.std() > 20
        assert np.abs(texture[..., 0].astype(int) - texture[..., 1]).mean() > 10
