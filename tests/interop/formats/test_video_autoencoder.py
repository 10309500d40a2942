"""Autoencoders of clips in DeepMind's settings and Hugging Face's, and from one to the other."""

import dataclasses
import importlib.util
import json
import pickle

import numpy as np
import pytest

from interop import convert, export_weights, import_weights
from interop.__main__ import main
from interop.check import check, first_difference
from interop.example import example_inputs
from interop.expressible import Effect, nearest
from interop.formats import deepmind, huggingface
from perceiver_jax import models
from perceiver_jax.card import ModelCard
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, VideoDecoderConfig, VideoEncoderConfig
from tests.interop.conftest import video_autoencoder

PADDING = "decoder/output_adapter/modality/image/padding"
# As the file on the hub is, shortened.
PUBLISHED = {
    "_label_trainable_num_channels": 1024,
    "_name_or_path": "deepmind/multimodal-perceiver",
    "architectures": ["PerceiverForMultimodalAutoencoding"],
    "attention_probs_dropout_prob": 0.1,
    "audio_samples_per_frame": 1920,
    "cross_attention_shape_for_attention": "kv",
    "d_latents": 512,
    "d_model": 704,
    "hidden_act": "gelu",
    "id2label": {str(i): f"LABEL_{i}" for i in range(700)},
    "image_size": 56,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "model_type": "perceiver",
    "num_blocks": 1,
    "num_cross_attention_heads": 1,
    "num_frames": 16,
    "num_latents": 784,
    "num_self_attends_per_block": 8,
    "num_self_attention_heads": 8,
    "output_num_channels": 512,
    "output_shape": [1, 16, 224, 224],
    "samples_per_patch": 16,
    "torch_dtype": "float32",
    "train_size": [368, 496],
    "use_query_residual": True,
}


def change(config, half, fields):
    changed = dataclasses.replace(getattr(config, half), **fields)
    return dataclasses.replace(config, **{half: changed})


@pytest.fixture
def without_labels(released):
    """A function that fills a config with random weights, of classes without names."""
    return lambda config: dataclasses.replace(released(config), card=ModelCard())


def test_the_published_config():
    common = {
        "num_cross_attention_heads": 1,
        "dropout": 0.1,
        "init_scale": 0.02,
        "masked_rows": "uniform",
    }
    assert huggingface.config(PUBLISHED) == PerceiverConfig(
        encoder=VideoEncoderConfig(
            video_max_resolution=(16.0, 56.0, 56.0),
            num_self_attention_layers_per_block=8,
            num_self_attention_heads=8,
            **common,
        ),
        decoder=VideoDecoderConfig(
            num_cross_attention_qk_channels=512, query_positions="half_open", **common
        ),
        num_latents=784,
        num_latent_channels=512,
    )


