import dataclasses
import json
import re

import numpy as np
import pytest

from interop import load, save
from interop.files import FileError, safetensors_files, torch_files
from interop.foreign import Foreign
from interop.formats import lucidrains
from interop.formats.lucidrains import files
from interop.formats.lucidrains.arguments import UNKNOWN, parse
from interop.formats.lucidrains.halves import LAYERS
from interop.formats.lucidrains.shapes import from_shapes
from perceiver_jax import models
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)

COMMON = {
    "num_latents": 3,
    "latent_dim": 8,
    "cross_heads": 2,
    "cross_dim_head": 5,
    "latent_heads": 3,
    "latent_dim_head": 4,
}
PERCEIVER = {
    "class": "Perceiver",
    "num_freq_bands": 2,
    "depth": 3,
    "max_freq": 7.0,
    "input_channels": 2,
    "input_axis": 1,
    "num_classes": 6,
    "self_per_cross_attn": 2,
    **COMMON,
}
PERCEIVER_IO = {"class": "PerceiverIO", "depth": 3, "dim": 5, "queries_dim": 6, **COMMON}
TIED = {"weight_tie_layers": True}


def foreign_arrays(settings):
    """A state dict of which every tensor has values of its own, tied ones excepted."""
    config = lucidrains.config(settings)
    structure = models.skeleton(config)
    rng = np.random.default_rng(0)
    ours = {
        path: rng.normal(size=shape.shape).astype(np.float32)
        for path, shape in structure.params.items()
    }
    return save(lucidrains.rows(config), ours)


def legacy(arrays, name):
    """The state dict as perceiver-pytorch 0.10 named it."""
    rules = {
        "Perceiver": [
            (".cross_attn.", ".0."),
            (".cross_ff.", ".1."),
            (".self_attns.", ".2."),
        ],
        "PerceiverIO": [
            ("cross_attend_block.cross_attn.", "cross_attend_blocks.0."),
            ("cross_attend_block.cross_ff.", "cross_attend_blocks.1."),
            (".self_attns.0.", "."),
        ],
    }[name]
    result = {}
    for key, array in arrays.items():
        for since, before in rules:
            key = key.replace(since, before)
        result[key] = array
    return result


