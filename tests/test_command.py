"""Commands end in a sentence, whatever happens to them from outside."""

import subprocess
import sys

import pytest

from perceiver_jax.command import run_command
from perceiver_jax.errors import UserError
from tests.conftest import ROOT


def fail(error):
    raise error


def test_exit_codes_and_sentences(capsys):
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3
    assert run_command(lambda: fail(UserError("the file is missing"))) == 1
    assert capsys.readouterr().err == "error: the file is missing\n"
    assert run_command(lambda: fail(KeyboardInterrupt())) == 130
    assert run_command(lambda: fail(KeyboardInterrupt()), stopped="stopped; go on") == 130
    assert capsys.readouterr().err == "stopped\nstopped; go on\n"
    with pytest.raises(ValueError, match="a fault of ours"):
        run_command(lambda: fail(ValueError("a fault of ours")))


def test_a_reader_that_has_seen_enough_is_no_error():
    command = "python -m interop table deepmind imagenet_conv_preprocessing | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("python", sys.executable)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("encoder/input_adapter/stem/layer/0/conv/kernel")
