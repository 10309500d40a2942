"""Settings and files of krasserm's models of texts; those of images are in test_conversion."""

import collections
import dataclasses
import enum
import json
import sys
import types

import numpy as np
import pytest

from interop import export_weights, import_weights
from interop.check import check, first_difference
from interop.files import FileError, torch_files
from interop.foreign import Foreign
from interop.formats import krasserm
from interop.formats.krasserm import (
    image_classifier,
    kinds,
    masked_language_model,
    text_classifier,
)
from interop.references import ReferenceMissing
from interop.references import krasserm as reference
from perceiver_jax import models
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import ClassificationDecoderConfig
from tests.interop.conftest import classifier, language_model
from tests.interop.conftest import text_classifier as classifier_of_texts

BETWEEN = TextPreprocessing(tokenizer="bytes", add_special_tokens=True)
ALONE = TextPreprocessing(tokenizer="bytes", add_special_tokens=False)
LATENTS = {"num_latents": 4, "num_latent_channels": 8}
# As `asdict` writes the dataclasses of the model that was fine-tuned on IMDb.
ENCODER = {
    "num_cross_attention_heads": 8,
    "num_cross_attention_qk_channels": 256,
    "num_cross_attention_v_channels": 1280,
    "num_cross_attention_layers": 1,
    "first_cross_attention_layer_shared": False,
    "cross_attention_widening_factor": 1,
    "num_self_attention_heads": 8,
    "num_self_attention_qk_channels": 256,
    "num_self_attention_v_channels": 1280,
    "num_self_attention_layers_per_block": 26,
    "num_self_attention_blocks": 1,
    "first_self_attention_block_shared": True,
    "self_attention_widening_factor": 1,
    "dropout": 0.1,
    "init_scale": 0.02,
    "freeze": False,
    "vocab_size": 262,
    "max_seq_len": 2048,
    "num_input_channels": 768,
    "params": None,
}
LANGUAGE = {
    "num_cross_attention_heads": 8,
    "num_cross_attention_qk_channels": 256,
    "num_cross_attention_v_channels": 768,
    "cross_attention_widening_factor": 1,
    "cross_attention_residual": False,
    "dropout": 0.1,
    "init_scale": 0.02,
    "freeze": False,
    "num_output_query_channels": None,
    "vocab_size": 262,
    "max_seq_len": 2048,
}
CLASSES = {
    "num_cross_attention_heads": 1,
    "num_cross_attention_qk_channels": None,
    "num_cross_attention_v_channels": None,
    "cross_attention_widening_factor": 1,
    "cross_attention_residual": True,
    "dropout": 0.1,
    "init_scale": 0.02,
    "freeze": False,
    "num_output_queries": 1,
    "num_output_query_channels": 768,
    "num_classes": 2,
}
WHOLE = {
    "num_latents": 256,
    "num_latent_channels": 1280,
    "activation_checkpointing": True,
    "activation_offloading": False,
}


def test_the_published_language_model():
    config = krasserm.config({"encoder": ENCODER, "decoder": LANGUAGE, **WHOLE})
    common = {
        "activation": "gelu",
        "init_method": "normal",
        "init_scale": 0.02,
        "dropout": 0.1,
        "masked_rows": "uniform",
    }
    published = models.language_perceiver(remat=True, **common)
    decoder = dataclasses.replace(published.decoder, mask_queries=False, **common)
    assert config == dataclasses.replace(published, decoder=decoder)


def test_the_published_classifier():
    settings = {"encoder": ENCODER | {"freeze": True, "params": "x.ckpt"}, **WHOLE}
    config = krasserm.config({**settings, "decoder": CLASSES})
    language = krasserm.config({**settings, "decoder": LANGUAGE})
    assert config.encoder == language.encoder
    assert config.decoder == ClassificationDecoderConfig(
        num_classes=2,
        num_output_query_channels=768,
        num_cross_attention_heads=1,
        init_scale=0.02,
        dropout=0.1,
        masked_rows="uniform",
    )


@pytest.mark.parametrize("queries", [1, 3])
def test_a_text_classifier_has_as_many_queries_as_are_set(queries):
    settings = {"encoder": ENCODER, "decoder": CLASSES | {"num_output_queries": queries}, **WHOLE}
    assert krasserm.config(settings).decoder.num_output_queries == queries


