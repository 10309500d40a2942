"""Settings and files of lucidrains' `PerceiverAR`."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from interop import (
    convert,
    export_pretrained,
    export_weights,
    import_weights,
    load,
    load_pretrained,
    save,
)
from interop.__main__ import main
from interop.check import check, first_difference
from interop.example import example_inputs
from interop.files import FileError, npz, torch_files
from interop.formats import lucidrains
from interop.formats.lucidrains import files
from interop.formats.lucidrains.arguments import UNKNOWN
from interop.formats.lucidrains.shapes import FREQUENCIES, from_shapes
from perceiver_jax import models
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig

CAUSAL = {
    "class": "PerceiverAR",
    "num_tokens": 262,
    "dim": 12,
    "depth": 2,
    "max_seq_len": 9,
    "cross_attn_seq_len": 5,
    "dim_head": 40,
    "heads": 2,
}
SETTINGS = [
    CAUSAL,
    CAUSAL | {"perceive_depth": 3, "ff_mult": 2, "dropout": 0.1, "cross_attn_dropout": 0.5},
    CAUSAL | {"dim_head": 32, "perceive_depth": 0, "cross_attn_seq_len": 0},
    CAUSAL | {"dim_head": 68, "depth": 12},
    CAUSAL | {"dim_head": 67},
]


def causal(settings=CAUSAL, **changes):
    """Such a model of ours, with changes."""
    config = lucidrains.config(settings)
    assert isinstance(config, CausalSequenceConfig)
    return dataclasses.replace(config, **changes)


def foreign_arrays(settings):
    """A state dict of which every tensor has values of its own."""
    config = lucidrains.config(settings)
    rng = np.random.default_rng(0)
    ours = {
        path: rng.normal(size=shape.shape).astype(np.float32)
        for path, shape in models.skeleton(config).params.items()
    }
    return save(lucidrains.rows(config), ours)


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_survive_translation(settings):
    config = lucidrains.config(settings)
    again = lucidrains.settings(config)
    assert json.loads(json.dumps(again)) == again
    assert {name: again[name] for name in settings} == settings
    assert lucidrains.config(again) == config


def test_what_is_left_out_has_lucidrains_defaults():
    sizes = {"num_tokens": 300, "dim": 6, "depth": 3, "max_seq_len": 16, "cross_attn_seq_len": 12}
    assert lucidrains.config(sizes) == CausalSequenceConfig(
        vocab_size=300,
        max_seq_len=16,
        max_latents=4,
        num_channels=6,
        num_heads=8,
        num_cross_attention_qk_channels=512,
        num_self_attention_qk_channels=512,
        num_self_attention_layers=3,
        num_self_attention_rotary_layers=-1,
        rotary_fraction=0.5,
        rotary_pairs="halves",
        cross_attention_dropout=0.0,
        tied_logits=False,
        output_bias=False,
        masked_rows="uniform",
        init_method="uniform",
    )


@pytest.mark.reference
def test_arguments_and_their_defaults_are_those_of_the_class():
    package = pytest.importorskip("perceiver_ar_pytorch")
    parameters = inspect.signature(package.PerceiverAR).parameters
    required = {n: CAUSAL[n] for n, p in parameters.items() if p.default is inspect.Parameter.empty}
    ours = lucidrains.settings(causal({"class": "PerceiverAR", **required}))
    assert ours.keys() - {"class"} == parameters.keys()
    for name in parameters.keys() - required.keys():
        assert ours[name] == parameters[name].default, name


def test_the_class_follows_from_the_arguments():
    unnamed = {name: value for name, value in CAUSAL.items() if name != "class"}
    assert lucidrains.config(unnamed) == lucidrains.config(CAUSAL)
    del unnamed["cross_attn_seq_len"]
    with pytest.raises(ConfigError, match="lucidrains' PerceiverLM has no field"):
        lucidrains.config(unnamed)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (CAUSAL | {"cross_attn_seq": 5}, "'cross_attn_seq'; did you mean 'cross_attn_seq_len'"),
        (CAUSAL | {"num_latents": 3}, "lucidrains' PerceiverAR has no field 'num_latents'"),
        (CAUSAL | {"ff_mult": 2.5}, "ff_mult=2.5 is not valid; it takes int"),
        (CAUSAL | {"cross_attn_seq_len": 9}, "cross_attn_seq_len=9 is not between 0 and .* = 8"),
        (CAUSAL | {"cross_attn_seq_len": -1}, "cross_attn_seq_len=-1 is not between 0 and"),
        (CAUSAL | {"dim_head": 31}, "dim_head=31 is not supported: .* turns 32 channels"),
        (CAUSAL | {"depth": 0}, "num_self_attention_layers=0 is too small"),
        (CAUSAL | {"cross_attn_dropout": 1.0}, "cross_attention_dropout=1.0"),
        ({**CAUSAL, "depth": None}, "depth is not set"),
    ],
)
def test_arguments_that_cannot_be_taken(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        lucidrains.config(settings)


@pytest.mark.parametrize(
    ("dim_head", "num_turned"),
    [(32, 32), (33, 32), (64, 32), (65, 32), (66, 34), (67, 34), (68, 34), (128, 64), (90, 46)],
)
def test_turned_channels(dim_head, num_turned):
    config = causal(CAUSAL | {"dim_head": dim_head})
    assert config.num_turned(dim_head, embedded=True) == num_turned
    wider = dim_head // 2 > 32 and dim_head // 2 % 2 == 1
    assert (config.rotary_max_wavelength == 10_000.0) is not wider


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"activation": "gelu_tanh"}, "activation='gelu_tanh' instead of 'gelu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06"),
        ({"qkv_bias": True}, "qkv_bias=True"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"out_bias": False}, "out_bias=False"),
        ({"self_attention_out_bias": True}, "self_attention_out_bias=True"),
        ({"initial_queries": "linear"}, "initial_queries='linear'"),
        ({"initial_queries": "linear", "cross_attention_keys": "inputs"}, "keys='inputs'"),
        ({"cross_attention_after_layers": (0,)}, r"cross_attention_after_layers=\(0,\)"),
        ({"cross_attention_residual": False}, "cross_attention_residual=False"),
        ({"position_origin": "last"}, "position_origin='last'"),
        ({"position_shape": (10,)}, r"position_shape=\(10,\) instead of \(9,\)"),
        ({"position_shape": (10,), "first_position": 1}, "first_position=1 instead of 0"),
        ({"abs_pos_emb": False}, "abs_pos_emb=False"),
        ({"train_positions": False}, "train_positions=False"),
        ({"rotary_fraction": 0.5}, "rotary_fraction=0.5 instead of 0.8"),
        ({"rotary_fraction": None}, "rotary_fraction=None instead of 0.8"),
        ({"rotary_heads_fraction": 0.5}, "rotary_heads_fraction=0.5"),
        ({"rotary_pairs": "interleaved"}, "rotary_pairs='interleaved' instead of 'halves'"),
        ({"rotary_frequencies": "closed"}, "rotary_frequencies='closed'"),
        ({"rotary_max_wavelength": 1e3}, "rotary_max_wavelength=1000.0"),
        ({"num_self_attention_rotary_layers": 1}, "rotary_layers=1 instead of 2"),
        ({"query_position_offset": 1}, "query_position_offset=1"),
        ({"num_cross_attention_heads": 1}, "num_cross_attention_heads=1 instead of 2"),
        ({"num_cross_attention_qk_channels": 64}, "cross_attention_qk_channels=64 instead of 80"),
        ({"cross_attention_widening_factor": 1}, "cross_attention_widening_factor=1 instead of 4"),
        ({"output_norm": True}, "output_norm=True"),
        ({"output_bias": True}, "output_bias=True"),
        ({"tied_logits": True}, "tied_logits=True"),
        ({"num_heads": 4}, "channels of a head=20 instead of 32"),
    ],
)
def test_models_that_cannot_be_expressed(changes, complaint):
    for translate in (lucidrains.rows, lucidrains.settings):
        with pytest.raises(ValueError, match="perceiver-ar-pytorch cannot express") as error:
            translate(causal(**changes))
        error.match(complaint)


@pytest.mark.parametrize(
    "changes",
    [{"position_shape": (9,)}, {"rotary_fraction": 0.81}, {"num_self_attention_rotary_layers": 2}],
)
def test_other_words_for_the_same_model_are_taken(changes):
    config = causal(**changes)
    assert lucidrains.settings(config) == lucidrains.settings(causal())
    assert len(lucidrains.rows(config)) == len(lucidrains.rows(causal()))


def test_the_nearest_model_is_written_on_request(released, tmp_path):
    start = released(causal(rotary_fraction=0.5))
    with pytest.raises(UserError, match=r"rotary_fraction: 0.5 → 0.8"):
        export_weights(start, "lucidrains", tmp_path / "x.pt")
    exported = export_weights(start, "lucidrains", tmp_path / "x.pt", approximate=True)
    assert exported.changes == ("rotary_fraction: 0.5 → 0.8",)
    assert exported.effect is not None and exported.effect.difference > 0
    with pytest.raises(UserError, match=r"lucidrains has no model with these .*\n.*head: 20 → 32"):
        export_weights(released(causal(num_heads=4)), "lucidrains", tmp_path / "x.pt")


def test_what_is_computed_otherwise_is_noted(released, tmp_path):
    start = released(causal())
    remarks = export_weights(start, "lucidrains", tmp_path / "x.pt").remarks
    assert [remark.partition(" ")[0] for remark in remarks] == ["their"] * 2 + ["origin", "licence"]
    assert "num_latents = tokens - cross_attn_seq_len" in remarks[0]
    assert "positions count padding" in remarks[1]
    dropped = dataclasses.replace(start, config=causal(dropout=0.1, residual_dropout=0.2))
    said = "\n".join(export_weights(dropped, "lucidrains", tmp_path / "x.pt").remarks)
    assert "their dropout, in training only," in said
    assert "residual_dropout: 0.2 → 0.0" in said


@pytest.mark.parametrize("place", ["x.pt", "x.bin", "x.safetensors"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_written_is_read_again(settings, place, released, tmp_path):
    start = released(lucidrains.config(settings))
    export_weights(start, "lucidrains", tmp_path / place)
    convert("lucidrains", tmp_path / place, "ours", tmp_path / "ours")
    convert("ours", tmp_path / "ours", "lucidrains", tmp_path / "again" / place)
    end = import_weights("lucidrains", tmp_path / "again" / place)
    assert end.config == start.config
    assert end.card.text == TextPreprocessing(tokenizer="bytes", add_special_tokens=False)
    assert end.arrays.keys() == start.arrays.keys()
    for path, array in start.arrays.items():
        np.testing.assert_array_equal(end.arrays[path], array, err_msg=path)


@pytest.mark.parametrize("wrapper", ["net.", "module.net."])
def test_wrappers_are_recognised_by_the_names(wrapper, tmp_path):
    """Theirs for generation keeps the model as `net`."""
    arrays = foreign_arrays(CAUSAL)
    torch_files.write(tmp_path / "a.pt", {wrapper + name: x for name, x in arrays.items()})
    (tmp_path / "a.json").write_text(json.dumps(CAUSAL))
    assert lucidrains.read(tmp_path / "a.pt").arrays.keys() == arrays.keys()
    assert import_weights("lucidrains", tmp_path / "a.pt").config == lucidrains.config(CAUSAL)


@pytest.mark.reference
@pytest.mark.parametrize("wrapped", [True, False])
def test_files_that_the_package_itself_makes_and_takes(wrapped, tmp_path):
    """In float32, its rotary frequencies too; they are loaded strictly."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("perceiver_ar_pytorch")
    from perceiver_ar_pytorch.autoregressive_wrapper import AutoregressiveWrapper

    arguments = {name: value for name, value in CAUSAL.items() if name != "class"}
    torch.manual_seed(0)
    theirs = package.PerceiverAR(**arguments).eval()
    saved = AutoregressiveWrapper(theirs) if wrapped else theirs
    torch.save(saved.state_dict(), tmp_path / "x.pt")
    (tmp_path / "x.json").write_text(json.dumps(arguments))
    ids = np.random.default_rng(0).integers(262, size=(2, 8)).astype(np.int32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(ids)).numpy()
    ours = load_pretrained("lucidrains", tmp_path / "x.pt")
    np.testing.assert_allclose(ours(ids, num_latents=3), wanted, atol=1e-5)
    export_pretrained(ours, "lucidrains", tmp_path / "y.pt")
    again = json.loads((tmp_path / "y.json").read_text())
    assert again.pop("class") == "PerceiverAR"
    model = package.PerceiverAR(**again).eval()
    model.load_state_dict(torch.load(tmp_path / "y.pt", weights_only=True), strict=True)
    with torch.no_grad():
        np.testing.assert_allclose(model(torch.from_numpy(ids)).numpy(), wanted, atol=1e-5)


