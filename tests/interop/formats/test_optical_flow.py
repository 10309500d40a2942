"""Settings, files, commands and checks of models of optical flow in all formats."""

import dataclasses
import importlib.util
import json
import pickle

import numpy as np
import pytest

from interop import export_weights, import_weights
from interop.__main__ import main
from interop.check import check, first_difference
from interop.expressible import nearest, remarks
from interop.files import haiku
from interop.formats import deepmind, huggingface, krasserm
from interop.formats.krasserm import kinds
from interop.formats.krasserm import optical_flow as krasserm_flow
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from tests.interop.conftest import classifier, flow_model

PUBLISHED = {
    # Of `deepmind/optical-flow-perceiver`, shortened.
    "architectures": ["PerceiverForOpticalFlow"],
    "attention_probs_dropout_prob": 0.1,
    "cross_attention_shape_for_attention": "kv",
    "d_latents": 512,
    "d_model": 322,
    "hidden_act": "gelu",
    "image_size": 56,
    "initializer_range": 0.02,
    "model_type": "perceiver",
    "num_blocks": 1,
    "num_cross_attention_heads": 1,
    "num_latents": 2048,
    "num_self_attends_per_block": 24,
    "num_self_attention_heads": 16,
    "qk_channels": None,
    "samples_per_patch": 16,
    "train_size": [368, 496],
    "use_query_residual": True,
    "v_channels": None,
}


def test_huggingfaces_published_model():
    common = {"dropout": 0.1, "init_scale": 0.02, "masked_rows": "uniform"}
    assert huggingface.config(PUBLISHED) == PerceiverConfig(
        encoder=OpticalFlowEncoderConfig(
            image_shape=(368, 496),
            num_patch_hidden_channels=64,
            num_frequency_bands=64,
            num_cross_attention_heads=1,
            num_self_attention_heads=16,
            num_self_attention_layers_per_block=24,
            **common,
        ),
        decoder=OpticalFlowDecoderConfig(
            num_cross_attention_heads=1, num_cross_attention_qk_channels=512, **common
        ),
        num_latents=2048,
        num_latent_channels=512,
    )


def test_huggingfaces_size_of_frames_has_their_default():
    given = {name: value for name, value in PUBLISHED.items() if name != "train_size"}
    assert huggingface.config(given).encoder.image_shape == (368, 496)
    with pytest.raises(ConfigError, match="image_shape"):
        huggingface.config(PUBLISHED | {"train_size": [368, 496, 3]})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_size": [40, 48], "hidden_act": "gelu_pytorch_tanh"},
        {"cross_attention_shape_for_attention": "q", "use_query_residual": False},
        {"cross_attention_shape_for_attention": "q", "qk_channels": 64, "v_channels": 512},
        {"qk_channels": 64, "v_channels": 512, "self_attention_widening_factor": 4},
    ],
)
def test_settings_of_a_config_make_the_same_model(changes):
    config = huggingface.config(PUBLISHED | changes)
    settings = huggingface.settings(config)
    again = huggingface.config(settings)
    assert models.skeleton(again).params == models.skeleton(config).params
    assert again.encoder.image_shape == config.encoder.image_shape
    assert settings == huggingface.settings(again)
    for name in ("cross_attention_shape_for_attention", "train_size"):
        assert settings[name] == (PUBLISHED | changes)[name]


def test_deepminds_published_model_goes_to_huggingface_as_it_is():
    config, changes = nearest(huggingface, models.optical_flow_perceiver())
    assert not changes
    settings = huggingface.settings(config)
    told = {name for name in PUBLISHED if name in settings} - {"hidden_act"}
    unlike = {"attention_probs_dropout_prob"}
    assert {name: settings[name] for name in told - unlike} == {
        name: PUBLISHED[name] for name in told - unlike
    }
    assert settings["hidden_act"] == "gelu_pytorch_tanh"


