"""Settings and files of lucidrains' `PerceiverLM`."""

import dataclasses
import json
import re

import numpy as np
import pytest

from interop import convert, export_weights, import_weights, load, save
from interop.check import check, first_difference
from interop.files import FileError, safetensors_files, torch_files
from interop.formats import lucidrains
from interop.formats.lucidrains import files
from interop.formats.lucidrains.arguments import UNKNOWN
from interop.formats.lucidrains.halves import LAYERS
from interop.formats.lucidrains.shapes import from_shapes
from perceiver_jax import models
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, TextDecoderConfig, TextEncoderConfig

LANGUAGE = {
    "class": "PerceiverLM",
    "dim": 6,
    "num_tokens": 262,
    "max_seq_len": 9,
    "depth": 2,
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
TIED = {"weight_tie_layers": True}
SETTINGS = [
    LANGUAGE,
    LANGUAGE | TIED | {"seq_dropout_prob": 0.3},
    LANGUAGE | {"decoder_ff": True, "inverted_cross_attn": True, "depth": 12},
]
LEGACY = (
    ("perceiver_io.cross_attend_block.cross_attn.", "perceiver_io.cross_attend_blocks.0."),
    ("perceiver_io.cross_attend_block.cross_ff.", "perceiver_io.cross_attend_blocks.1."),
    (".self_attns.0.", "."),
)


def foreign_arrays(settings):
    """A state dict of which every tensor has values of its own, tied ones excepted."""
    config = lucidrains.config(settings)
    rng = np.random.default_rng(0)
    ours = {
        path: rng.normal(size=shape.shape).astype(np.float32)
        for path, shape in models.skeleton(config).params.items()
    }
    return save(lucidrains.rows(config), ours)


def legacy(arrays):
    """The state dict as perceiver-pytorch 0.10 named it."""
    result = {}
    for name, array in arrays.items():
        for since, before in LEGACY:
            name = name.replace(since, before)
        result[name] = array
    return result


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_survive_translation(settings):
    config = lucidrains.config(settings)
    again = lucidrains.settings(config)
    assert json.loads(json.dumps(again)) == again
    assert {name: again[name] for name in settings} == settings
    assert lucidrains.config(again) == config


def test_what_is_left_out_has_lucidrains_defaults():
    vocabulary = {"vocab_size": 300, "max_seq_len": 16}
    layers = {"num_cross_attention_heads": 1, "num_cross_attention_qk_channels": 64, **LAYERS}
    config = lucidrains.config({"dim": 6, "num_tokens": 300, "max_seq_len": 16, "depth": 2})
    assert config == PerceiverConfig(
        encoder=TextEncoderConfig(
            num_input_channels=6,
            num_self_attention_heads=8,
            num_self_attention_qk_channels=512,
            num_self_attention_layers_per_block=2,
            self_attention_widening_factor=4,
            **vocabulary,
            **layers,
        ),
        decoder=TextDecoderConfig(
            num_output_query_channels=6,
            output_queries="inputs",
            mask_queries=False,
            cross_attention_residual=False,
            cross_attention_mlp=False,
            **vocabulary,
            **layers,
        ),
        num_latents=512,
        num_latent_channels=512,
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"queries_dim": 6}, "lucidrains' PerceiverLM has no field 'queries_dim'"),
        ({"logits_dim": 6}, "has no field 'logits_dim'"),
        ({"num_tokens": 0}, "vocab_size=0 must be 1 or more"),
        ({"max_seq_len": "9"}, "max_seq_len='9' is not valid; it takes int"),
        ({"attn_residual": True}, "attn_residual=True .* is not supported"),
    ],
)
def test_arguments_that_cannot_be_taken(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        lucidrains.config(LANGUAGE | change)


def language(encoder=None, **decoder):
    config = lucidrains.config(LANGUAGE)
    return dataclasses.replace(
        config,
        encoder=dataclasses.replace(config.encoder, **(encoder or {})),
        decoder=dataclasses.replace(config.decoder, **decoder),
    )


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (language(output_queries="trainable"), "decoder.output_queries='trainable' instead of 'in"),
        (language(num_output_query_channels=None), "num_output_query_channels=None instead of 6"),
        (language(max_seq_len=12), "decoder.max_seq_len=12 instead of 9"),
        (language(cross_attention_residual=True), "decoder.cross_attention_residual=True"),
        (language(num_cross_attention_heads=1), "decoder.num_cross_attention_heads=1"),
        (language(qkv_bias=True), "decoder.qkv_bias=True"),
        (language({"activation": "gelu"}), "encoder.activation='gelu'"),
        (language({"num_self_attention_blocks": 2}), "encoder.schedule="),
        (
            language({"num_cross_attention_layers": 2, "num_self_attention_blocks": 2}),
            "encoder.num_cross_attention_layers=2 instead of 1",
        ),
    ],
)
def test_models_that_cannot_be_expressed(config, complaint):
    for translate in (lucidrains.rows, lucidrains.settings):
        with pytest.raises(ValueError, match="cannot express this model") as error:
            translate(config)
        assert re.search(complaint, str(error.value))


def test_a_tied_output_layer_has_no_approximation(released, tmp_path):
    tied = language(num_output_query_channels=None)
    with pytest.raises(UserError, match="has no model with these parameters"):
        export_weights(released(tied), "lucidrains", tmp_path / "x.pt", approximate=True)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("wrapper", ["", "module.", "net.language."])
