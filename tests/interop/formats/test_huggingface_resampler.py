"""Settings of Hugging Face's resamplers, and folders of whole models of which they are a part."""

import dataclasses
import json

import numpy as np
import pytest

from interop import FORMATS, convert, export_weights, import_weights
from interop.__main__ import main
from interop.expressible import nearest
from interop.files import FileError, safetensors_files
from interop.formats import hub_folder, huggingface
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import ResamplerConfig
from tests.interop.conftest import IDEFICS, PROJECTION, resampler

ALONE, CONNECTOR = "Idefics2PerceiverResampler", "Idefics2Connector"
# As the files of whole models are, shortened.
IDEFICS2_8B = {
    "architectures": ["Idefics2ForConditionalGeneration"],
    "image_token_id": 32001,
    "model_type": "idefics2",
    "perceiver_config": {
        "hidden_size": 4096,
        "model_type": "idefics2_perceiver",
        "num_key_value_heads": 4,
        "pruned_heads": {},
        "resampler_depth": 3,
        "resampler_head_dim": 96,
        "resampler_n_heads": 16,
        "resampler_n_latents": 64,
        "rms_norm_eps": 1e-05,
    },
    "text_config": {"model_type": "mistral", "rms_norm_eps": 1e-05, "vocab_size": 32003},
    "vision_config": {"hidden_size": 1152, "image_size": 980, "patch_size": 14},
}
IDEFICS_9B = {
    "architectures": ["IdeficsForVisionText2Text"],
    "model_type": "idefics",
    "use_resampler": True,
    "perceiver_config": {
        "qk_layer_norms_perceiver": True,
        "resampler_depth": 6,
        "resampler_head_dim": 96,
        "resampler_n_heads": 16,
        "resampler_n_latents": 64,
    },
    "vision_config": {"embed_dim": 1280, "patch_size": 14},
}


def test_the_connector_of_a_whole_idefics2():
    """A Mistral's sizes are taken where its settings do not tell them."""
    assert huggingface.config(IDEFICS2_8B) == ResamplerConfig(
        num_latents=64,
        num_latent_channels=4096,
        num_layers=3,
        num_heads=16,
        num_kv_heads=4,
        num_qk_channels=1536,
        num_input_channels=1152,
        num_input_hidden_channels=14336,
        activation="swiglu",
        norm="rms_norm",
        layer_norm_epsilon=1e-5,
        masked_rows="uniform",
        init_scale=0.02,
    )


def test_the_resampler_of_a_whole_idefics():
    assert huggingface.config(IDEFICS_9B) == ResamplerConfig(
        num_latents=64,
        num_latent_channels=1280,
        num_layers=6,
        num_heads=16,
        num_qk_channels=1536,
        qk_norm=True,
        activation="relu",
        masked_rows="uniform",
        latent_init_scale=1.0,
    )


def test_other_channels_of_the_text_model_go_before_those_of_the_resampler():
    """As their config class has it: the resampler's are then taken for defaults."""
    text = {"hidden_size": 2048, "rms_norm_eps": 1e-3}
    config = huggingface.config(IDEFICS2_8B | {"text_config": text})
    assert (config.num_latent_channels, config.layer_norm_epsilon) == (2048, 1e-3)
    text = {"hidden_size": 4096, "rms_norm_eps": 1e-3}
    config = huggingface.config(IDEFICS2_8B | {"text_config": text})
    assert (config.num_latent_channels, config.layer_norm_epsilon) == (4096, 1e-5)