KRASSERM_ENCODER = {
    "image_shape": [368, 496],
    "num_patch_input_channels": 27,
    "num_patch_hidden_channels": 64,
    "num_frequency_bands": 64,
    "num_cross_attention_heads": 1,
    "num_self_attention_heads": 16,
    "num_self_attention_layers_per_block": 24,
    "freeze": False,
}
KRASSERM_DECODER = {
    "image_shape": [368, 496],
    "num_cross_attention_qk_channels": 512,
    "num_cross_attention_v_channels": 512,
    "num_cross_attention_heads": 1,
    "cross_attention_residual": False,
    "rescale_factor": 100.0,
    "freeze": False,
}


def krasserm_settings(encoder=None, decoder=None):
    return {
        "encoder": KRASSERM_ENCODER | (encoder or {}),
        "decoder": KRASSERM_DECODER | (decoder or {}),
        "num_latents": 2048,
        "num_latent_channels": 512,
        "activation_checkpointing": False,
        "activation_offloading": False,
    }


def test_krasserms_published_model():
    settings = krasserm_settings()
    assert kinds.of_settings(settings) is krasserm_flow
    published, common = models.optical_flow_perceiver(), {"masked_rows": "uniform"}
    config = krasserm.config(settings)
    assert models.skeleton(config).params == models.skeleton(published).params
    assert config.decoder == OpticalFlowDecoderConfig(
        num_cross_attention_heads=1,
        num_cross_attention_qk_channels=512,
        num_cross_attention_v_channels=512,
        **common,
    )
    assert config.encoder.image_shape == (368, 496)


def test_krasserms_defaults_are_not_ours():
    """Its decoders add their queries, and its values have a token's channels."""
    settings = krasserm_settings({"num_cross_attention_qk_channels": 64})
    del settings["decoder"]["cross_attention_residual"]
    config = krasserm.config(settings)
    assert config.decoder.cross_attention_residual
    assert config.encoder.num_cross_attention_v_channels == 322
    ours = flow_model("gelu", num_cross_attention_qk_channels=64)
    assert krasserm.settings(ours)["encoder"]["num_cross_attention_v_channels"] == 64
    again = krasserm.config(krasserm.settings(ours))
    assert models.skeleton(again).params == models.skeleton(ours).params


@pytest.mark.parametrize(
    ("encoder", "decoder", "complaint"),
    [
        ({"num_patch_input_channels": 12}, {}, "num_patch_input_channels=12"),
        ({}, {"image_shape": [368, 500]}, r"\(368, 496\) in the encoder and \(368, 500\)"),
        ({"num_frequency_bands": 0}, {}, "bare coordinates"),
        ({"num_patch_hiden_channels": 3}, {}, "did you mean 'num_patch_hidden_channels'"),
        ({}, {"flow_scale": 20.0}, "config.decoder has no field 'flow_scale'"),
    ],
)
def test_krasserm_settings_that_cannot_be_expressed(encoder, decoder, complaint):
    with pytest.raises(ConfigError, match=complaint):
        krasserm.config(krasserm_settings(encoder, decoder))


FEATURES = {"num_bands": 64, "max_resolution": [368, 496], "sine_only": False, "concat_pos": True}
HAIKU = {
    "task": "optical_flow",
    "train_size": [368, 496],
    "input_preprocessor": {
        "position_encoding_type": "fourier",
        "fourier_position_encoding_kwargs": FEATURES,
        "n_extra_pos_mlp": 0,
        "prep_type": "patches",
        "spatial_downsample": 1,
        "conv_after_patching": True,
        "temporal_downsample": 2,
    },
    "encoder": {
        "num_self_attends_per_block": 24,
        "num_blocks": 1,
        "z_index_dim": 2048,
        "num_z_channels": 512,
        "num_self_attend_heads": 16,
        "name": "perceiver_encoder",
    },
    "decoder": {
        "output_image_shape": [368, 496],
        "position_encoding_type": "fourier",
        "fourier_position_encoding_kwargs": FEATURES,
    },
}
"""As the notebook has it; what it leaves out has DeepMind's default."""


