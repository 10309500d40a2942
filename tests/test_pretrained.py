"""A run as a source of weights at a chosen checkpoint, by every command that opens one."""

import cv2
import numpy as np
import pytest

from interop.__main__ import main as interop_main
from perceiver_jax import load_checkpoint
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import release
from perceiver_jax.pretrained import open_source
from perceiver_jax.run import main as run_main
from perceiver_jax.train.checkpoint import Checkpoints
from perceiver_jax.train.main import train
from tests.train.tiny_runs import experiment


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of six steps with two checkpoints, of which either may be the better."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train(experiment(num_steps=6), workdir)
    return workdir


@pytest.mark.parametrize("step", [None, 3, "best"])
@pytest.mark.parametrize("command", [["export", "ours"], ["convert", "--from=ours", "--to=ours"]])
def test_a_run_is_converted_at_the_step_that_is_asked_for(workdir, tmp_path, command, step):
    out = tmp_path / "out"
    asked = [] if step is None else [f"--step={step}"]
    assert interop_main([*command, str(workdir), str(out), *asked]) == 0
    found = Checkpoints(workdir).find(step)
    assert f"step {found} of the run" in open_source(f"ours:{out}").card.origin
    np.testing.assert_array_equal(
        open_source(f"ours:{out}").arrays["encoder/latents"],
        open_source(str(workdir), found).arrays["encoder/latents"],
    )


def test_a_run_is_used_at_the_step_that_is_asked_for(workdir, tmp_path, capsys):
    image = tmp_path / "digit.png"
    cv2.imwrite(str(image), np.full((8, 8), 99, np.uint8))
    said = {}
    for asked in ([], ["--step=3"], ["--step=6"]):
        assert run_main(["classify-image", f"--source={workdir}", str(image), *asked]) == 0
        said[str(asked)] = capsys.readouterr().out
    assert said["[]"] == said["['--step=6']"] != said["['--step=3']"]
    assert run_main(["classify-image", f"--source={workdir}", "--step=4", str(image)]) == 1
    assert "there is no checkpoint 4" in capsys.readouterr().err


def test_a_step_is_of_a_run_alone(workdir, tmp_path, capsys):
    release(load_checkpoint(workdir)).save(tmp_path / "release")
    with pytest.raises(UserError, match="step=best is of a run"):
        open_source(f"ours:{tmp_path / 'release'}", "best")
    for command in (["export", "ours"], ["import", "krasserm"]):
        arguments = [*command, str(tmp_path / "release"), str(tmp_path / "out"), "--step=best"]
        assert interop_main(arguments) == 1
        assert "is of a run" in capsys.readouterr().err