@pytest.mark.reference
@pytest.mark.parametrize(
    ("family", "package", "decoder"),
    [
        (image_classifier, reference.IMAGE_CLASSIFIER, "ClassificationDecoderConfig"),
        (masked_language_model, reference.MASKED_LANGUAGE_MODEL, "TextDecoderConfig"),
        (text_classifier, reference.TEXT_CLASSIFIER, "ClassificationDecoderConfig"),
    ],
)
def test_what_is_left_out_has_the_references_defaults(family, package, decoder):
    is_image = family is image_classifier
    needed = {"image_shape": (8, 8, 1), "num_frequency_bands": 4} if is_image else {}
    encoder = backend(package, "ImageEncoderConfig" if is_image else "TextEncoderConfig")(**needed)
    whole = {
        "encoder": dataclasses.asdict(encoder),
        "decoder": dataclasses.asdict(backend(package, decoder)()),
        **LATENTS,
    }
    assert kinds.of_settings(whole) is family
    short = family.config({"encoder": needed, "decoder": {}, **LATENTS})
    assert family.settings(short) == family.settings(family.config(whole))
    assert set(family.ENCODER_FIELDS) == whole["encoder"].keys() - {"freeze", "params"}
    assert set(family.DECODER_FIELDS) == whole["decoder"].keys() - {"freeze"}


def backend(package, name):
    """A class of the reference; skips the test where it is not installed."""
    try:
        return getattr(reference.backend(package), name)
    except ReferenceMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"encoder": ENCODER | {"num_rotary_layers": 1}}, "encoder has no field 'num_rotary_layer"),
        ({"encoder": ENCODER | {"activation": "gelu"}}, "encoder has no field 'activation'"),
        ({"decoder": LANGUAGE | {"mask_queries": True}}, "decoder has no field 'mask_queries'"),
        ({"decoder": LANGUAGE | {"num_classes": 2}}, "decoder has no field 'num_classes'"),
        ({"decoder": 5}, "the decoder of a masked language model is no group of fields"),
        ({"max_latents": 3}, r"\['max_latents'\] are not those of a masked language model"),
        ({"encoder": ENCODER | {"vocab_size": "many"}}, "vocab_size='many' is not valid"),
    ],
)
def test_settings_that_are_not_known_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        krasserm.config({"encoder": ENCODER, "decoder": LANGUAGE, **WHOLE, **change})


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (language_model(), "MaskedLanguageModel cannot .*encoder.activation='gelu_tanh'"),
        (language_model("gelu", {"output_queries": "inputs"}), "decoder.output_queries='inputs'"),
        (language_model("gelu", {"cross_attention_mlp": False}), "cross_attention_mlp=False"),
        (language_model("gelu", cross_attention_residual=False), "cross_attention_residual=False"),
        (language_model("gelu", inverted_cross_attention=(0,)), "inverted_cross_attention=.0,."),
        (
            language_model("gelu", num_self_attention_blocks=3, repeated_layers_shared=False),
            "repeated_layers_shared=False",
        ),
        (
            classifier_of_texts(decoder={"output_queries": "zeros"}),
            "TextClassifier cannot .*decoder.output_queries='zeros'",
        ),
        (classifier_of_texts(layer_norm_epsilon=1e-6), "encoder.layer_norm_epsilon=1e-06"),
    ],
)
def test_models_of_texts_that_cannot_be_expressed(config, complaint):
    with pytest.raises(ValueError, match=complaint):
        krasserm.rows(config)


class Task(enum.Enum):
    """Stands for the enumeration in the settings of their data modules."""

    mlm = 0


@pytest.fixture
def task(monkeypatch):
    """A member of the class of the real name, which pickles as the real one does."""
    module = types.ModuleType("perceiver.data.text.common")
    module.Task = Task
    for name in ("perceiver", "perceiver.data", "perceiver.data.text"):
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Task, "__module__", module.__name__)
    return Task.mlm


@pytest.fixture
def checkpoint(released, tmp_path):
    """A function that writes a Lightning checkpoint of the language model with real classes."""
    import torch

    def write(**of_data):
        config = language_model("gelu")
        settings = krasserm.settings(config)
        package = reference.MASKED_LANGUAGE_MODEL
        export_weights(released(config), "krasserm", tmp_path / "x.ckpt")
        content = torch.load(tmp_path / "x.ckpt", weights_only=True)
        content["hyper_parameters"] = {
            "encoder": backend(package, "TextEncoderConfig")(**settings["encoder"], freeze=True),
            "decoder": backend(package, "TextDecoderConfig")(**settings["decoder"]),
            "num_latents": config.num_latents,
            "num_latent_channels": config.num_latent_channels,
            "activation_checkpointing": False,
            "activation_offloading": False,
            "params": None,
            "masked_samples": ["I watched this [MASK] and it was awesome."],
            "num_predictions": 5,
        }
        content["datamodule_hyper_parameters"] = of_data
        if not of_data:
            del content["datamodule_hyper_parameters"]
        torch.save(content, tmp_path / "real.ckpt")
        return config, tmp_path / "real.ckpt"

    return write


@pytest.mark.reference
def test_a_checkpoint_with_real_classes(checkpoint, released, task):
    config, path = checkpoint(
        tokenizer="deepmind/language-perceiver", add_special_tokens=True, task=task, num_workers=3
    )
    # Python 3.11.0 to 3.11.3 pickle a member by its name.
    assert torch_files.read(path).rest["datamodule_hyper_parameters"]["task"] in (0, "mlm")
    found = import_weights("krasserm", path)
    assert krasserm.settings(found.config) == krasserm.settings(config)
    assert found.card.text == BETWEEN
    start = released(config)
    for name, array in start.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


