import dataclasses

import numpy as np
import pytest

from interop.expressible import nearest
from interop.files import FileError
from interop.foreign import Foreign
from interop.formats import huggingface
from interop.formats.huggingface import image_classifier
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig

LEARNED, FOURIER, CONV = image_classifier.CLASSES
# As the files on the hub are, shortened.
PUBLISHED = {
    "_name_or_path": "deepmind/vision-perceiver-conv",
    "architectures": [CONV],
    "attention_probs_dropout_prob": 0.1,
    "cross_attention_shape_for_attention": "kv",
    "d_latents": 1024,
    "d_model": 322,
    "hidden_act": "gelu",
    "image_size": 56,
    "initializer_range": 0.02,
    "id2label": {"0": "tench", "1": "goldfish", "2": "great white shark"},
    "label2id": {"tench": 0, "goldfish": 1, "great white shark": 2},
    "layer_norm_eps": 1e-12,
    "model_type": "perceiver",
    "num_blocks": 8,
    "num_cross_attention_heads": 1,
    "num_latents": 512,
    "num_self_attends_per_block": 6,
    "num_self_attention_heads": 8,
    "qk_channels": None,
    "samples_per_patch": 16,
    "torch_dtype": "float32",
    "train_size": [368, 496],
    "transformers_version": "4.15.0.dev0",
    "use_query_residual": True,
    "v_channels": None,
    "vocab_size": 262,
}


def test_a_published_config():
    common = {"dropout": 0.1, "init_scale": 0.02, "masked_rows": "uniform"}
    assert huggingface.config(PUBLISHED) == PerceiverConfig(
        encoder=ImageEncoderConfig(
            image_shape=(224, 224, 3),
            preprocessing="conv",
            conv_padding="symmetric",
            num_preprocessing_channels=64,
            num_frequency_bands=64,
            max_resolution=(56.0, 56.0),
            num_cross_attention_heads=1,
            num_self_attention_blocks=8,
            num_self_attention_layers_per_block=6,
            **common,
        ),
        decoder=ClassificationDecoderConfig(
            num_classes=3, num_output_query_channels=1024, num_cross_attention_heads=1, **common
        ),
        num_latents=512,
        num_latent_channels=1024,
    )


def test_what_a_config_leaves_out_has_their_defaults():
    config = huggingface.config(
        {"architectures": [LEARNED], "num_cross_attention_heads": 1, "num_labels": 7}
    )
    encoder = config.encoder
    assert (config.num_latents, config.num_latent_channels) == (256, 1280)
    assert (encoder.num_self_attention_layers_per_block, encoder.image_shape) == (26, (56, 56, 3))
    assert config.decoder.num_classes == 7
    assert huggingface.config({"architectures": [LEARNED]}).decoder.num_classes == 2


@pytest.mark.parametrize("architecture", [LEARNED, FOURIER, CONV])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "gelu_pytorch_tanh", "attention_probs_dropout_prob": 0.25},
        {"cross_attention_shape_for_attention": "q", "use_query_residual": False},
        {"qk_channels": 64, "v_channels": 1024, "initializer_range": 0.1},
        {"v_channels": 1024, "self_attention_widening_factor": 4},
        {"num_blocks": 1, "cross_attention_widening_factor": 2, "num_labels": 9},
        {"qk_channels": 1024, "num_cross_attention_heads": 4},
    ],
)
def test_settings_of_a_config_make_the_same_model(architecture, changes):
    given = {k: v for k, v in PUBLISHED.items() if k not in ("id2label", "label2id")}
    config = huggingface.config(given | {"architectures": [architecture]} | changes)
    again = huggingface.config(huggingface.settings(config))
    assert models.skeleton(again).params == models.skeleton(config).params
    # Channels may be said in another way.
    unsaid = {
        f"num_{a}_attention_{c}_channels": None for a in ("cross", "self") for c in "qk v".split()
    }
    assert replaced(again, **unsaid) == replaced(config, **unsaid)


def replaced(config, half="encoder", **fields):
    return dataclasses.replace(
        config, **{half: dataclasses.replace(getattr(config, half), **fields)}
    )