SETTINGS = [
    PERCEIVER,
    PERCEIVER | TIED,
    PERCEIVER | {"fourier_encode_data": False, "input_axis": 3},
    PERCEIVER | {"inverted_cross_attn": True, "attn_dropout": 0.1, "ff_dropout": 0.2},
    PERCEIVER | {"inverted_cross_attn": [True, False, True]},
    PERCEIVER_IO,
    PERCEIVER_IO | TIED | {"inverted_cross_attn": True, "seq_dropout_prob": 0.3},
    PERCEIVER_IO | {"decoder_ff": True, "logits_dim": 7},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_survive_translation(settings):
    config = lucidrains.config(settings)
    again = lucidrains.settings(config)
    assert json.loads(json.dumps(again)) == again
    # Where positions are left out, their settings are of no account.
    unused = {"num_freq_bands", "max_freq"} if not settings.get("fourier_encode_data", True) else ()
    assert {name: again[name] for name in settings if name not in unused} == {
        name: value for name, value in settings.items() if name not in unused
    }
    assert lucidrains.config(again) == config


def test_what_is_left_out_has_lucidrains_defaults():
    config = lucidrains.config({"num_freq_bands": 6, "depth": 2, "max_freq": 10})
    assert config == PerceiverConfig(
        encoder=ArrayEncoderConfig(
            num_input_channels=3,
            num_axes=2,
            num_frequency_bands=6,
            max_frequency=10.0,
            position_channel_order="lucidrains",
            activation="geglu",
            qkv_bias=False,
            masked_rows="uniform",
            init_method="uniform",
            mlp_residual_dropout=0.0,
            num_cross_attention_heads=1,
            num_cross_attention_qk_channels=64,
            num_cross_attention_layers=2,
            cross_attention_widening_factor=4,
            num_self_attention_heads=8,
            num_self_attention_qk_channels=512,
            num_self_attention_layers_per_block=1,
            num_self_attention_blocks=2,
            first_self_attention_block_shared=False,
            repeated_layers_shared=False,
            self_attention_widening_factor=4,
        ),
        decoder=MeanPoolDecoderConfig(num_classes=1000, norm=True, init_method="uniform"),
        num_latents=512,
        num_latent_channels=512,
    )


def test_the_class_follows_from_the_arguments():
    for settings in (PERCEIVER, PERCEIVER_IO):
        unnamed = {name: value for name, value in settings.items() if name != "class"}
        assert lucidrains.config(unnamed) == lucidrains.config(settings)
    with pytest.raises(ConfigError, match="do not tell lucidrains' class; give one under 'class'"):
        lucidrains.config({"depth": 3})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            PERCEIVER | {"num_freq_band": 3},
            "no field 'num_freq_band'; did you mean 'num_freq_bands'",
        ),
        (
            PERCEIVER | {"queries_dim": 3},
            "lucidrains' Perceiver has no field 'queries",
        ),
        (PERCEIVER | {"latent_dim": "8"}, "latent_dim='8' is not valid; it takes int"),
        ({"num_freq_bands": 6, "max_freq": 10.0}, "depth is missing"),
        (PERCEIVER | {"attn_residual": True}, "attn_residual=True .* is not supported"),
        (PERCEIVER_IO | {"attn_residual": True}, "attn_residual=True .* is not supported"),
        (PERCEIVER | {"final_classifier_head": False}, "take the latents with model.encode"),
        (PERCEIVER | {"num_freq_bands": 0}, r"num_freq_bands=0 .*bare coordinates"),
        (PERCEIVER | {"inverted_cross_attn": [True]}, "has 1 entries for depth=3"),
        (
            PERCEIVER | {"class": "gated.Perceiver"},
            "class 'gated.Perceiver' is not supported; Perceiver, PerceiverIO, PerceiverLM, Perc",
        ),
        (PERCEIVER | {"self_per_cross_attn": 0}, "layers_per_block=0 is too small"),
    ],
)
def test_arguments_that_cannot_be_taken(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        lucidrains.config(settings)


def perceiver(decoder=None, **fields):
    config = lucidrains.config(PERCEIVER)
    encoder = dataclasses.replace(config.encoder, **fields)
    return dataclasses.replace(config, encoder=encoder, decoder=decoder or config.decoder)


def perceiver_io(changes, **decoder_changes):
    config = lucidrains.config(PERCEIVER_IO)
    return dataclasses.replace(
        config,
        encoder=dataclasses.replace(config.encoder, **changes),
        decoder=dataclasses.replace(config.decoder, **decoder_changes),
    )


def images(**fields):
    options = {
        "image_shape": (4, 4, 2),
        "num_cross_attention_heads": 1,
        "self_attention_widening_factor": 4,
        "position_channel_order": "lucidrains",
        **LAYERS,
    }
    return PerceiverConfig(
        encoder=ImageEncoderConfig(**(options | fields)),
        decoder=MeanPoolDecoderConfig(norm=True),
        num_latents=4,
        num_latent_channels=8,
    )


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (perceiver(activation="gelu"), "encoder.activation='gelu' instead of 'geglu'"),
        (perceiver(qkv_bias=True), "encoder.qkv_bias=True"),
        (perceiver(out_bias=False), "encoder.out_bias=False"),
        (perceiver(mlp_bias=False), "encoder.mlp_bias=False"),
        (perceiver(layer_norm_epsilon=1e-6), "encoder.layer_norm_epsilon=1e-06"),
        (perceiver(cross_attention_widening_factor=1), "cross_attention_widening_factor=1"),
        (perceiver(self_attention_widening_factor=1), "self_attention_widening_factor=1"),
        (perceiver(cross_attention_residual=False), "encoder.cross_attention_residual=False"),
        (perceiver(num_cross_attention_v_channels=4), "cross_attention_v_channels=4 instead of 10"),
        (perceiver(num_self_attention_v_channels=6), "self_attention_v_channels=6 instead of 12"),
        (perceiver(num_cross_attention_layers=2), "num_cross_attention_layers=2 instead of 3"),
        (
            perceiver(first_cross_attention_layer_shared=True),
            "first_cross_attention_layer_shared=True",
        ),
        (
            perceiver(first_self_attention_block_shared=True),
            "first_self_attention_block_shared=True",
        ),
        (perceiver(position_channel_order="deepmind"), "position_channel_order='deepmind'"),
        (perceiver(max_frequency=None), "encoder.max_frequency=None takes the size of each axis"),
        (perceiver(MeanPoolDecoderConfig()), "decoder.norm=False"),
        (
            perceiver(MeanPoolDecoderConfig(norm=True, layer_norm_epsilon=1e-6)),
            "decoder.layer_norm_epsilon=1e-06",
        ),
        (images(preprocessing="patches", patch_size=2), "encoder.preprocessing='patches'"),
        (images(image_shape=(4, 6, 2)), r"max_resolution=\(4.0, 6.0\) instead of \(4.0, 4.0\)"),
        (perceiver_io({"num_frequency_bands": 2}), "encoder.num_frequency_bands=2 instead of 0"),
        (
            perceiver_io({"num_cross_attention_layers": 2, "num_self_attention_blocks": 2}),
            "encoder.num_cross_attention_layers=2 instead of 1",
        ),
        (perceiver_io({"num_self_attention_blocks": 2}), "encoder.schedule="),
        (perceiver_io({}, cross_attention_residual=True), "decoder.cross_attention_residual=True"),
        (perceiver_io({}, num_cross_attention_heads=1), "decoder.num_cross_attention_heads=1"),
        (perceiver_io({}, num_cross_attention_qk_channels=4), "cross_attention_qk_channels=4 ins"),
        (perceiver_io({}, num_cross_attention_v_channels=4), "cross_attention_v_channels=4 ins"),
        (perceiver_io({}, qkv_bias=True), "decoder.qkv_bias=True"),
        (
            perceiver_io({}, cross_attention_mlp=True, cross_attention_widening_factor=1),
            "decoder.cross_attention_widening_factor=1",
        ),
        (
            perceiver_io({}, cross_attention_mlp=True, activation="gelu"),
            "decoder.activation='gelu'",
        ),
    ],
)
def test_models_that_cannot_be_expressed(config, complaint):
    for translate in (lucidrains.rows, lucidrains.settings):
        with pytest.raises(ValueError, match="cannot express this model") as error:
            translate(config)
        assert re.search(complaint, str(error.value))


