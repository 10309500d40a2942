"""Commands end in a sentence, whatever happens to them from outside."""

import signal
import subprocess
import sys
import warnings

import jax
import pytest

from perceiver_jax import command
from perceiver_jax.command import (
    COMPILATION,
    CompilationNotice,
    compilation_told_as,
    run_command,
)
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
    assert run_command(lambda: fail(KeyboardInterrupt("saved; go on")), stopped="lost") == 130
    assert capsys.readouterr().err == "saved; go on\n"
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


def test_programs_that_are_told_of_as_one_take_a_line_in_a_command(monkeypatch, capsys):
    monkeypatch.setattr(command.threading, "Timer", Impatient)

    def generate():
        for number in range(3):
            with compilation_told_as("the programs that generate"):
                print(jax.jit(lambda x, number=number: x + number)(1.0))
        jax.jit(lambda x: x * 7)(1.0)

    assert run_command(generate) == 0
    said = capsys.readouterr()
    assert said.out == "1.0\n2.0\n3.0\n"
    lines = said.err.splitlines()
    assert lines[0] == "compiling the programs that generate …"
    assert lines.count(lines[0]) == 1 and not any("compiled the" in line for line in lines)
    assert lines[-1].startswith("compiled <lambda> in ")  # afterwards as ever


STOPPED_WHILE_IMPORTING = """
import importlib.abc, os, runpy, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("jax", "numpy"):
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["train.main", "train.evaluate", "train.plan", "run"])
def test_ctrl_c_while_a_command_imports_is_answered_in_a_word(module):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_IMPORTING, f"perceiver_jax.{module}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "stopped\n")


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


def test_a_warning_is_one_line_and_only_in_commands(capsys):
    shown = warnings.showwarning

    def main():
        with warnings.catch_warnings(record=False):
            warnings.simplefilter("always")
            warnings.warn("coordinates are odd", stacklevel=1)

    assert run_command(main) == 0
    assert capsys.readouterr().err == "warning: coordinates are odd\n"
    assert warnings.showwarning is shown