def test_what_a_config_leaves_out_has_their_defaults():
    short = {
        name: PUBLISHED[name]
        for name in ("architectures", "num_latents", "d_latents", "num_cross_attention_heads")
    }
    short |= {"num_self_attends_per_block": 8, "num_labels": 700}
    assert huggingface.config(short) == huggingface.config(PUBLISHED)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "gelu_pytorch_tanh", "use_query_residual": False},
        {"cross_attention_shape_for_attention": "q", "num_cross_attention_heads": 4},
        {"num_frames": 8, "image_size": 28, "output_shape": [1, 4, 32, 64]},
        {"samples_per_patch": 64, "_label_trainable_num_channels": 300, "output_num_channels": 7},
        {"qk_channels": 64, "v_channels": 512},
    ],
)
def test_settings_of_a_config_make_the_same_model(changes):
    config = huggingface.config(PUBLISHED | changes)
    settings = huggingface.settings(config)
    assert huggingface.config(settings) == config
    # The widths of one setting for several attentions may be said in two ways.
    assert settings.items() >= {k: v for k, v in changes.items() if "channels" not in k}.items()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_size": [56, 56]}, "takes one number"),
        ({"output_shape": [16, 224, 224]}, r"takes \[examples, frames, height, width\]"),
        ({"output_shape": [1, 16, 222, 224]}, "patch_size=4 does not divide frames of 222×224"),
        ({"samples_per_patch": 7}, "samples_per_patch=7 does not divide num_samples=30,720"),
        ({"num_frames": "16"}, "takes float"),
        ({"num_framez": 16}, "did you mean 'num_frames'"),
    ],
)
def test_configs_that_are_refused(changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        huggingface.config(PUBLISHED | changes)


@pytest.mark.parametrize(
    ("half", "fields", "complaint"),
    [
        ("encoder", {"patch_size": 2}, "encoder.patch_size=2 instead of 4"),
        ("encoder", {"num_video_frequency_bands": 8}, "num_video_frequency_bands=8 instead of 32"),
        ("encoder", {"num_audio_frequency_bands": 8}, "num_audio_frequency_bands=8 instead of 192"),
        ("encoder", {"min_padding_size": 2}, "encoder.min_padding_size=2 instead of 4"),
        ("encoder", {"audio_mask_rate": 0.5}, "audio_mask_rate=0.5 instead of 0.0"),
        ("encoder", {"label_mask_rate": 0.0}, "label_mask_rate=0.0 instead of 1.0"),
        (
            "encoder",
            {"video_max_resolution": (5.0, 3.4, 9.0)},
            r"(5.0, 3.4, 9.0) instead of (4.0, 3.0, 3.0)",
        ),
        ("encoder", {"video_shape": (2, 8, 12, 1)}, "instead of (2, 8, 12, 3)"),
        ("encoder", {"num_cross_attention_layers": 2}, "num_cross_attention_layers=2"),
        (
            "decoder",
            {"query_positions": "closed"},
            "query_positions='closed' instead of 'half_open'",
        ),
        ("decoder", {"cross_attention_residual": True}, "decoder.cross_attention_residual=True"),
        ("decoder", {"min_padding_size": 4}, "decoder.min_padding_size=4 instead of 2"),
        ("decoder", {"num_cross_attention_heads": 2}, "decoder.num_cross_attention_heads=2"),
        ("decoder", {"num_cross_attention_v_channels": 4}, "num_cross_attention_v_channels=4"),
        ("decoder", {"activation": "gelu"}, "decoder.activation='gelu'"),
    ],
)
def test_models_that_their_class_cannot_express(half, fields, complaint):
    config = change(video_autoencoder(), half, fields)
    for translate in (huggingface.rows, huggingface.settings):
        with pytest.raises(UserError, match="cannot express this model") as error:
            translate(config)
        assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("half", "fields", "complaint"),
    [
        ("encoder", {"label_mask_rate": 0.5}, "label_mask_rate=0.5 instead of 0.0"),
        ("encoder", {"video_max_resolution": (2.0, 3.0, 4.0)}, "instead of (2.0, 3.0, 3.0)"),
        ("encoder", {"video_max_resolution": (1.0, 3.0, 3.0)}, "instead of (2.0, 3.0, 3.0)"),
        ("encoder", {"activation": "gelu"}, "encoder.activation='gelu' instead of 'gelu_tanh'"),
        ("decoder", {"query_positions": "closed"}, "query_positions='closed'"),
        ("decoder", {"min_padding_size": 4}, "decoder.min_padding_size=4 instead of 2"),
        ("decoder", {"num_cross_attention_qk_channels": None}, "qk_channels=387 instead of 8"),
        ("decoder", {"cross_attention_mlp": False}, "cross_attention_mlp=False"),
    ],
)
def test_models_that_deepminds_code_cannot_express(half, fields, complaint):
    with pytest.raises(UserError, match="cannot express this model") as error:
        deepmind.rows(change(video_autoencoder(), half, fields))
    assert complaint in str(error.value)