class Attribute:
    """Pickles as an attribute of something, which is how some Pythons pickle members."""

    def __init__(self, of, name):
        self.of, self.name = of, name

    def __reduce__(self):
        return getattr, (self.of, self.name)


@pytest.mark.reference
def test_a_member_by_its_name_is_read_and_no_other_attribute(checkpoint, task):
    _, path = checkpoint(task=Attribute(type(task), "mlm"))
    assert torch_files.read(path).rest["datamodule_hyper_parameters"]["task"] == "mlm"
    _, path = checkpoint(task=Attribute(collections.OrderedDict, "fromkeys"))
    with pytest.raises(UserError, match="an attribute of something that is no enumeration"):
        torch_files.read(path)


@pytest.mark.reference
def test_classes_where_they_were_until_0_8(checkpoint, monkeypatch):
    for module, name in (
        ("perceiver.model.text.common", "TextEncoderConfig"),
        ("perceiver.model.text.mlm", "TextDecoderConfig"),
    ):
        cls = backend(reference.MASKED_LANGUAGE_MODEL, name)
        older = types.ModuleType(module)
        setattr(older, name, cls)
        monkeypatch.setitem(sys.modules, module, older)
        monkeypatch.setattr(cls, "__module__", module)
    config, path = checkpoint()
    hyperparameters = torch_files.read(path).rest["hyper_parameters"]
    assert hyperparameters["encoder"][torch_files.CLASS].endswith("common.TextEncoderConfig")
    assert krasserm.settings(import_weights("krasserm", path).config) == krasserm.settings(config)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("of_data", "text"),
    [
        ({}, BETWEEN),
        ({"tokenizer": "krasserm/perceiver-io-mlm", "add_special_tokens": False}, ALONE),
        ({"tokenizer": "bert-base-uncased", "add_special_tokens": True}, None),
    ],
)
def test_the_data_module_tells_how_texts_become_ids(checkpoint, of_data, text):
    _, path = checkpoint(**of_data)
    assert import_weights("krasserm", path).card.text == text


@pytest.mark.parametrize("text", [BETWEEN, ALONE])
def test_a_lightning_checkpoint_keeps_how_texts_become_ids(text, released, tmp_path):
    start = released(language_model("gelu"))
    start = dataclasses.replace(start, card=dataclasses.replace(start.card, text=text))
    export_weights(start, "krasserm", tmp_path / "x.ckpt")
    assert import_weights("krasserm", tmp_path / "x.ckpt").card.text == text


@pytest.mark.parametrize("place", ["x.pt", "x.safetensors", "x.ckpt", "folder"])
def test_other_vocabularies_tell_nothing_of_texts(place, released, tmp_path):
    config = language_model("gelu", {"vocab_size": 300}, vocab_size=300)
    start = released(config)
    start = dataclasses.replace(start, card=dataclasses.replace(start.card, text=None))
    export_weights(start, "krasserm", tmp_path / place)
    assert krasserm.read(tmp_path / place).text is None


def folder_of(tmp_path, config, **changes):
    """A folder of the Hugging Face interface, of which the weights do not matter."""
    foreign = Foreign(arrays={"a": np.zeros(1, np.float32)}, settings=krasserm.settings(config))
    krasserm.write(tmp_path / "x", foreign)
    path = tmp_path / "x" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return tmp_path / "x"


@pytest.mark.parametrize(
    ("config", "kind", "architecture"),
    [
        (
            classifier("gelu", max_resolution=None),
            "perceiver-io-image-classifier",
            "PerceiverImageClassifier",
        ),
        (
            language_model("gelu"),
            "perceiver-io-masked-language-model",
            "PerceiverMaskedLanguageModel",
        ),
        (classifier_of_texts(), "perceiver-io-text-classifier", "PerceiverTextClassifier"),
    ],
)
def test_folders_name_their_class(config, kind, architecture, tmp_path):
    folder = folder_of(tmp_path, config)
    settings = json.loads((folder / "config.json").read_text())
    assert (settings["model_type"], settings["architectures"]) == (kind, [architecture])
    assert krasserm.read(folder).settings == krasserm.settings(config)


def test_folders_of_other_kinds_are_refused(tmp_path):
    folder = folder_of(tmp_path, language_model("gelu"), model_type="perceiver-ar-x")
    with pytest.raises(FileError, match="model_type 'perceiver-ar-x', which is not supported; of"):
        krasserm.read(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(FileError, match="has no model_config"):
        krasserm.read(folder)


@pytest.mark.reference
def test_check_takes_untied_models_and_those_that_keep_no_intermediates(released, tmp_path):
    backend(reference.TEXT, "TextEncoder")
    config = language_model("gelu", {"num_output_query_channels": 6}, remat=True)
    export_weights(released(config), "krasserm", tmp_path / "x")
    stages = check("krasserm", str(tmp_path / "x"))
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12
