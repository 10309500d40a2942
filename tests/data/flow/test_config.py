"""Which configs of flow are refused."""

import pytest

from perceiver_jax.config import ConfigError, from_dict, to_dict
from perceiver_jax.data.flow import FlowDataConfig


def test_a_config_survives_its_dict():
    config = FlowDataConfig(dataset="sintel", data_dir="there", image_size=(64, 96), hue=0.1)
    assert from_dict(FlowDataConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset", "sintels", "dataset='sintels' is not valid; it takes 'synthetic'"),
        ("frame_pass", "albedo", "frame_pass='albedo' is not valid; it takes 'clean'"),
        ("textures", "fur", "textures='fur' is not valid; it takes 'photos'"),
        ("batch_size", 0, "batch_size=0"),
        ("eval_batch_size", 0, "eval_batch_size=0"),
        ("image_size", (368, 7), r"image_size=\(368, 7\) must be 8 or more"),
        ("max_scale", -0.1, "max_scale=-0.1 is not in"),
        ("max_scale", 5.0, "max_scale=5.0 is not in"),
        ("brightness", 1.0, "brightness=1.0 is not in"),
        ("contrast", -0.5, "contrast=-0.5 is not in"),
        ("saturation", 2.0, "saturation=2.0 is not in"),
        ("hue", 0.6, "hue=0.6 is not in"),
        ("asymmetric_colors", 1.1, "asymmetric_colors=1.1 is not in"),
        ("num_layers", -1, "num_layers=-1 is too small; it must be 0 or more"),
        ("num_eval_examples", 0, "num_eval_examples=0 is too small"),
        ("max_flow", 0.0, "max_flow=0.0 is no length"),
        ("max_flow", float("nan"), "max_flow=nan is no length"),
    ],
)
def test_a_value_out_of_range_is_refused(field, value, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(FlowDataConfig, {"dataset": "synthetic", field: value})


def test_a_dataset_must_be_named():
    with pytest.raises(ConfigError, match="config.dataset is missing: 'synthetic': endless"):
        from_dict(FlowDataConfig, {})


def test_what_is_made_without_a_dict_is_checked_too():
    with pytest.raises(ValueError, match="dataset='sintels' is none of 'synthetic', 'middlebury'"):
        FlowDataConfig(dataset="sintels")