def test_names_are_not_those_of_an_older_perceiver():
    arrays = foreign_arrays(CAUSAL)
    assert any(name.startswith("layers.0.0.") for name in arrays)
    assert files.renamed(arrays) == arrays


def test_arguments_are_found_inside_of_a_torch_file(tmp_path):
    arguments = {name: value for name, value in CAUSAL.items() if name != "class"}
    torch_files.write(tmp_path / "a.pt", foreign_arrays(CAUSAL), {"config": arguments})
    assert lucidrains.config(lucidrains.read(tmp_path / "a.pt").settings) == causal()


@pytest.mark.parametrize("settings", SETTINGS)
def test_shapes_tell_what_they_can_and_the_rest_is_asked_for(settings):
    arrays = foreign_arrays(settings)
    told, full = from_shapes(arrays), lucidrains.settings(lucidrains.config(settings))
    unknown = {name for name, value in told.items() if str(value).startswith(UNKNOWN)}
    assert unknown == {"cross_attn_seq_len", "heads", "dim_head"}
    assert {name: full[name] for name in told.keys() - unknown} == {
        name: value for name, value in told.items() if name not in unknown
    }
    inner = settings["heads"] * settings["dim_head"]
    with pytest.raises(ConfigError, match=rf"heads: \? \(heads \* dim_head = {inner}"):
        lucidrains.config(told)
    config = lucidrains.config({**told, **{name: full[name] for name in unknown}})
    load(lucidrains.rows(config), arrays, models.skeleton(config).params)


