"""`python -m interop`: what its commands print, write and return."""

import json
import re
import subprocess
import sys
from collections import Counter

import jax
import pytest

from interop import FORMATS, export_weights, import_weights, load_pretrained
from interop.__main__ import main
from interop.configs import PUBLISHED
from interop.shipped import TAKEN
from perceiver_jax import models
from perceiver_jax.config import to_dict
from perceiver_jax.errors import UserError
from perceiver_jax.train.command_line import shipped_configs
from tests.conftest import ROOT
from tests.interop.conftest import classifier


@pytest.fixture
def release(released, tmp_path):
    """A folder with a release of a tiny model that several formats can express."""
    export_weights(released(classifier()), "ours", tmp_path / "release")
    return tmp_path / "release"


@pytest.mark.parametrize("name", ["deepmind", "huggingface", "krasserm", "ours"])
def test_a_table_names_both_sides_of_every_parameter(name, capsys):
    assert main(["table", name, "imagenet_fourier_position_encoding"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (latents,) = (line for line in lines if line.startswith("encoder/latents "))
    theirs = {
        "deepmind": "params/perceiver_encoder/~/trainable_position_encoding/pos_embs",
        "huggingface": "perceiver.embeddings.latents",
        "krasserm": "0.latent_provider._query",
        "ours": "encoder/latents",
    }
    assert "[512, 1024]" in latents and latents.endswith(theirs[name])
    assert lines[-1] == "48,440,627 parameters, 136 arrays"
    assert len([line for line in lines if " ← " in line]) == 136
    said = [line for line in lines if line.startswith("# ")]
    assert bool(said) == (name == "krasserm")


def test_a_table_takes_configs_of_every_kind(tmp_path, capsys):
    (tmp_path / "ours.json").write_text(json.dumps(to_dict(classifier())))
    theirs = FORMATS["krasserm"].settings(classifier("gelu", max_resolution=None))
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    for config in (tmp_path / "ours.json", tmp_path / "theirs.json"):
        assert main(["table", "krasserm", f"--config={config}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        (latents,) = (line for line in lines if line.startswith("encoder/latents "))
        assert "[4, 8]" in latents
    for config in ("configs/mnist.py", "mnist"):
        assert main(["table", "krasserm", f"--config={config}"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("907,212 parameters")
    assert main(["table", "deepmind", "--config=imagenet_a:smoke"]) == 0
    assert not capsys.readouterr().out.splitlines()[-1].startswith("48,440,627 parameters")


@pytest.mark.parametrize(
    ("form", "name"), [("huggingface", "folder"), ("krasserm", "x.ckpt"), ("ours", "digits")]
)
def test_a_table_takes_the_weights_themselves(form, name, released, tmp_path, monkeypatch, capsys):
    kept = {"max_resolution": None} if form == "krasserm" else {}
    monkeypatch.chdir(tmp_path)
    export_weights(released(classifier("gelu", **kept)), form, f"run/{name}")
    assert main(["table", form, f"run/{name}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (latents,) = (line for line in lines if line.startswith("encoder/latents "))
    assert "[4, 8]" in latents


def test_a_folder_does_not_hide_a_shipped_config(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    assert main(["table", "krasserm", "mnist"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("907,212 parameters")


def test_no_name_is_offered_twice(capsys):
    assert main(["table", "ours", "nothing_like_it"]) == 1
    names = re.findall(r"\w+", capsys.readouterr().err)
    offered = {*PUBLISHED, *shipped_configs()}
    assert Counter(name for name in names if name in offered) == dict.fromkeys(offered, 1)


def test_names_that_a_format_does_not_take_are_not_offered(capsys):
    assert main(["table", "lucidrains", "Perceiver"]) == 1
    said = capsys.readouterr().err
    assert "in the words of lucidrains" in said and said.count("that fit: none") == 2
    assert main(["table", "krasserm", "nothing_like_it"]) == 1
    said = capsys.readouterr().err
    names = {name for name in re.findall(r"\w+", said) if name in {*PUBLISHED, *shipped_configs()}}
    assert names == {*TAKEN["krasserm"], "causal_bytes", "causal_subwords"}


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        ("krasserm", "x.xyz", "name a file that ends in .ckpt, .pt, .pth, .bin, .safetensors or a"),
        ("huggingface", "x.safetensors", "Hugging Face's code; name a folder, without ending"),
        ("ours", "x.safetensors", "perceiver_jax; name a folder, without ending"),
        ("deepmind", "x", "name a file that ends in .pystate, .pickle, .npz"),
        ("lucidrains", "x.npz", "name a file that ends in .pt, .pth, .bin, .ckpt, .safetensors"),
    ],
)
def test_a_destination_that_a_format_does_not_write_is_refused(
    form, name, said, release, tmp_path, capsys
):
    assert main(["export", form, str(release), str(tmp_path / "new" / name)]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_may_end_in_a_number_or_be_there(released, tmp_path):
    (tmp_path / "run.old").mkdir()
    for name in ("v0.2", "run.old"):
        written = export_weights(released(classifier()), "ours", tmp_path / name)
        assert (written.destination / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["table", "krasserm"], "give the config"),
        (["table", "krasserm", "imagenet_fourier_position"], "did you mean 'imagenet_fourier_pos"),
        (["table", "krasserm", "nowhere/weights.pt"], "no such file or folder: nowhere/weights.pt"),
        (["table", "krasserm", "--config=nothing.json"], "nothing.json cannot be read"),
        (["table", "torch", "mnist"], "there is no format 'torch'"),
        (["convert", "--from", "ours", "nowhere", "--to", "krasserm", "x"], "no such file"),
        (["export", "krasserm", "nowhere", "x"], "no such file"),
        (["check", "krasserm", "nowhere"], "no such file"),
    ],
)
def test_what_is_wrong_ends_in_a_sentence(arguments, complaint, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and complaint in said


def test_export_convert_import(release, tmp_path, capsys):
    pickle, folder, again = (str(tmp_path / name) for name in ("x.pystate", "hf", "again"))
    assert main(["export", "deepmind", str(release), pickle]) == 0
    assert main(["convert", "--from", "deepmind", pickle, "--to", "huggingface", folder]) == 0
    assert main(["import", "huggingface", folder, again]) == 0
    said = capsys.readouterr().out
    assert "read     " in said and f"written  {again}" in said
    assert "note     encoder.masked_rows: 'zero' → 'uniform'" in said
    before, after = (import_weights("ours", path).arrays for path in (release, again))
    assert all((before[path] == after[path]).all() for path in before)
    assert before.keys() == after.keys()


def test_approximation_is_asked_for_and_measured(release, tmp_path, capsys):
    arguments = ["export", "krasserm", str(release), str(tmp_path / "x")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "encoder.activation: 'gelu_tanh' → 'gelu'" in said and "--approximate" in said
    assert not (tmp_path / "x").exists()
    assert main([*arguments, "--approximate"]) == 0
    said = capsys.readouterr().out
    assert "changed  encoder.activation: 'gelu_tanh' → 'gelu'" in said
    assert "effect   outputs move by up to " in said


def test_a_card_gets_its_licence_by_the_command(release, tmp_path, capsys):
    edited = json.loads((release / "config.json").read_text())
    edited["card"]["licence"] = None
    (release / "config.json").write_text(json.dumps(edited))
    again = tmp_path / "again"
    assert main(["export", "ours", str(release), str(again)]) == 0
    assert "the model card names no licence; give it with --licence=" in capsys.readouterr().out
    assert main(["export", "ours", str(release), str(again), "--licence=MIT"]) == 0
    assert "no licence" not in capsys.readouterr().out
    assert import_weights("ours", again).card.licence == "MIT"


def test_the_module_is_a_command(tmp_path):
    command = [sys.executable, "-m", "interop", "table", "deepmind", "imagenet_conv_preprocessing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("48,646,522 parameters")
    done = subprocess.run([*command[:4], "deepmind"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_release_of_ours_is_named_where_another_format_is_asked_for(tiny_config, tmp_path):
    models.build(tiny_config(), jax.random.key(0)).save_pretrained(tmp_path / "ours")
    with pytest.raises(UserError, match="this is a release of ours; read it with the format"):
        load_pretrained("huggingface", tmp_path / "ours")


@pytest.mark.parametrize("source", [object(), {"a": 1}, None])
def test_a_model_in_place_of_a_path_is_refused(source):
    with pytest.raises(UserError, match="source is of .*; give the path of files: save it first"):
        load_pretrained("huggingface", source)
