"""Configs of video datasets, and what they refuse."""

import pytest

from perceiver_jax.config import ConfigError, from_dict, to_config_dict
from perceiver_jax.data.video import VideoDataConfig


def test_the_defaults_are_those_of_the_published_model_and_carry_overrides():
    config = VideoDataConfig(dataset="synthetic")
    assert (config.num_frames, config.image_size, config.num_samples) == (16, (224, 224), 30_720)
    assert config.clip_seconds == 0.64
    tree = to_config_dict(config)
    tree.image_size = (8, 9)
    assert from_dict(VideoDataConfig, tree).image_size == (8, 9)


def test_sound_that_lasts_as_long_as_the_frames_to_a_sample_is_taken():
    config = VideoDataConfig(
        dataset="synthetic", num_frames=2, frame_rate=3.0, sample_rate=16_000, num_samples=10_667
    )
    assert config.clip_seconds == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_samples": 30_000}, "num_samples=30000 .* expected num_samples=30720"),
        ({"num_frames": 32}, "do not last as long .* expected num_samples=61440"),
        ({"num_frames": 0}, "num_frames=0 is too small"),
        ({"num_classes": 0}, "num_classes=0 is too small"),
        ({"batch_size": 0}, "must be 1 or more"),
        ({"eval_batch_size": 0}, "must be 1 or more"),
        ({"image_size": (8, 0)}, "image_size=.* must be 1 or more each way"),
        ({"frame_rate": 0.0}, "must be finite and above 0"),
        ({"frame_rate": float("inf")}, "must be finite and above 0"),
        ({"sample_rate": 0}, "must be finite and above 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, match):
    with pytest.raises(ConfigError, match=match):
        from_dict(VideoDataConfig, {"dataset": "synthetic"} | fields)


def test_importing_leaves_the_heavy_package_alone(run_python):
    printed = run_python("import sys, perceiver_jax.data.video; print('av' in sys.modules)")
    assert printed.strip() == "False"
