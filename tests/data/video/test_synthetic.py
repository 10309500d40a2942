"""Shapes that are seen and heard at one place."""

import dataclasses
import itertools

import numpy as np
import pytest

from perceiver_jax.data.video import VideoDataConfig
from perceiver_jax.data.video.synthetic import LOWEST_HZ, OCTAVES, SHAPES, SyntheticVideos

CONFIG = VideoDataConfig(dataset="synthetic", image_size=(60, 60))


def where(frames):
    """Centres of what is bright in [T, H, W, 3], down and to the right, in [0, 1]."""
    bright = frames.max(axis=-1) >= 128
    size = np.array(bright.shape[1:])
    return np.array([(np.argwhere(frame).mean(axis=0) + 0.5) / size for frame in bright])


def test_labels_are_shapes_and_videos_differ_by_index_and_seed():
    source = SyntheticVideos(num_videos=40, num_classes=700)
    assert len(source) == 40 and source.class_names == SHAPES
    examples = [source[i] for i in range(40)]
    assert {example["label"] for example in examples} == {0, 1, 2, 3}
    assert all(example["video"].shape == SHAPES[example["label"]] for example in examples)
    assert len({example["video"].seed for example in examples}) == 40
    assert source[3] == SyntheticVideos(num_videos=40, num_classes=4)[3]
    assert source[3] != SyntheticVideos(num_videos=40, num_classes=4, seed=1)[3]
    assert SyntheticVideos(num_videos=40, num_classes=2).class_names == SHAPES[:2]


def test_shapes_can_be_told_apart_by_their_areas():
    source = SyntheticVideos(num_videos=40, num_classes=4)
    areas = {}
    for i in range(40):
        clip = source[i]["video"].clip(CONFIG, 0.0, (0.5, 0.5))
        areas.setdefault(source[i]["label"], []).append((clip.frames.max(axis=-1) >= 128).mean())
    spans = sorted((min(x), max(x)) for x in areas.values())
    assert len(spans) == 4 and all(a[1] < b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("start_s", [0.0, 3.3])
def test_the_pitch_follows_the_place(start_s):
    config = dataclasses.replace(CONFIG, num_frames=75, num_samples=144_000, sample_rate=48_000)
    for i in range(3):
        video = SyntheticVideos(num_videos=9, num_classes=1)[i]["video"]
        clip = video.clip(config, start_s, (0.5, 0.5))
        down = where(clip.frames)[:, 0]
        sound = clip.sound.reshape(75, -1)
        crossings = (np.diff(np.sign(sound), axis=1) != 0).sum(axis=1) / 2 * 25
        want = LOWEST_HZ * 2 ** (OCTAVES * (1 - down))
        assert np.corrcoef(crossings, want)[0, 1] > 0.97
        assert np.ptp(want) > 50
        assert np.abs(clip.sound).max() <= 1


def test_clips_continue_where_others_start():
    video = SyntheticVideos(num_videos=9, num_classes=4)[0]["video"]
    first = video.clip(CONFIG, 1.0, (0.5, 0.5)).frames
    later = video.clip(CONFIG, 1.2, (0.5, 0.5)).frames
    np.testing.assert_array_equal(first[5:], later[:-5])
    assert not np.array_equal(first[0], first[1])


def test_crops_show_another_side():
    video = SyntheticVideos(num_videos=9, num_classes=4)[0]["video"]
    left, right = (video.clip(CONFIG, 0.0, (0.5, x)).frames for x in (0.0, 1.0))
    np.testing.assert_array_equal(left[:, :, 20:], right[:, :, :-20])