def test_heads_that_do_not_go_with_the_frequencies_are_refused(tmp_path):
    settings = CAUSAL | {"dim_head": 80}
    torch_files.write(tmp_path / "a.pt", foreign_arrays(settings))
    (tmp_path / "a.json").write_text(json.dumps(settings | {"dim_head": 40, "heads": 4}))
    with pytest.raises(ValueError, match=rf"shape *{FREQUENCIES}: \[20\], wanted \[16\]"):
        import_weights("lucidrains", tmp_path / "a.pt")


@pytest.mark.parametrize("missing", ["token_emb.weight", "layers.0.0.to_out.weight", FREQUENCIES])
def test_damaged_state_dicts_are_refused(missing):
    arrays = foreign_arrays(CAUSAL)
    del arrays[missing]
    complaint = "PerceiverAR is missing.*" if missing != FREQUENCIES else "none is "
    with pytest.raises(FileError, match=f"{complaint}{missing}"):
        from_shapes(arrays)


def test_a_table_names_both_sides(tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps(CAUSAL | {"perceive_depth": 2}))
    assert main(["table", "lucidrains", f"--config={tmp_path / 'a.json'}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("cross_attention/1/attention/key/kernel")
        and line.endswith("perceive_layers.1.0.to_kv.weight")
        for line in lines
    )
    assert any(line.startswith("- ") and FREQUENCIES in line for line in lines)


@pytest.fixture(scope="module", params=[100, 9])
def file(request, released, tmp_path_factory):
    """A model whose prefix is longer than that of the example, and one with its whole context."""
    pytest.importorskip("perceiver_ar_pytorch")
    sizes = {"max_seq_len": request.param, "cross_attn_seq_len": request.param - 4}
    start = released(lucidrains.config(CAUSAL | sizes | {"perceive_depth": 2}))
    path = tmp_path_factory.mktemp("causal") / "x.pt"
    export_weights(start, "lucidrains", path)
    return path


@pytest.mark.reference
@pytest.mark.parametrize("batch", [False, True])
def test_check_agrees(file, batch, tmp_path, capsys):
    arguments = []
    if batch:
        found = example_inputs(import_weights("lucidrains", file).config, seed=1)
        assert not found["input_mask"].all()
        found["num_latents"] = np.asarray(found["num_latents"])
        npz.write(tmp_path / "batch.npz", found)
        arguments = ["--batch", str(tmp_path / "batch.npz")]
    assert main(["check", "lucidrains", str(file), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("inputs ") and lines[2].startswith("cross_attention/0/attention ")
    assert lines[-1].startswith("all 10 stages agree")


@pytest.mark.reference
def test_check_finds_what_is_perturbed(file):
    stages = check("lucidrains", str(file), perturb="cross_attention/1/attention/key/kernel")
    found = first_difference(stages)
    assert found is not None and found.name == "cross_attention/1/attention"


@pytest.mark.reference
def test_a_batch_with_padding_among_the_latents_cannot_be_checked(file, tmp_path):
    mask = np.ones((1, 7), bool)
    mask[0, 4] = False
    batch = {"inputs": np.zeros((1, 7), np.int32), "input_mask": mask}
    npz.write(tmp_path / "batch.npz", batch | {"num_latents": np.asarray(3)})
    with pytest.raises(UserError, match="masks padding in the prefix alone"):
        check("lucidrains", str(file), batch=tmp_path / "batch.npz")