def test_samples_that_frames_do_not_share_are_beyond_deepminds_numbers():
    with pytest.raises(ConfigError, match="equally many samples for each frame, which 15 samples"):
        deepmind.rows(video_autoencoder(num_samples=15))


def test_a_model_of_other_frequencies_is_refused_even_approximately():
    with pytest.raises(UserError, match="has no model with these parameters"):
        nearest(huggingface, video_autoencoder(num_audio_frequency_bands=8))


def meta():
    return deepmind.settings(video_autoencoder())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_blobs": 3}, "num_blobs"),
        ({"mask_probs": {"image": 0.0, "audio": 0.0}}, "modalities of mask_probs"),
        ({"encoder": {"name": "perceiver_encoder"}}, "name of the encoder='perceiver_encoder'"),
        ({"encoder": {"num_blobs": 3}}, "encoder arguments"),
        ({"spatial_downsample": 3}, "patch_size=3 does not divide"),
    ],
)
def test_numbers_of_the_notebook_that_are_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        deepmind.config(meta() | changes)


def test_the_sizes_of_frequencies_may_be_fractions():
    settings = meta() | {"image_pos_size": 3.5}
    config = deepmind.config(settings)
    assert config.encoder.video_max_resolution == (2.0, 3.5, 3.5)
    assert deepmind.settings(config) == settings


def test_nothing_changes_in_deepminds_model():
    assert nearest(huggingface, models.video_perceiver())[1] == ()
    assert nearest(deepmind, models.video_perceiver())[1] == ()


def assert_same_arrays(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)


@pytest.mark.parametrize("container", ["pystate", "npz"])
def test_from_deepmind_by_way_of_hugging_face_and_back(tmp_path, without_labels, container):
    """Bit for bit, through the files, which tell what they hold; positions stay what they were."""
    start = without_labels(video_autoencoder())
    first, last = (tmp_path / f"{name}.{container}" for name in ("first", "last"))
    export_weights(start, "deepmind", first)
    from_deepmind = import_weights("deepmind", first)
    exported = convert("deepmind", first, "huggingface", tmp_path / "hub")
    assert exported.changes == ()
    assert any("chosen points" in remark for remark in exported.remarks)
    from_hub = import_weights("huggingface", tmp_path / "hub")
    convert("huggingface", tmp_path / "hub", "deepmind", last)
    back = import_weights("deepmind", last)
    for found in (from_deepmind, from_hub, back):
        assert_same_arrays(found.arrays, start.arrays)
        assert found.config.decoder.query_positions == "half_open"
        assert Effect.measure(start, found.config).difference == 0.0
        assert found.card.preprocessing is None and found.card.text is None
    assert from_deepmind.config == back.config
    assert json.loads(first.with_suffix(".json").read_text())["task"] == "video_autoencoding"


def test_deepminds_pickle_is_bare(tmp_path, without_labels):
    """Modules at the top, without a state beside them, as the file was released."""
    export_weights(without_labels(video_autoencoder()), "deepmind", tmp_path / "x.pystate")
    tree = pickle.loads((tmp_path / "x.pystate").read_bytes())
    assert "multimodal_preprocessor/label_mask_token" in tree and "params" not in tree


def test_a_decoder_as_wide_as_its_queries_is_expressed():
    """387 channels of a query, which are not the 393 of a token."""
    decoder = {"num_cross_attention_qk_channels": 387}
    config = video_autoencoder(decoder=decoder, num_cross_attention_qk_channels=8)
    assert huggingface.settings(config)["cross_attention_shape_for_attention"] == "q"
    with pytest.raises(UserError, match="decoder.num_cross_attention_qk_channels=393 instead of"):
        decoder["num_cross_attention_qk_channels"] = 393
        huggingface.rows(video_autoencoder(decoder=decoder, num_cross_attention_qk_channels=8))


def test_names_of_classes_travel_to_hugging_face(tmp_path, released):
    start = released(video_autoencoder())
    export_weights(start, "huggingface", tmp_path / "hub")
    assert import_weights("huggingface", tmp_path / "hub").card.labels == start.card.labels