@pytest.mark.parametrize("architecture", [FOURIER, CONV])
def test_images_of_another_size_are_kept(architecture):
    config = huggingface.config({**PUBLISHED, "architectures": [architecture]})
    assert "image_shape" not in huggingface.settings(config)
    larger = replaced(config, image_shape=(96, 128, 3))
    assert huggingface.settings(larger)["image_shape"] == [96, 128, 3]
    assert huggingface.config(huggingface.settings(larger)) == larger


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["PerceiverModel"]}, "it takes one of PerceiverForImage"),
        ({"architectures": None}, "architectures=None; it takes one of"),
        ({"architectures": 5}, "architectures=5; it takes one of"),
        ({"architectures": [{}]}, "it takes one of"),
        ({"architectures": [CONV, FOURIER]}, "it takes one of"),
        ({"num_self_attention_head": 4}, "did you mean 'num_self_attention_heads'"),
        ({"quantization_config": {"bits": 4}}, "unknown setting quantization_config"),
        ({"pruned_heads": {"0": [1]}}, "unknown setting pruned_heads"),
        ({"hidden_act": "gelu_fast"}, "hidden_act='gelu_fast'; known are gelu, gelu_python"),
        ({"hidden_act": ["gelu"]}, "hidden_act="),
        ({"cross_attention_shape_for_attention": "v"}, "attention='v'; known are kv, q"),
        ({"architectures": [LEARNED], "image_size": [224, 224]}, r"image_size=\[224, 224\]"),
        ({"id2label": ["tench"]}, "is no mapping of names of classes"),
        ({"num_latents": "many"}, "num_latents='many' is not valid"),
        ({"num_blocks": 0}, "num_self_attention_blocks=0 is too small"),
    ],
)
def test_configs_that_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        huggingface.config(PUBLISHED | change)
    assert huggingface.config(PUBLISHED | {"pruned_heads": {}})


@pytest.mark.parametrize(
    ("preset", "half", "fields", "complaint"),
    [
        ("fourier", "encoder", {"num_frequency_bands": 32}, "num_frequency_bands=32 instead of 64"),
        ("fourier", "encoder", {"image_shape": (96, 96, 3)}, "max_resolution=(96.0, 96.0) instead"),
        ("fourier", "encoder", {"image_shape": (224, 224, 1)}, "image_shape=(224, 224, 1) instead"),
        ("fourier", "encoder", {"position_channel_order": "lucidrains"}, "channel_order"),
        ("fourier", "encoder", {"num_cross_attention_layers": 2}, "cross_attention_layers=2"),
        ("fourier", "encoder", {"first_self_attention_block_shared": False}, "block_shared=False"),
        ("fourier", "encoder", {"repeated_layers_shared": False}, "layers_shared=False"),
        ("fourier", "encoder", {"inverted_cross_attention": (0,)}, "inverted_cross_attention=(0,)"),
        ("fourier", "encoder", {"activation": "geglu"}, "encoder.activation='geglu'"),
        ("fourier", "encoder", {"qkv_bias": False}, "encoder.qkv_bias=False"),
        ("fourier", "encoder", {"layer_norm_epsilon": 1e-12}, "encoder.layer_norm_epsilon=1e-12"),
        (
            "fourier",
            "encoder",
            {"num_self_attention_v_channels": 512},
            "encoder.num_self_attention_v_channels=512 instead of 1024",
        ),
        (
            "fourier",
            "encoder",
            {"num_cross_attention_qk_channels": 512, "num_self_attention_qk_channels": 512},
            "encoder.num_self_attention_v_channels=512 instead of 1024",
        ),
        (
            "fourier",
            "encoder",
            {"num_cross_attention_qk_channels": 64},
            "encoder.num_cross_attention_qk_channels=64 instead of 261",
        ),
        ("conv", "encoder", {"conv_padding": "same"}, "conv_padding='same' instead of 'symm"),
        ("conv", "encoder", {"max_resolution": None}, "max_resolution=None instead of (56"),
        ("conv", "encoder", {"num_preprocessing_channels": 32}, "preprocessing_channels=32"),
        ("learned", "encoder", {"num_position_channels": 128}, "position_channels=128"),
        ("learned", "encoder", {"image_shape": (32, 64, 3)}, "image_shape=(32, 64, 3)"),
        ("learned", "decoder", {"cross_attention_residual": False}, "residual=False instead of Tr"),
        ("learned", "decoder", {"activation": "gelu_tanh"}, "decoder.activation='gelu_tanh' inst"),
        ("learned", "decoder", {"num_output_queries": 2}, "decoder.num_output_queries=2"),
        ("learned", "decoder", {"num_cross_attention_heads": 2}, "decoder.num_cross_attention_he"),
        ("learned", "decoder", {"cross_attention_widening_factor": 2}, "widening_factor=2"),
        ("learned", "decoder", {"cross_attention_mlp": False}, "cross_attention_mlp=False"),
        ("learned", "decoder", {"output_queries": "zeros"}, "output_queries='zeros'"),
        ("learned", "decoder", {"num_output_query_channels": 256}, "output_query_channels=256"),
    ],
)
def test_models_that_cannot_be_expressed(preset, half, fields, complaint):
    architecture = {"learned": LEARNED, "fourier": FOURIER, "conv": CONV}[preset]
    config = huggingface.config({**PUBLISHED, "architectures": [architecture], "image_size": 224})
    assert huggingface.rows(config)
    if "image_shape" in fields and preset == "fourier":
        config = replaced(config, max_resolution=None)
    for use in (huggingface.rows, huggingface.settings):
        with pytest.raises(ValueError, match="Hugging Face's image classifier cannot") as refused:
            use(replaced(config, half, **fields))
        assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        (models.imagenet_fourier, []),
        (models.imagenet_learned, ["decoder.cross_attention_residual: False → True"]),
        (
            models.imagenet_conv,
            [
                "encoder.conv_padding: 'same' → 'symmetric'",
                "encoder.max_resolution: None → (56.0, 56.0)",
            ],
        ),
    ],
)
def test_what_changes_in_deepminds_models(preset, changes):
    config, found = nearest(huggingface, preset())
    assert list(found) == changes
    assert huggingface.rows(config)


