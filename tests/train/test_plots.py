"""Plots: a file per metric that has values, and predictions in colours that can be told apart."""

import cv2
import numpy as np
import pytest

from perceiver_jax.train.plots import plot_curves, prediction_grid, save_picture


def rows(count):
    both = [{"step": i, "train/loss": 1 / i} for i in range(1, count + 1)]
    both[-1] |= {"eval/loss": 0.5, "eval/accuracy": 0.9}
    return both


@pytest.mark.parametrize("count", [1, 3, 200])
def test_each_curve_with_values_becomes_a_picture(tmp_path, count):
    written = plot_curves(rows(count), tmp_path / "new" / "plots")
    assert [path.name for path in written] == [
        "train_loss.png",
        "eval_loss.png",
        "eval_accuracy.png",
    ]
    for path in written:
        height, width, _ = cv2.imread(str(path)).shape
        assert 300 < height < 1000 and 500 < width < 1500


def test_a_curve_without_values_is_left_out(tmp_path):
    written = plot_curves([{"step": 1, "train/loss": 2.0}], tmp_path)
    assert [path.name for path in written] == ["train_loss.png"]
    assert plot_curves([], tmp_path) == []


def test_wrong_predictions_are_red_and_right_ones_are_not():
    images = [np.full((8, 8, channels), 100, np.uint8) for channels in (1, 3)]

    def red(predicted):
        grid = prediction_grid(images, predicted, ["cat", "dog"]).astype(int)
        assert grid.dtype == int and grid.shape[-1] == 3
        return int((grid[..., 0] - grid[..., 1:].max(-1) > 100).sum())

    assert red(["cat", "dog"]) == 0
    assert red(["cat", "cat"]) > 10


@pytest.mark.parametrize(
    ("count", "columns", "lines"), [(1, 1, 1), (8, 8, 1), (9, 8, 2), (24, 8, 3)]
)
def test_a_grid_has_up_to_eight_columns(count, columns, lines):
    grid = prediction_grid([np.zeros((8, 8, 1), np.uint8)] * count, ["a"] * count, ["b"] * count)
    assert grid.dtype == np.uint8
    assert grid.shape == (int(185 * lines), 150 * columns, 3)


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 8)])
@pytest.mark.parametrize(
    "name",
    [
        "Male speech, man speaking",
        "Male speech, man speaking, Music, Inside, small room, Outside, urban or manmade",
        "supercalifragilisticexpialidocious_of_one_word",
    ],
)
def test_long_names_stay_above_their_picture(name, size):
    images = [np.full((*size, 3), (0, 0, 255), np.uint8)] * 3
    grid = prediction_grid(images, ["b", name, "c"], ["b", f"{name}, Dog", "c"]).astype(int)
    red = grid[..., 0] - grid[..., 1:].max(-1) > 100
    assert red[:, 150:300].sum() > 200 and red.sum() == red[:, 152:298].sum()
    rows = np.flatnonzero(red.any(axis=1))
    blue = (grid == (0, 0, 255)).all(-1)[:, 150:300]
    assert rows.min() > 2 and rows.max() < np.flatnonzero(blue.any(axis=1)).min()
    assert max(blue.any(axis).sum() for axis in (0, 1)) > 135


def test_names_that_differ_where_they_are_cut_off_are_wrong_all_the_same():
    long = "a name of more letters than there is room for above a picture of this small size"
    grid = prediction_grid([np.zeros((8, 8, 1), np.uint8)], [f"{long} 1"], [f"{long} 2"])
    assert (grid[..., 0].astype(int) - grid[..., 1] > 100).sum() > 10


def test_a_saved_picture_keeps_its_colours(tmp_path):
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[..., 0] = 255
    save_picture(picture, tmp_path / "new" / "red.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new" / "red.png"))[..., ::-1], picture)