def test_an_approximation_is_measured_in_all_modalities(tmp_path, without_labels):
    closed = change(video_autoencoder("gelu"), "decoder", {"query_positions": "closed"})
    start = without_labels(closed)
    with pytest.raises(UserError, match="query_positions: 'closed' → 'half_open'"):
        export_weights(start, "huggingface", tmp_path / "hub")
    exported = export_weights(start, "huggingface", tmp_path / "hub", approximate=True)
    assert len(exported.changes) == 1
    assert exported.effect.difference > 1e-3 and exported.effect.batch_size == 2
    assert_same_arrays(import_weights("huggingface", tmp_path / "hub").arrays, start.arrays)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_examples_show_the_label_where_it_is_not_hidden(rate):
    example = example_inputs(video_autoencoder(label_mask_rate=rate), seed=0)
    clip, points = example["inputs"], example["query_indices"]
    assert clip["image"].shape == (2, 2, 8, 12, 3) and clip["audio"].shape == (2, 12, 1)
    assert (clip["label"] is None) == (rate == 1.0)
    assert points["image"].shape == (1, 32) and points["audio"].shape == (1, 4)
    assert sorted(points["audio"][0]) == [0, 1, 2, 3] and points["image"].max() < 2 * 8 * 12


def test_examples_of_the_full_size_ask_for_few_points():
    points = example_inputs(models.video_perceiver(), seed=0, batch_size=1)["query_indices"]
    assert {name: indices.shape for name, indices in points.items()} == {
        "audio": (1, 32),
        "image": (1, 32),
    }


FILES = {
    "deepmind": (video_autoencoder(num_audio_frequency_bands=3, label_mask_rate=0.0), "x.pystate"),
    "huggingface": (video_autoencoder("gelu"), "x"),
}


@pytest.fixture(params=FILES)
def file(request, without_labels, tmp_path):
    """(format, path) of a tiny model."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    config, name = FILES[request.param]
    export_weights(without_labels(config), request.param, tmp_path / name)
    return request.param, str(tmp_path / name)


@pytest.mark.parity
@pytest.mark.reference
class TestCheck:
    def test_every_stage_agrees(self, file):
        stages = check(*file)
        assert stages[0].name == "encoder/inputs" and stages[-1].name == "decoder/label/outputs"
        assert first_difference(stages) is None
        assert max(stage.relative for stage in stages) < 1e-11

    def test_a_perturbed_parameter_is_found_where_it_is_used(self, file, capsys):
        assert main(["check", *file, f"--perturb={PADDING}"]) == 1
        verdict = capsys.readouterr().out.splitlines()[-1]
        assert "the first stage that parts is decoder/image/queries" in verdict

    def test_the_batch_can_be_given_by_modality(self, file, tmp_path, capsys):
        arrays = {
            "inputs/image": np.full((3, 2, 8, 12, 3), 0.5, np.float32),
            "inputs/audio": np.zeros((3, 12, 1), np.float32),
            "query_indices/image": np.array([[190, 0]]),
        }
        label = {} if file[0] == "huggingface" else {"inputs/label": np.array([0, 2, 1])}
        np.savez(tmp_path / "batch.npz", **arrays, **label)
        assert main(["check", *file, f"--batch={tmp_path / 'batch.npz'}"]) == 0
        assert "[3, 2, 3]" in capsys.readouterr().out
        del arrays["inputs/audio"]
        np.savez(tmp_path / "other.npz", **arrays, **label)
        with pytest.raises(UserError, match="takes frames and sound"):
            check(*file, batch=tmp_path / "other.npz")
        np.savez(tmp_path / "third.npz", inputs=np.zeros((3, 12, 1), np.float32))
        with pytest.raises(UserError, match="does not take this"):
            check(*file, batch=tmp_path / "third.npz")