def test_an_mlp_that_is_not_there_needs_no_settings():
    lucidrains.rows(perceiver_io({}, activation="gelu", cross_attention_widening_factor=1))


def test_other_kinds_of_models_are_refused():
    for config in (perceiver(ClassificationDecoderConfig()), perceiver(QueryDecoderConfig())):
        wanted = dataclasses.replace(config, encoder=images().encoder)
        with pytest.raises(ValueError, match=r"no (ImageClassifier|model has Image)"):
            lucidrains.requirements(wanted)


@pytest.mark.parametrize("tied", [{}, TIED])
@pytest.mark.parametrize("settings", [PERCEIVER, PERCEIVER_IO])
def test_names_of_older_versions_are_those_of_0_11_renamed(settings, tied):
    arrays = foreign_arrays(settings | tied)
    older = legacy(arrays, settings["class"])
    assert older.keys().isdisjoint(name for name in arrays if "layers" in name)
    renamed = files.renamed(older)
    assert renamed.keys() == arrays.keys()
    for name in arrays:
        assert renamed[name] is arrays[name]
    assert files.renamed(arrays) == arrays


def test_a_mixture_of_names_is_refused():
    arrays = foreign_arrays(PERCEIVER)
    with pytest.raises(FileError, match="mix names from before 0.11 with those since"):
        files.renamed(arrays | legacy(arrays, "Perceiver"))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["latents", "layers.0.0.gru.bias_ih", "to_logits.0.weight"], "gated variant"),
        (["latents", "data_proj.weight", "to_logits.0.weight"], "experimental variant"),
        (["latents", "layers.0.2.fn.0.weight", "to_logits.0.weight"], "mixed-latents variant"),
        (["latents", "layers.0.0.fn.to_q.weight", "layers.0.3.x"], "attn_residual"),
        (["token_emb.weight", "perceiver_io.latents"], "are not the weights of lucidrains'"),
        (["weight"], "are not the weights of lucidrains' .* There are weight, ...: save"),
    ],
)
def test_weights_of_other_classes_are_named(tmp_path, names, complaint):
    path = tmp_path / "model.safetensors"
    safetensors_files.write(path, {name: np.zeros(2, np.float32) for name in names})
    with pytest.raises(FileError, match=complaint):
        lucidrains.read(path)


