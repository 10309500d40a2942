"""The pair 'motorcycle': disparity as flow."""

import cv2
import numpy as np
import pytest

from perceiver_jax.data import DatasetError
from perceiver_jax.data.flow import photos
from perceiver_jax.data.flow.files import decode_image
from perceiver_jax.data.flow.middlebury import Motorcycle


@pytest.mark.parametrize("split", ["val", "all"])
def test_flow_is_disparity_to_the_left_where_it_is_known(toy_wheel, tmp_path, disparity, split):
    photos.prepare(toy_wheel, str(tmp_path))
    source = Motorcycle(split, str(tmp_path))
    pair = source[0]
    assert len(source) == 1
    np.testing.assert_array_equal(pair["valid"], np.isfinite(disparity))
    np.testing.assert_array_equal(
        pair["flow"][..., 0], np.where(np.isfinite(disparity), -disparity, 0)
    )
    np.testing.assert_array_equal(pair["flow"][..., 1], np.zeros((20, 30)))
    for frame, side in zip(pair["frames"], ("left", "right"), strict=True):
        member = photos.read_member(f"motorcycle_{side}.png", str(tmp_path))
        np.testing.assert_array_equal(frame, decode_image(member))
    with pytest.raises(IndexError):
        source[1]


def test_there_is_nothing_to_train_on():
    with pytest.raises(DatasetError, match="no split is called 'train'; there are val, all"):
        Motorcycle("train")


@pytest.mark.network
def test_the_real_flow_leads_from_the_left_frame_to_the_right_one(tmp_path):
    assert photos.main([f"--data_dir={tmp_path}"]) == 0
    pair = Motorcycle("val", str(tmp_path))[0]
    first, second = (frame.astype(np.float32) for frame in pair["frames"])
    assert first.shape == (500, 741, 3) and abs(pair["valid"].mean() - 0.927) < 0.001
    x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (741, 500)))
    there = cv2.remap(second, x + pair["flow"][..., 0], y + pair["flow"][..., 1], cv2.INTER_LINEAR)
    seen = pair["valid"] & (x + pair["flow"][..., 0] >= 0)
    along, still = (np.median(np.abs(image - first)[seen]) for image in (there, second))
    assert along < 4 < 20 < still
