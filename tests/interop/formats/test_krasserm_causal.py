"""Settings and files of krasserm's Perceiver AR, of texts and of music."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from interop import export_weights, import_weights
from interop.__main__ import main
from interop.files import safetensors_files, torch_files
from interop.formats import hub_folder, krasserm
from interop.formats.krasserm import causal_sequence_model, kinds
from interop.references import ReferenceMissing
from interop.references import krasserm as reference
from interop.references.torch_stages import load_arrays
from perceiver_jax import models
from perceiver_jax.card import ModelCard, TextPreprocessing
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig
from tests.interop.conftest import MUSIC, causal_model, language_model

ALONE = TextPreprocessing(tokenizer="bytes", add_special_tokens=False)
# As `asdict` writes the dataclass of the model that was trained on C4.
SUBWORDS: dict[str, Any] = {
    "num_heads": 10,
    "max_heads_parallel": 2,
    "num_self_attention_layers": 20,
    "num_self_attention_rotary_layers": 1,
    "self_attention_widening_factor": 4,
    "cross_attention_widening_factor": 4,
    "cross_attention_dropout": 0.0,
    "post_attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "activation_checkpointing": False,
    "activation_offloading": False,
    "vocab_size": 32000,
    "max_seq_len": 1024,
    "max_latents": 512,
    "num_channels": 1280,
    "output_norm": True,
    "output_bias": False,
    "abs_pos_emb": False,
    "init_scale": 0.02,
}
NOTE = "their self-attention does not mask padding"


def backend(package):
    """A module of the reference; skips the test where it is not installed."""
    try:
        return reference.backend(package)
    except ReferenceMissing as error:
        pytest.skip(str(error))


def test_the_published_model():
    assert krasserm.config(SUBWORDS) == models.causal_subwords(
        masked_rows="uniform", init_scale=0.02
    )


def test_settings_of_the_published_model_are_those_of_the_reference():
    of_memory = {name: SUBWORDS[name] for name in causal_sequence_model.OF_MEMORY}
    assert krasserm.settings(models.causal_subwords()) | of_memory == SUBWORDS


def test_dropout_and_recomputation_have_other_names_there():
    config = models.symbolic_audio_maestro()
    settings = krasserm.settings(config)
    assert settings["post_attention_dropout"] == settings["residual_dropout"] == 0.1
    assert settings["activation_checkpointing"] is True
    again: Any = krasserm.config(settings | {"post_attention_dropout": 0.3})
    assert (again.dropout, again.residual_dropout, again.remat) == (0.3, 0.1, "full")


@pytest.mark.reference
@pytest.mark.parametrize(
    ("package", "name"),
    [
        (reference.CAUSAL_LANGUAGE_MODEL, "CausalLanguageModelConfig"),
        (reference.SYMBOLIC_AUDIO, "SymbolicAudioModelConfig"),
    ],
)
def test_what_is_left_out_has_the_references_defaults(package, name):
    whole = dataclasses.asdict(getattr(backend(package), name)())
    assert causal_sequence_model.FIELDS == whole.keys() == SUBWORDS.keys()
    assert kinds.of_settings(whole) is causal_sequence_model
    short = krasserm.config({"num_heads": 8})
    assert krasserm.settings(short) == krasserm.settings(krasserm.config(whole))
    assert krasserm.config(whole) == models.causal_bytes(masked_rows="uniform", init_scale=0.02)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_layers": 3}, "config has no field 'num_layers'"),
        ({"masked_rows": "zero"}, "config has no field 'masked_rows'"),
        ({"max_latents": 2048}, "max_latents=2048 is not between 1 and max_seq_len=1,?024"),
        ({"num_heads": 256, "num_channels": 1280}, "5 of the [15]0? channels of a head"),
        (
            {"num_heads": 128, "num_channels": 1280, "abs_pos_emb": True},
            "5 of the [15]0? channels of a head",
        ),
        ({"vocab_size": "many"}, "vocab_size='many' is not valid"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        krasserm.config(SUBWORDS | change)


def test_settings_with_halves_are_of_other_families():
    settings = krasserm.settings(language_model("gelu"))
    assert kinds.of_settings(settings) is not causal_sequence_model
    with pytest.raises(ConfigError, match="'max_latents'. are not those of a masked language"):
        krasserm.config(settings | {"max_latents": 3})


@pytest.mark.reference
@pytest.mark.parametrize(
    ("fields", "package", "name"),
    [
        ({}, reference.CAUSAL_LANGUAGE_MODEL, "CausalLanguageModel"),
        (MUSIC, reference.SYMBOLIC_AUDIO, "SymbolicAudioModel"),
    ],
)
@pytest.mark.parametrize("place", ["x.ckpt", "folder"])
def test_the_classes_take_what_is_written(fields, package, name, place, released, tmp_path):
    """As their wrappers load it: hyper-parameters by name, weights strictly below a prefix."""
    start = released(causal_model(**fields))
    export_weights(start, "krasserm", tmp_path / place)
    if place == "folder":
        config = json.loads((tmp_path / place / "config.json").read_text())
        settings, prefix = config["model_config"], "backend_model."
        arrays = safetensors_files.read(tmp_path / place / "model.safetensors")
        assert config["architectures"] == [f"Perceiver{name}"] and config["is_decoder"] is True
    else:
        file = torch_files.read(tmp_path / place)
        settings, prefix, arrays = file.rest["hyper_parameters"], "model.", file.tensors
    module = backend(package)
    model = getattr(module, name)(getattr(module, f"{name}Config").create(**settings))
    assert all(array.startswith(prefix) for array in arrays)
    load_arrays(model, {array.removeprefix(prefix): arrays[array] for array in arrays})
    np.testing.assert_array_equal(
        model.input_adapter.txt_embedding.weight.numpy(force=True),
        start.arrays["input_adapter/token_embedding"],
    )


@pytest.mark.parametrize(
    ("config", "text", "kind"),
    [
        (causal_model(), ALONE, "perceiver-ar-causal-language-model"),
        (causal_model(**MUSIC), None, "perceiver-ar-symbolic-audio-model"),
        # Texts of as many tokens as music has events.
        (causal_model(vocab_size=389), ALONE, "perceiver-ar-causal-language-model"),
        (causal_model(vocab_size=300), None, "perceiver-ar-causal-language-model"),
    ],
)
def test_folders_name_their_class(config, text, kind, released, tmp_path):
    start = dataclasses.replace(released(config), card=ModelCard(text=text))
    export_weights(start, "krasserm", tmp_path / "x")
    assert json.loads((tmp_path / "x" / "config.json").read_text())["model_type"] == kind
    found = import_weights("krasserm", tmp_path / "x")
    assert found.card.text == text
    assert found.config == dataclasses.replace(config, masked_rows="uniform", init_scale=0.02)


def test_texts_are_padded_on_the_left_there(released, tmp_path):
    export_weights(released(causal_model()), "krasserm", tmp_path / "x")
    settings = json.loads((tmp_path / "x" / "tokenizer_config.json").read_text())
    assert settings["padding_side"] == "left" and settings["model_max_length"] == 12
    export_weights(released(language_model("gelu")), "krasserm", tmp_path / "y")
    assert "padding_side" not in (tmp_path / "y" / "tokenizer_config.json").read_text()


@pytest.mark.parametrize("config", [causal_model(), causal_model(**MUSIC)])
@pytest.mark.parametrize("place", ["x.ckpt", "x.pt", "x.safetensors", "folder"])
def test_texts_stand_alone_and_music_has_no_text(config, place, released, tmp_path):
    start = released(config)
    export_weights(start, "krasserm", tmp_path / place)
    found = import_weights("krasserm", tmp_path / place)
    assert found.card.text == start.card.text == (None if config.vocab_size == 389 else ALONE)
    for name, array in start.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


@pytest.mark.parametrize("settings", [{}, {"with_special_tokens": True}])
def test_tokenizers_of_folders_stand_alone_unless_they_say_otherwise(settings, released, tmp_path):
    export_weights(released(causal_model()), "krasserm", tmp_path / "x")
    tree = {"tokenizer_class": "PerceiverTokenizer", **settings}
    (tmp_path / "x" / hub_folder.hub_tokenizer.SETTINGS).write_text(json.dumps(tree))
    text = import_weights("krasserm", tmp_path / "x").card.text
    assert text is not None and text.add_special_tokens is bool(settings)


@pytest.mark.parametrize("of_data", [None, {"tokenizer": "xlnet-base-cased"}])
def test_a_checkpoint_as_lightning_writes_it(of_data, released, tmp_path):
    """Hyper-parameters are flat, and among them is how the model was trained and shown."""
    import torch

    start = released(causal_model())
    export_weights(start, "krasserm", tmp_path / "x.ckpt")
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    content["hyper_parameters"] |= {
        "max_heads_parallel": 2,
        "activation_offloading": True,
        "validation_sample_prompt": "A man was reading",
        "validation_sample_record": -1,
        "params": None,
        "max_grad_norm": 1.0,
    }
    content["datamodule_hyper_parameters"] = of_data
    torch.save(content, tmp_path / "y.ckpt")
    found = import_weights("krasserm", tmp_path / "y.ckpt")
    assert krasserm.settings(found.config) == krasserm.settings(start.config)
    assert found.card.text == (ALONE if of_data is None else None)


def test_another_padding_than_ours_is_remarked(released, tmp_path):
    said = "\n".join(export_weights(released(causal_model()), "krasserm", tmp_path / "x").remarks)
    assert NOTE in said and "masked_rows: 'zero' → 'uniform'" in said
    of_halves = export_weights(released(language_model("gelu")), "krasserm", tmp_path / "y")
    assert not any(NOTE in remark for remark in of_halves.remarks)


def test_what_would_change_is_refused_and_written_on_request(released, tmp_path):
    start = released(causal_model(activation="gelu_tanh", mlp_residual_dropout=0.25))
    with pytest.raises(UserError, match="activation: 'gelu_tanh' → 'gelu'"):
        export_weights(start, "krasserm", tmp_path / "x")
    exported = export_weights(start, "krasserm", tmp_path / "x", approximate=True)
    assert exported.changes == ("activation: 'gelu_tanh' → 'gelu'",)
    assert exported.effect is not None and 0 < exported.effect.difference < exported.effect.scale
    assert any(
        remark.startswith("mlp_residual_dropout: 0.25 → None") for remark in exported.remarks
    )


def test_more_layers_than_the_file_can_hold_are_refused_at_once(released, tmp_path):
    export_weights(released(causal_model()), "krasserm", tmp_path / "x.pt")
    settings = tmp_path / "x.json"
    tree = json.loads(settings.read_text())
    settings.write_text(json.dumps(tree | {"num_self_attention_layers": 10**6}))
    with pytest.raises(UserError, match="tell of 1,000,000 layers, more than .*x.pt can hold"):
        import_weights("krasserm", tmp_path / "x.pt")


def test_tables_of_published_models(tmp_path, capsys):
    assert main(["table", "krasserm", "causal_bytes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("30,563,078 parameters")
    (buffer,) = (line for line in lines if line.startswith("- "))
    assert "input_adapter.frq_pos_encoding.inv_freq" in buffer
    export = tmp_path / "ours.json"
    tree = {"kind": CausalSequenceConfig.__name__, "num_channels": 64, "vocab_size": 300}
    export.write_text(json.dumps(tree))
    for place in (export, tmp_path / "theirs.json"):
        place.write_text(json.dumps(tree if place == export else {**SUBWORDS, "num_channels": 20}))
        assert main(["table", "krasserm", f"--config={place}"]) == 0
        assert "input_adapter.txt_embedding.weight" in capsys.readouterr().out