@pytest.mark.parametrize("settings", [PERCEIVER | TIED, PERCEIVER_IO | {"logits_dim": 7}])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_what_is_written_is_read_again(tmp_path, settings, suffix):
    config = lucidrains.config(settings)
    arrays = foreign_arrays(settings)
    path = tmp_path / f"model{suffix}"
    lucidrains.write(path, Foreign(arrays=arrays, settings=lucidrains.settings(config)))
    for source in (path, tmp_path):
        found = lucidrains.read(source)
        assert lucidrains.config(found.settings) == config
        assert found.arrays.keys() == arrays.keys()
        for name in arrays:
            np.testing.assert_array_equal(found.arrays[name], arrays[name])


@pytest.mark.parametrize("wrapper", ["", "model.", "net.perceiver."])
def test_wrappers_are_recognised_by_the_names(tmp_path, wrapper):
    arrays = foreign_arrays(PERCEIVER)
    older = {wrapper + name: x for name, x in legacy(arrays, "Perceiver").items()}
    torch_files.write(tmp_path / "a.pt", older)
    assert lucidrains.read(tmp_path / "a.pt").arrays.keys() == arrays.keys()


def test_tensors_beside_a_wrapped_model_are_not_dropped(tmp_path):
    arrays = {f"model.{name}": x for name, x in foreign_arrays(PERCEIVER).items()}
    torch_files.write(tmp_path / "a.pt", arrays | {"head.weight": np.zeros(2, np.float32)})
    with pytest.raises(FileError, match="are not the weights of lucidrains'"):
        lucidrains.read(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["config", "settings", "kwargs"])
def test_arguments_are_found_inside_of_a_torch_file(tmp_path, key):
    arguments = {name: value for name, value in PERCEIVER.items() if name != "class"}
    rest = {"state_dict_of": "ema", key: arguments, "optimizer": {"lr": 1e-3}}
    torch_files.write(tmp_path / "a.pt", foreign_arrays(PERCEIVER), rest)
    found = lucidrains.read(tmp_path / "a.pt")
    assert lucidrains.config(found.settings) == lucidrains.config(PERCEIVER)


def test_arguments_beside_the_file_come_first(tmp_path):
    path = tmp_path / "a.pt"
    torch_files.write(path, foreign_arrays(PERCEIVER), {"config": PERCEIVER | {"max_freq": 1.0}})
    assert lucidrains.read(path).settings["max_freq"] == 1.0
    (tmp_path / "config.json").write_text(json.dumps(PERCEIVER | {"max_freq": 2.0}))
    assert lucidrains.read(path).settings["max_freq"] == 1.0
    (tmp_path / "a.json").write_text(json.dumps(PERCEIVER | {"max_freq": 3.0}))
    assert lucidrains.read(path).settings["max_freq"] == 3.0
    torch_files.write(path, foreign_arrays(PERCEIVER))
    (tmp_path / "a.json").unlink()
    assert lucidrains.read(path).settings["max_freq"] == 2.0