@pytest.mark.parametrize("older", [False, True])
def test_names_are_recognised(tmp_path, settings, wrapper, older):
    arrays = foreign_arrays(settings)
    named = legacy(arrays) if older else arrays
    assert not older or named.keys().isdisjoint(name for name in arrays if "layers" in name)
    torch_files.write(tmp_path / "a.pt", {wrapper + name: x for name, x in named.items()})
    found = lucidrains.read(tmp_path / "a.pt")
    assert found.arrays.keys() == arrays.keys()
    for name in arrays:
        np.testing.assert_array_equal(found.arrays[name], arrays[name], err_msg=name)


def test_a_mixture_of_names_is_refused():
    arrays = foreign_arrays(LANGUAGE)
    with pytest.raises(FileError, match="mix names from before 0.11 with those since"):
        files.renamed(arrays | legacy(arrays))


@pytest.mark.parametrize(
    ("lost", "added"),
    [("token_emb.weight", {}), ("", {"model.head.weight": np.zeros(2, np.float32)})],
)
def test_what_is_more_or_less_than_a_language_model_is_not_read_as_one(tmp_path, lost, added):
    arrays = foreign_arrays(LANGUAGE)
    arrays.pop(lost, None)
    named = {f"model.{name}": x for name, x in arrays.items()} | added
    safetensors_files.write(tmp_path / "a.safetensors", named)
    (tmp_path / "a.json").write_text(json.dumps(LANGUAGE))
    with pytest.raises(UserError):
        import_weights("lucidrains", tmp_path / "a.safetensors")


def test_residuals_over_layers_are_refused_under_both_names(tmp_path):
    for name in ("attn_residuals.0.to_attn_logits.1.weight", "layers.0.2.to_attn_logits.1.weight"):
        arrays = legacy(foreign_arrays(LANGUAGE)) if "layers" in name else foreign_arrays(LANGUAGE)
        arrays[f"perceiver_io.{name}"] = np.zeros((2, 2), np.float32)
        torch_files.write(tmp_path / "a.pt", arrays)
        with pytest.raises(FileError, match="a model with attn_residual, which is not supported"):
            lucidrains.read(tmp_path / "a.pt")


@pytest.mark.parametrize("settings", [LANGUAGE, LANGUAGE | TIED | {"decoder_ff": True}])
def test_shapes_tell_what_they_can_and_the_rest_is_asked_for(settings):
    arrays = foreign_arrays(settings)
    told = from_shapes(arrays)
    full = lucidrains.settings(lucidrains.config(settings))
    unknown = {name for name, value in told.items() if str(value).startswith(UNKNOWN)}
    assert {name: full[name] for name in told.keys() - unknown} == {
        name: value for name, value in told.items() if name not in unknown
    }
    heads = {"cross_heads", "cross_dim_head", "latent_heads", "latent_dim_head"}
    assert unknown == heads | {"inverted_cross_attn"}
    with pytest.raises(ConfigError, match="lucidrains' PerceiverLM"):
        lucidrains.config(told)
    # With these, the config is whole.
    config = lucidrains.config({**told, **{name: full[name] for name in unknown}})
    load(lucidrains.rows(config), arrays, models.skeleton(config).params)


@pytest.mark.parametrize("missing", ["pos_emb.weight", "perceiver_io.latents"])
def test_damaged_state_dicts_are_refused(missing):
    arrays = foreign_arrays(LANGUAGE)
    del arrays[missing]
    with pytest.raises(FileError, match="a tensor of lucidrains' PerceiverLM is missing"):
        from_shapes(arrays)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_chain_of_formats_ends_where_it_began(settings, released, outputs, tmp_path):
    start = released(lucidrains.config(settings))
    export_weights(start, "ours", tmp_path / "ours")
    here = ("ours", tmp_path / "ours")
    for place in ("x.pt", "y.safetensors", "z"):
        there = ("ours" if place == "z" else "lucidrains", tmp_path / place)
        assert not convert(*here, *there).changes
        here = there
    end = import_weights(*here)
    assert end.config == start.config
    for path, array in start.arrays.items():
        np.testing.assert_array_equal(end.arrays[path], array, err_msg=path)
    ids = np.arange(10, dtype=np.int32).reshape(2, 5)
    np.testing.assert_array_equal(outputs(end, ids), outputs(start, ids))


@pytest.mark.parametrize(("num_tokens", "known"), [(262, True), (300, False)])
def test_a_vocabulary_of_bytes_is_read_as_bytes(num_tokens, known, tmp_path):
    torch_files.write(tmp_path / "a.pt", foreign_arrays(LANGUAGE | {"num_tokens": num_tokens}))
    text = TextPreprocessing(tokenizer="bytes", add_special_tokens=False)
    assert lucidrains.read(tmp_path / "a.pt").text == (text if known else None)


def test_queries_of_padding_are_remarked(released, tmp_path):
    said = export_weights(
        released(language(mask_queries=True)), "lucidrains", tmp_path / "x.pt"
    ).remarks
    assert any(remark.startswith("decoder.mask_queries: True → False") for remark in said)


@pytest.mark.reference
def test_check_agrees_and_finds_what_is_perturbed(released, tmp_path):
    pytest.importorskip("perceiver_pytorch")
    start = released(lucidrains.config(LANGUAGE | {"decoder_ff": True}))
    export_weights(start, "lucidrains", tmp_path / "x.pt")
    stages = check("lucidrains", str(tmp_path / "x.pt"))
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12
    perturbed = check(
        "lucidrains", str(tmp_path / "x.pt"), perturb="encoder/block/0/layer/1/mlp/hidden/kernel"
    )
    assert first_difference(perturbed).name == "encoder/step/0/block/layer/1/mlp"
