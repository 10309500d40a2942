"""MixUp and CutMix: shares of images are shares of labels."""

import numpy as np
import pytest

from perceiver_jax.data.mixing import mix, mixed_target, random_box, way_of

ONES, ZEROS = np.ones((8, 12, 3), np.float32), np.zeros((8, 12, 3), np.float32)


def mixed(mixing, count=1, *, first=ONES, second=ZEROS, alpha=0.2, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [mix(first, second, mixing, mixup_alpha=alpha, rng=rng) for _ in range(count)]
    return [image for image, _ in pairs], np.array([share for _, share in pairs])


def test_mixup_is_the_mean_weighted_by_the_share():
    first, second = np.random.default_rng(0).normal(0, 9, (2, 5, 7, 3)).astype(np.float32)
    images, shares = mixed("mixup", 20, first=first, second=second)
    for image, share in zip(images, shares, strict=True):
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, share * first + (1 - share) * second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_of_mixup_are_drawn_from_beta(alpha):
    shares = mixed("mixup", 4000, alpha=alpha)[1]
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_cutmix_shows_a_box_of_the_first_in_the_second_as_large_as_the_share():
    for image, share in zip(*mixed("cutmix", 200), strict=True):
        shown = image[..., 0] == 1
        assert set(np.unique(image)) <= {0.0, 1.0} and image.dtype == np.float32
        assert share == shown.mean()
        if shown.any():
            rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
            assert shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_mixing_writes_to_no_image():
    first, second = ONES.copy(), ZEROS.copy()
    for image in (first, second):
        image.flags.writeable = False
    for way in ("mixup", "cutmix"):
        mixed(way, 20, first=first, second=second)


class Fixed:
    """Draws a row, a column and a proportion."""

    def __init__(self, row, column, proportion):
        self.place, self.proportion = np.array([row, column]), proportion

    def integers(self, high):
        assert high == (8, 12)
        return self.place

    def uniform(self):
        return self.proportion


@pytest.mark.parametrize(
    ("row", "column", "proportion", "rows", "columns"),
    [
        (4, 6, 0.25, (2, 6), (3, 9)),  # sides of 4 and 6
        (4, 6, 0.2, (3, 5), (4, 8)),  # 3.58 and 5.37, cut off to 3 and 5, then to halves of 1 and 2
        (0, 11, 0.25, (0, 2), (8, 12)),
        (7, 0, 1.0, (3, 8), (0, 6)),
        (4, 6, 0.01, (4, 4), (6, 6)),
    ],
)
def test_boxes_are_those_of_the_formula(row, column, proportion, rows, columns):
    got = random_box(8, 12, Fixed(row, column, proportion))
    assert got == (slice(*rows), slice(*columns))


def test_boxes_are_everywhere_and_of_any_size():
    rng = np.random.default_rng(0)
    boxes = [random_box(100, 200, rng) for _ in range(2000)]
    shown = np.zeros((100, 200))
    for box in boxes:
        shown[box] += 1
    assert shown.min() > 0
    np.testing.assert_allclose(shown, shown[::-1, ::-1], atol=200)
    heights = np.array([rows.stop - rows.start for rows, _ in boxes])
    widths = np.array([columns.stop - columns.start for _, columns in boxes])
    assert heights.min() < 10 and heights.max() > 90
    # Without the border the area would be half of the image on average.
    assert 0.2 < (heights * widths).mean() / 20_000 < 0.4


def test_half_of_a_batch_is_mixed_in_either_way():
    assert [way_of("mixup_cutmix", row, 4) for row in range(4)] == 2 * ["mixup"] + 2 * ["cutmix"]
    assert [way_of(way, 3, 4) for way in ("none", "mixup", "cutmix")] == [None, "mixup", "cutmix"]


def test_targets_hold_both_shares():
    got = mixed_target(1, 3, 0.75, 5)
    np.testing.assert_array_equal(got, np.float32([0, 0.75, 0, 0.25, 0]))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(mixed_target(2, 2, 0.3, 4), np.float32([0, 0, 1, 0]))
