"""`python -m perceiver_jax.export`."""

import json
import re

import numpy as np
import pytest

from perceiver_jax import load_checkpoint
from perceiver_jax.export import artifact
from perceiver_jax.export.__main__ import main
from perceiver_jax.train.main import train
from tests.train.tiny_runs import experiment


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of six steps with two checkpoints, of which either may be the better."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(experiment(num_steps=6), workdir)
    return workdir


@pytest.mark.parametrize("step", [None, "3", "best"])
def test_a_run_is_exported_at_the_step_that_is_asked_for(workdir, tmp_path, capsys, step):
    asked = [] if step is None else [f"--step={step}", f"--out={tmp_path / 'out'}"]
    assert main([str(workdir), *asked]) == 0
    folder = workdir / "export" if step is None else tmp_path / "out"
    printed = capsys.readouterr().out
    assert re.search(r"model\.jax_export  [\d,]+ bytes", printed)
    assert re.search(r"largest difference from the model, on random input: \S+e-0[678]", printed)
    told = json.loads((folder / "artifact.json").read_text())
    assert "run 'tiny'" in told["model"]["origin"] and len(told["labels"]) == 10
    program, weights = artifact.load_program(folder)
    model = load_checkpoint(workdir, int(step) if step == "3" else step)
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(program(weights, images), model(images), atol=1e-5)


def test_a_release_is_exported_for_the_platforms_that_are_asked_for(
    random_release, tmp_path, capsys
):
    random_release("text").save(tmp_path / "release")
    source, out = f"ours:{tmp_path / 'release'}", tmp_path / "out"
    assert main([source, f"--out={out}", "--platforms=tpu", "--size=tokens=7"]) == 0
    assert "not compared with the model" in capsys.readouterr().out
    told = json.loads((out / "artifact.json").read_text())
    assert told["program"]["platforms"] == ["tpu"] and told["difference"] is None
    assert told["inputs"][0]["shape"] == ["b", 7]


def test_mistakes_are_answered_in_a_sentence(random_release, tmp_path, capsys):
    random_release("image").save(tmp_path / "release")
    source, out = f"ours:{tmp_path / 'release'}", f"--out={tmp_path / 'out'}"
    for arguments, said in (
        ([str(tmp_path / "nowhere"), out], "there is no workdir"),
        ([source], "name a folder with --out"),
        ([source, out, "--step=best"], "step=best is of a run"),
        ([source, out, "--size=tokens=3"], "--size tokens: the model leaves no size"),
        ([source, f"--out={tmp_path / 'release'}"], "in it and is no artifact"),
    ):
        assert main(arguments) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and said in captured.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--platforms=cpu,gpu", "of cpu, cuda, rocm, tpu; a GPU of NVIDIA is cuda, one of AMD"),
        ("--platforms=npu", "'npu' is no platform of cpu, cuda, rocm, tpu\n"),
        ("--batch-size=0", "'0' is no whole number from 1 on"),
        ("--size=tokens", "'tokens' is no size"),
        ("--step=last", "'last' is no number of steps"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_read(capsys, argument, said):
    with pytest.raises(SystemExit):
        main(["runs/none", argument])
    assert said in capsys.readouterr().err


def test_a_folder_with_something_else_in_it_is_left_alone(random_release, tmp_path, capsys):
    random_release("image").save(tmp_path / "release")
    out = tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("mine")
    assert main([f"ours:{tmp_path / 'release'}", f"--out={out}"]) == 1
    assert "README.md in it and is no artifact" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["README.md"]
    assert (out / "README.md").read_text() == "mine"
