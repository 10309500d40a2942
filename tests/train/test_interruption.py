"""Ctrl-C: the first asks, the second ends; nothing else is touched."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from perceiver_jax.train.interruption import Interruption
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def default_handler():
    """The handler that Python installs, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_press_raises_only_where_it_is_asked_for(capfd):
    with Interruption() as interruption:
        interruption.check()
        press()
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
    assert "press Ctrl-C again" in capfd.readouterr().err


PRESSED_TWICE = """
import os, signal
from perceiver_jax.train.interruption import Interruption
signal.signal(signal.SIGINT, signal.default_int_handler)
with Interruption():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
print("still here")
"""


def test_the_second_press_ends_the_process_at_once():
    done = subprocess.run([sys.executable, "-c", PRESSED_TWICE], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (130, b"")


def test_afterwards_ctrl_c_is_as_before():
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        press()
        interruption.check()


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