def tiny_foreign(**fields):
    settings = {"architectures": [FOURIER], "num_labels": 2}
    arrays = {"x": np.zeros(2, np.float32)}
    return Foreign(**({"arrays": arrays, "settings": settings} | fields))


def test_a_folder_without_names_of_classes_counts_them(tmp_path):
    huggingface.write(tmp_path, tiny_foreign())
    found = huggingface.read(tmp_path)
    assert found.settings["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}
    assert (found.labels, found.preprocessing) == ((), None)
    assert huggingface.config(found.settings).decoder.num_classes == 2
    np.testing.assert_array_equal(found.arrays["x"], np.zeros(2))


def test_a_folder_that_was_read_can_be_written(tmp_path):
    settings = {"architectures": [FOURIER], "num_labels": 4}
    huggingface.write(tmp_path / "first", tiny_foreign(settings=settings))
    found = huggingface.read(tmp_path / "first")
    huggingface.write(tmp_path / "second", found)
    assert huggingface.read(tmp_path / "second").settings == found.settings


def test_torch_files_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    huggingface.write(tmp_path, tiny_foreign())
    (tmp_path / "model.safetensors").unlink()
    torch.save({"x": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    np.testing.assert_array_equal(huggingface.read(tmp_path).arrays["x"], np.ones(2))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"settings": None}, "takes a config.json; give the model's settings"),
        ({"labels": ("one", "two", "three")}, "3 labels for 2 classes"),
    ],
)
def test_folders_that_cannot_be_written(tmp_path, fields, complaint):
    with pytest.raises(FileError, match=complaint):
        huggingface.write(tmp_path / "model", tiny_foreign(**fields))
    assert not (tmp_path / "model").exists()


def test_counts_that_do_not_fit_are_refused():
    from interop.formats.huggingface.layers import COUNT, POINTWISE

    (count,) = COUNT.load([np.asarray(7, np.int64)])
    assert count.dtype == np.int32 and COUNT.save([count])[0].dtype == np.int64
    with pytest.raises(ValueError, match="no count that fits into int32"):
        COUNT.load([np.asarray(2**40)])
    with pytest.raises(ValueError, match=r"instead of \[out, in, 1, 1\]"):
        POINTWISE.load([np.zeros((4, 3, 1, 2))])


def test_shapes_that_no_setting_gives_are_refused_even_approximately():
    config = models.imagenet_fourier(num_frequency_bands=32)
    with pytest.raises(UserError, match="has no model with these parameters"):
        nearest(huggingface, config)
