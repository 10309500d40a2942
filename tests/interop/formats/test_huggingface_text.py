import dataclasses
import json

import numpy as np
import pytest

from interop.expressible import nearest
from interop.formats import huggingface
from perceiver_jax import models
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextDecoderConfig,
    TextEncoderConfig,
)
from tests.interop.conftest import language_model, text_classifier

MASKED, CLASSIFIER = "PerceiverForMaskedLM", "PerceiverForSequenceClassification"
# As the file on the hub is, shortened.
PUBLISHED = {
    "_name_or_path": "deepmind/language-perceiver",
    "architectures": [MASKED],
    "attention_probs_dropout_prob": 0.1,
    "d_latents": 1280,
    "d_model": 768,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 2048,
    "model_type": "perceiver",
    "num_blocks": 1,
    "num_latents": 256,
    "num_self_attends_per_block": 26,
    "qk_channels": 256,
    "tokenizer_class": "PerceiverTokenizer",
    "v_channels": 1280,
    "vocab_size": 262,
}
COMMON = {"dropout": 0.1, "init_scale": 0.02, "masked_rows": "uniform"}
ENCODER = TextEncoderConfig(
    vocab_size=262,
    max_seq_len=2048,
    num_input_channels=768,
    num_cross_attention_qk_channels=256,
    num_cross_attention_v_channels=1280,
    num_cross_attention_heads=8,
    num_self_attention_qk_channels=256,
    num_self_attention_v_channels=1280,
    num_self_attention_heads=8,
    num_self_attention_layers_per_block=26,
    **COMMON,
)


def test_the_published_config():
    decoder = TextDecoderConfig(
        vocab_size=262,
        max_seq_len=2048,
        num_cross_attention_qk_channels=256,
        num_cross_attention_v_channels=768,
        num_cross_attention_heads=8,
        cross_attention_residual=False,
        mask_queries=False,
        **COMMON,
    )
    assert huggingface.config(PUBLISHED) == PerceiverConfig(
        encoder=ENCODER, decoder=decoder, num_latents=256, num_latent_channels=1280
    )


def test_a_classifier_of_the_published_encoder():
    decoder = ClassificationDecoderConfig(
        num_classes=3, num_output_query_channels=1280, num_cross_attention_heads=1, **COMMON
    )
    config = huggingface.config({**PUBLISHED, "architectures": [CLASSIFIER], "num_labels": 3})
    assert config == PerceiverConfig(
        encoder=ENCODER, decoder=decoder, num_latents=256, num_latent_channels=1280
    )


def test_what_a_config_leaves_out_has_their_defaults():
    """Channels of queries and keys are those of a token there, of the latents here."""
    encoder = huggingface.config({"architectures": [MASKED]}).encoder
    assert isinstance(encoder, TextEncoderConfig)
    assert (encoder.vocab_size, encoder.max_seq_len, encoder.num_input_channels) == (
        262,
        2048,
        768,
    )
    assert encoder.num_cross_attention_qk_channels == 768
    by_queries = {"architectures": [MASKED], "cross_attention_shape_for_attention": "q"}
    assert huggingface.config(by_queries).encoder.num_cross_attention_qk_channels == 1280


@pytest.mark.parametrize("architecture", [MASKED, CLASSIFIER])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_act": "gelu_pytorch_tanh", "attention_probs_dropout_prob": 0.25},
        {"cross_attention_shape_for_attention": "q", "use_query_residual": False},
        {"qk_channels": None, "v_channels": None},
        {"qk_channels": 64, "initializer_range": 0.1, "vocab_size": 300},
        {"num_blocks": 3, "cross_attention_widening_factor": 2, "max_position_embeddings": 30},
    ],
)
def test_settings_of_a_config_make_the_same_model(architecture, changes):
    config = huggingface.config(PUBLISHED | {"architectures": [architecture]} | changes)
    settings = huggingface.settings(config)
    again = huggingface.config(settings)
    assert models.skeleton(again).params == models.skeleton(config).params
    assert (again.decoder, huggingface.settings(again)) == (config.decoder, settings)
    assert ("num_labels" in settings) == (architecture == CLASSIFIER)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["PerceiverModel"]}, "it takes one of .*, PerceiverForMaskedLM, "),
        ({"vocab_sizes": 3}, "did you mean 'vocab_size'"),
        ({"vocab_size": 0}, "vocab_size=0 must be 1 or more"),
        ({"max_position_embeddings": "all"}, "max_seq_len='all' is not valid"),
        ({"d_model": 0}, "num_input_channels=0"),
    ],
)
def test_configs_that_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        huggingface.config(PUBLISHED | change)