@pytest.mark.parametrize(
    "settings",
    [
        PERCEIVER,
        PERCEIVER | TIED,
        PERCEIVER_IO,
        PERCEIVER_IO | TIED | {"logits_dim": 7, "decoder_ff": True},
    ],
)
def test_shapes_tell_what_they_can_and_the_rest_is_asked_for(settings):
    arrays = foreign_arrays(settings)
    told = from_shapes(arrays)
    full = lucidrains.settings(lucidrains.config(settings))
    unknown = {name for name, value in told.items() if str(value).startswith(UNKNOWN)}
    assert {name: full[name] for name in told.keys() - unknown} == {
        name: value for name, value in told.items() if name not in unknown
    }
    heads = {"cross_heads", "cross_dim_head", "latent_heads", "latent_dim_head"}
    inputs = {"num_freq_bands", "max_freq", "input_channels", "input_axis", "fourier_encode_data"}
    rest = inputs if settings["class"] == "Perceiver" else set()
    assert unknown == heads | rest | {"inverted_cross_attn"}
    with pytest.raises(ConfigError, match="do not tell these arguments") as error:
        lucidrains.config(told)
    for name in unknown:
        assert f"\n  {name}: ?" in str(error.value)
    assert "cross_heads * cross_dim_head = 10)" in str(error.value)
    assert "model.json" in str(error.value) and '"latent_dim": 8' in str(error.value)
    # With these, the config is whole.
    given = {name: full[name] for name in unknown}
    config = lucidrains.config({**told, **given})
    structure = models.skeleton(config)
    load(lucidrains.rows(config), arrays, structure.params)


def test_files_without_arguments_can_still_be_read(tmp_path):
    torch_files.write(tmp_path / "a.pt", foreign_arrays(PERCEIVER_IO))
    found = lucidrains.read(tmp_path / "a.pt")
    assert found.settings["depth"] == 3 and found.settings["cross_heads"].startswith(UNKNOWN)


def test_heads_of_lucidrains_default_size_are_proposed_not_assumed():
    arrays = foreign_arrays(PERCEIVER_IO | {"cross_heads": 2, "cross_dim_head": 64})
    assert (
        "cross_heads * cross_dim_head = 128, by default 2 * 64"
        in from_shapes(arrays)["cross_heads"]
    )


def test_weights_without_a_head_are_told_as_such():
    arrays = {name: x for name, x in foreign_arrays(PERCEIVER).items() if "to_logits" not in name}
    assert from_shapes(arrays)["final_classifier_head"] is False


@pytest.mark.parametrize("missing", ["latents", "layers.0.cross_attn.fn.to_q.weight"])
def test_damaged_state_dicts_are_refused(missing):
    arrays = foreign_arrays(PERCEIVER)
    del arrays[missing]
    with pytest.raises(FileError, match=f"a tensor of lucidrains' Perceiver is missing.*{missing}"):
        from_shapes(arrays)


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "a.npz").touch()
    with pytest.raises(FileError, match=r"a.npz does not end in .pt, .pth, .bin, .ckpt, .safet"):
        lucidrains.read(tmp_path / "a.npz")
    with pytest.raises(FileError, match="does not say in which kind of file to write"):
        lucidrains.write(tmp_path / "b", Foreign(arrays={}))
    with pytest.raises(FileError, match="should hold one file of weights, but has none"):
        lucidrains.read(tmp_path)


def test_what_is_missing_is_named_after_its_class():
    with pytest.raises(ConfigError, match=r"^lucidrains' Perceiver\.num_freq_bands is missing"):
        parse({"class": "Perceiver", "depth": 2, "max_freq": 10.0})


def test_what_no_file_tells_may_stand_in_any():
    with pytest.raises(ConfigError, match="or into a file for --config=FILE.json"):
        parse({"class": "Perceiver", "depth": "? how many"})
