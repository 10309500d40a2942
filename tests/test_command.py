"""Commands end in a sentence, whatever happens to them from outside."""

import subprocess
import sys

import jax
import pytest

from perceiver_jax import command
from perceiver_jax.command import COMPILATION, CompilationNotice, run_command
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


class Impatient:
    """A timer that is up as soon as it is started."""

    def __init__(self, interval, function):
        self.start = function

    def cancel(self):
        pass


def test_a_command_tells_what_it_compiles_and_the_library_does_not(monkeypatch, capsys):
    monkeypatch.setattr(command.threading, "Timer", Impatient)

    def first_step(x):
        return x + 1

    def second_step(x):
        return x + 2

    assert run_command(lambda: print(jax.jit(first_step)(1.0))) == 0
    said = capsys.readouterr()
    assert said.out == "2.0\n"
    assert "compiling first step …\ncompiled first step in " in said.err
    jax.jit(second_step)(1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("patience_s", [0.0, 1e6])
def test_only_what_compiles_long_is_told_of(patience_s, monkeypatch, capsys):
    monkeypatch.setattr(command, "PATIENCE_S", patience_s)
    timers, timer = [], command.threading.Timer
    monkeypatch.setattr(
        command.threading, "Timer", lambda *given: timers.append(timer(*given)) or timers[-1]
    )
    name = {"fun_name": "jit(_train_step)"}
    with CompilationNotice():
        jax.monitoring.record_scalar("/jax/other", 0.0, **name)
        jax.monitoring.record_scalar(COMPILATION, 0.0, **name)
        if not patience_s:
            timers[0].join(10)
        jax.monitoring.record_event_duration_secs(COMPILATION, 8.57, **name)
    assert len(timers) == 1
    timers[0].join(10)
    said = "compiling train step …\ncompiled train step in 8.6 s\n"
    assert capsys.readouterr().err == ("" if patience_s else said)


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