@pytest.mark.parametrize(
    ("make", "half", "fields", "complaint"),
    [
        (language_model, "encoder", {"activation": "squared_relu"}, "encoder.activation="),
        (language_model, "encoder", {"first_self_attention_block_shared": False}, "block_shared"),
        (language_model, "encoder", {"num_cross_attention_layers": 2}, "attention_layers=2"),
        (language_model, "encoder", {"num_cross_attention_qk_channels": 8}, "qk_channels="),
        (language_model, "decoder", {"num_cross_attention_heads": 4}, "heads=4 instead of 8"),
        (language_model, "decoder", {"num_cross_attention_qk_channels": 8}, "=8 instead of 256"),
        (language_model, "decoder", {"num_cross_attention_qk_channels": None}, "=8 instead of 256"),
        (language_model, "decoder", {"num_cross_attention_v_channels": 16}, "=16 instead of 8"),
        (language_model, "decoder", {"num_cross_attention_v_channels": None}, "=256 instead of 8"),
        (language_model, "decoder", {"cross_attention_residual": True}, "residual=True instead"),
        (language_model, "decoder", {"cross_attention_widening_factor": 2}, "widening_factor=2"),
        (language_model, "decoder", {"cross_attention_mlp": False}, "cross_attention_mlp=False"),
        (language_model, "decoder", {"num_output_query_channels": 8}, "query_channels=8 instead"),
        (language_model, "decoder", {"output_queries": "inputs"}, "output_queries='inputs'"),
        (language_model, "decoder", {"max_seq_len": 13}, "max_seq_len=13 instead of 12"),
        (text_classifier, "decoder", {"num_cross_attention_heads": 2}, "heads=2 instead of 1"),
        (text_classifier, "decoder", {"num_output_queries": 2}, "num_output_queries=2"),
        (text_classifier, "decoder", {"num_output_query_channels": 8}, "channels=8 instead of 16"),
        (text_classifier, "decoder", {"cross_attention_residual": False}, "residual=False inst"),
    ],
)
def test_models_that_cannot_be_expressed(make, half, fields, complaint):
    config = make()
    assert huggingface.rows(config)
    changed = dataclasses.replace(getattr(config, half), **fields)
    for use in (huggingface.rows, huggingface.settings):
        with pytest.raises(ValueError, match="cannot express this model") as refused:
            use(dataclasses.replace(config, **{half: changed}))
        assert complaint in str(refused.value)


def test_nothing_changes_in_deepminds_model():
    assert nearest(huggingface, models.language_perceiver()) == (models.language_perceiver(), ())


@pytest.fixture
def folder(tmp_path):
    """A function that writes a folder with a model of a class, without a tokenizer."""
    from interop.formats import hub_folder

    def make(architecture, **settings):
        contents = hub_folder.HubFolder(
            config={"architectures": [architecture], **settings},
            arrays={"x": np.zeros(2, np.float32)},
        )
        hub_folder.write(tmp_path, contents)
        return tmp_path

    return make


BYTES = TextPreprocessing(tokenizer="bytes", add_special_tokens=True)


@pytest.mark.parametrize("architecture", [MASKED, CLASSIFIER])
def test_bytes_are_assumed_where_the_vocabulary_is_theirs(folder, architecture):
    assert huggingface.read(folder(architecture)).text == BYTES
    assert huggingface.read(folder(architecture, vocab_size=263)).text is None
    assert huggingface.read(folder("PerceiverForImageClassificationFourier")).text is None


def test_what_the_folder_says_of_its_tokenizer_counts(folder):
    path = folder(MASKED, vocab_size=300)
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert huggingface.read(path).text is None
    settings = {"tokenizer_class": "PerceiverTokenizer"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert huggingface.read(path).text == BYTES
    (path / "tokenizer.json").write_bytes(b"{}")
    found = huggingface.read(path)
    assert found.text == TextPreprocessing(tokenizer="tokenizer.json", add_special_tokens=True)
    assert dict(found.files) == {"tokenizer.json": b"{}"}


def test_nothing_of_an_earlier_tokenizer_stays(folder):
    path = folder(MASKED)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (path / name).write_text("{}")
    folder(MASKED)
    assert {file.name for file in path.iterdir()} == {"config.json", "model.safetensors"}