def test_the_notebooks_model_is_the_preset():
    preset = models.optical_flow_perceiver(max_resolution=(368.0, 496.0), latent_init_scale=0.02)
    # Values have the channels of queries and keys unless said.
    decoder = dataclasses.replace(preset.decoder, num_cross_attention_v_channels=None)
    assert deepmind.config(HAIKU) == dataclasses.replace(preset, decoder=decoder)


@pytest.mark.parametrize(
    ("part", "change", "complaint"),
    [
        ("encoder", {"num_blobs": 3}, "num_blobs"),
        ("encoder", {"name": "encoder"}, "name of the encoder='encoder'"),
        ("decoder", {"final_project": False}, "final_project=False"),
        ("decoder", {"output_num_channels": 3}, "output_num_channels=3"),
        ("decoder", {"position_encoding_type": "trainable"}, "position_encoding_type='trainable'"),
        ("decoder", {"output_image_shape": [368, 500]}, "output_image_shape"),
        ("input_preprocessor", {"temporal_downsample": 1}, "temporal_downsample=1"),
        ("input_preprocessor", {"conv_after_patching": False}, "conv_after_patching=False"),
        ("input_preprocessor", {"concat_or_add_pos": "add"}, "concat_or_add_pos='add'"),
        ("input_preprocessor", {"prep_type": "conv"}, "prep_type='conv'"),
        (
            "input_preprocessor",
            {"fourier_position_encoding_kwargs": FEATURES | {"sine_only": True}},
            "sine_only=True",
        ),
    ],
)
def test_haiku_arguments_that_would_change_the_computation(part, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        deepmind.config({**HAIKU, part: HAIKU[part] | change})


@pytest.mark.parametrize("module", [huggingface, krasserm])
def test_that_flow_is_in_other_units_is_said(module):
    assert any("units of 20 pixels" in note for note in remarks(module, flow_model("gelu")))
    frequencies = {"max_resolution": (224.0, 224.0), "image_shape": (224, 224, 3)}
    others = remarks(module, classifier("gelu", **frequencies))
    assert not any("units" in note for note in others)


def test_deepminds_pickle_is_bare(released, tmp_path):
    """As the released one: modules at the top, no state beside them."""
    export_weights(released(flow_model()), "deepmind", tmp_path / "x.pystate")
    tree = pickle.loads((tmp_path / "x.pystate").read_bytes())
    assert "flow_decoder/~/basic_decoder/output" in tree and "params" not in tree
    assert type(tree) is dict
    read = haiku.read(tmp_path / "x.pystate")
    assert "params/image_preprocessor/patches_linear/w" in read
    found = import_weights("deepmind", tmp_path / "x.pystate")
    assert found.card.preprocessing is None and found.card.text is None


def test_krasserms_folder(released, tmp_path):
    """It names the class of its hub interface; what prepares pictures says nothing of frames."""
    start = released(flow_model("gelu"))
    export_weights(start, "krasserm", tmp_path / "x")
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["model_type"] == "perceiver-io-optical-flow"
    assert config["architectures"] == ["OpticalFlowPerceiver"]
    assert config["model_config"]["decoder"]["image_shape"] == [4, 5]
    (tmp_path / "x" / "preprocessor_config.json").write_text('{"resample": 7}')
    found = import_weights("krasserm", tmp_path / "x")
    assert found.card.preprocessing is None
    for path in start.arrays:
        np.testing.assert_array_equal(found.arrays[path], start.arrays[path], err_msg=path)


def test_a_scale_that_a_format_has_not_is_approximated(released, outputs, tmp_path):
    """The nearest model has its scale, and the effect is measured."""
    start = released(flow_model(decoder={"flow_scale": 10.0}))
    exported = export_weights(start, "huggingface", tmp_path / "x", approximate=True)
    assert exported.changes == ("decoder.flow_scale: 10.0 → 20.0",)
    np.testing.assert_allclose(exported.effect.difference, exported.effect.scale, rtol=1e-4)
    frames = np.random.default_rng(0).normal(size=(1, 2, 4, 5, 3)).astype(np.float32)
    found = import_weights("huggingface", tmp_path / "x")
    np.testing.assert_allclose(outputs(found, frames), 2 * outputs(start, frames), rtol=1e-5)


FILES = {
    # format: (package of its reference, config, place)
    "deepmind": ("transformers", flow_model(decoder={"flow_scale": 3.0}), "x.pystate"),
    "huggingface": ("transformers", flow_model("gelu"), "x"),
    "krasserm": ("perceiver", flow_model("gelu"), "x.pt"),
}
reference = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture(scope="module", params=[pytest.param(name, marks=reference) for name in FILES])
def file(request, released, tmp_path_factory):
    """(format, path) of a tiny model."""
    package, config, place = FILES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the reference of format {request.param} is not installed")
    path = tmp_path_factory.mktemp(request.param) / place
    export_weights(released(config), request.param, path)
    return request.param, str(path)


def test_every_stage_agrees(file):
    stages = check(*file)
    assert [stages[0].name, stages[-1].name] == ["encoder/inputs", "outputs"]
    assert "decoder/queries" in [stage.name for stage in stages]
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("encoder/input_adapter/projection/kernel", "encoder/inputs"),
        ("decoder/cross_attention/q_norm/scale", "decoder/cross_attention/attention"),
        ("decoder/output_adapter/linear/bias", "outputs"),
    ],
)
def test_a_perturbed_parameter_is_found_where_it_is_used(file, path, stage, capsys):
    assert main(["check", *file, f"--perturb={path}"]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert f"the first stage that parts is {stage}, by" in verdict


def test_pixels_that_are_masked_are_asked_for_like_others(file, tmp_path, capsys):
    frames = np.random.default_rng(0).normal(size=(3, 2, 4, 5, 3)).astype(np.float32)
    mask = np.arange(60).reshape(3, 20) % 3 > 0
    np.savez(tmp_path / "batch.npz", inputs=frames, input_mask=mask)
    arguments = ["check", *file, f"--batch={tmp_path / 'batch.npz'}"]
    if file[0] != "krasserm":
        assert main(arguments) == 0
        assert "[3, 20, 2]" in capsys.readouterr().out
        return
    with pytest.raises(UserError, match="takes no mask of pixels"):
        check(*file, batch=tmp_path / "batch.npz")


def test_commands(released, tmp_path, capsys):
    """From DeepMind's format to all others, and back to ours."""
    start = released(flow_model("gelu_tanh"))
    first = tmp_path / "x.pystate"
    export_weights(start, "deepmind", first)
    assert main(["import", "deepmind", str(first), str(tmp_path / "ours")]) == 0
    assert main(["export", "huggingface", str(tmp_path / "ours"), str(tmp_path / "hf")]) == 0
    back = ["--from", "huggingface", str(tmp_path / "hf"), "--to", "deepmind"]
    assert main(["convert", *back, str(tmp_path / "y.pystate")]) == 0
    assert first.read_bytes() == (tmp_path / "y.pystate").read_bytes()
    said = capsys.readouterr().out
    assert "note     flow is given there in units of 20 pixels" in said
    assert main(["export", "krasserm", str(tmp_path / "ours"), str(tmp_path / "k")]) == 1
    assert "encoder.activation" in capsys.readouterr().err


@pytest.mark.parametrize("format_", ["ours", "deepmind", "huggingface", "krasserm"])
def test_tables_of_the_published_model(format_, capsys):
    assert main(["table", format_, "optical_flow_checkpoint"]) == 0
    said = capsys.readouterr().out
    assert "41,057,134 parameters, 425 arrays" in said
    assert ("cannot express encoder.activation" in said) == (format_ == "krasserm")