@pytest.mark.parametrize(
    ("settings", "change", "complaint"),
    [
        (IDEFICS2_8B, {"perceiver_config": {"resampler_heads": 3}}, "mean 'resampler_n_heads'"),
        (IDEFICS2_8B, {"perceiver_config": {"hidden_act": "relu"}}, "hidden_act='relu' of perc"),
        (IDEFICS2_8B, {"perceiver_config": 5}, "perceiver_config=5 is no group"),
        (IDEFICS2_8B, {"text_config": {"hidden_act": "gelu"}}, "'gelu' of text_config"),
        (
            IDEFICS2_8B,
            {"text_config": {"model_type": "llama"}},
            "is of type llama and does not tell",
        ),
        (IDEFICS_9B, {"use_resampler": False}, "there is no resampler in the model"),
        (IDEFICS_9B, {"perceiver_config": {"resampler_dept": 3}}, "mean 'resampler_depth'"),
        (IDEFICS_9B, {"vision_config": [1]}, "is no group of settings"),
        ({"architectures": [ALONE]}, {"hidden_act": "relu"}, "hidden_act='relu'; known are silu"),
        ({"architectures": [ALONE]}, {"resampler_n_heads": 0}, "num_heads=0"),
        ({"architectures": [ALONE]}, {"quantization_config": {}}, "unknown setting quantization"),
    ],
)
def test_configs_that_are_refused(settings, change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        huggingface.config(settings | change)


@pytest.mark.parametrize(
    ("config", "fields", "complaint"),
    [
        (resampler(), {"activation": "relu"}, "activation='relu' instead of 'swiglu'"),
        (resampler(), {"qkv_bias": True}, "qkv_bias=True instead of False"),
        (resampler(), {"out_bias": True}, "out_bias=True instead of False"),
        (resampler(), {"mlp_bias": True}, "mlp_bias=True instead of False"),
        (resampler(), {"qk_norm": True}, "qk_norm=True instead of False"),
        (resampler(), {"rotary_channels": 2}, "rotary_channels=2 instead of 0"),
        (resampler(), {"latents_contribute_kv": False}, "latents_contribute_kv=False instead"),
        (resampler(), {"widening_factor": 2}, "widening_factor=2 instead of 4"),
        (resampler(), {"num_v_channels": 16}, "num_v_channels=16 instead of 24"),
        (resampler(), {"num_input_channels": 8}, "num_input_channels=8 instead of None"),
        (resampler(), {"num_output_channels": 8}, "num_output_channels=8 instead of None"),
        (resampler(), {"max_frames": 8}, "max_frames=8 instead of None"),
        (resampler(), {"output_norm": False}, "output_norm=False instead of True"),
        (resampler(**IDEFICS), {"activation": "squared_relu"}, "squared_relu' instead of 'relu'"),
        (resampler(**IDEFICS), {"num_kv_heads": 2}, "num_kv_heads=2 instead of None"),
        (resampler(**IDEFICS), {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06 instead"),
        (resampler(**IDEFICS), PROJECTION, "num_input_hidden_channels=20 instead of None"),
    ],
)
def test_models_that_cannot_be_expressed(config, fields, complaint):
    assert huggingface.rows(config)
    for use in (huggingface.rows, huggingface.settings):
        with pytest.raises(ValueError, match="cannot express this model") as refused:
            use(dataclasses.replace(config, **fields))
        assert complaint in str(refused.value)


def test_nothing_changes_in_the_preset_and_flamingos_activation_does():
    assert nearest(huggingface, models.idefics2_resampler())[1] == ()
    _, changes = nearest(huggingface, models.flamingo_resampler(64))
    assert changes == ("activation: 'squared_relu' → 'relu'",)
    with pytest.raises(UserError, match="has no model with these parameters"):
        nearest(huggingface, models.flamingo_resampler(64, max_frames=8))


@pytest.mark.parametrize("name", ["deepmind", "krasserm", "lucidrains"])
def test_a_resampler_is_refused(name):
    for translate in (FORMATS[name].rows, FORMATS[name].settings, FORMATS[name].requirements):
        with pytest.raises(ConfigError, match="has no Resampler; of our models it has "):
            translate(resampler())


CASES = {
    "Idefics2": resampler(),
    "connector": resampler(**PROJECTION),
    "IDEFICS": resampler(**IDEFICS, qk_norm=True),
}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name, released, tmp_path):
    start = released(CASES[name])
    export_weights(start, "huggingface", tmp_path / "theirs")
    convert("huggingface", tmp_path / "theirs", "ours", tmp_path / "ours")
    end = import_weights("ours", tmp_path / "ours")
    assert end.arrays.keys() == start.arrays.keys()
    for path, array in start.arrays.items():
        np.testing.assert_array_equal(end.arrays[path], array, err_msg=path)
    assert (end.card.origin, end.card.licence) == (start.card.origin, start.card.licence)


@pytest.fixture
def whole(released, tmp_path):
    """A folder of a whole Idefics2 in two shards, of which one is missing."""
    config = resampler(**PROJECTION)
    released = released(config)
    export_weights(released, "huggingface", tmp_path / "part")
    part = safetensors_files.read(tmp_path / "part" / "model.safetensors")
    folder = tmp_path / "whole"
    folder.mkdir()
    names = {f"model.connector.{name}": array for name, array in part.items()}
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    safetensors_files.write(folder / shards[0], names | {"model.vision.x": np.zeros(2)})
    weight_map = dict.fromkeys([*names, "model.vision.x"], shards[0]) | {"lm_head": shards[1]}
    (folder / hub_folder.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    settings = huggingface.settings(config) | {"architectures": IDEFICS2_8B["architectures"]}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "preprocessor_config.json").write_text('{"do_image_splitting": true}')
    return folder, released


def test_of_a_whole_model_the_connector_alone_is_read(whole, tmp_path, capsys):
    folder, start = whole
    found = import_weights("huggingface", folder)
    assert found.card.origin == "huggingface: whole, model.connector alone"
    assert found.card.preprocessing is None
    for path, array in start.arrays.items():
        np.testing.assert_array_equal(found.arrays[path], array, err_msg=path)
    assert main(["import", "huggingface", str(folder), str(tmp_path / "release")]) == 0
    said = capsys.readouterr().out
    assert "from     huggingface: whole, model.connector alone\n" in said
    # What was read can be written: it is a connector then.
    huggingface.write(tmp_path / "again", huggingface.read(folder))
    settings = json.loads((tmp_path / "again" / "config.json").read_text())
    assert settings["architectures"] == [CONNECTOR]


def test_a_whole_model_without_the_part_is_told(whole):
    folder, _ = whole
    settings = json.loads((folder / "config.json").read_text())
    changed = settings | {"architectures": ["IdeficsModel"], "use_resampler": True}
    changed["perceiver_config"] = IDEFICS_9B["perceiver_config"]
    (folder / "config.json").write_text(json.dumps(changed))
    with pytest.raises(FileError, match="no tensors whose names start with 'perceiver_resampler.'"):
        import_weights("huggingface", folder)


def test_more_layers_than_a_file_can_hold_are_refused(released, tmp_path):
    export_weights(released(resampler()), "huggingface", tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"resampler_depth": 10**9}))
    with pytest.raises(UserError, match="1,000,000,000 layers, more than"):
        import_weights("huggingface", tmp_path)


def test_the_table_of_the_preset(capsys):
    assert main(["table", "huggingface", "idefics2_resampler"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (hidden,) = (line for line in lines if line.startswith("layer/0/mlp/hidden/kernel "))
    assert "[4096, 32768]  ← T, join 2 on 1" in hidden
    assert hidden.endswith("layers.0.mlp.up_proj.weight + layers.0.mlp.gate_proj.weight")
