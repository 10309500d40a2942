"""Ctrl-C: the first asks, the second ends; SIGTERM only asks; nothing else is touched."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from perceiver_jax.train.interruption import Interruption, Preempted, Request
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def default_handlers():
    """The handlers that Python installs, also where the tests run in the background."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    terminate = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_press_asks_and_raises_nothing(capfd):
    with Interruption() as interruption:
        assert interruption.request == Request.GO_ON
        press()
        assert interruption.request == Request.STOP
    assert "press Ctrl-C again" in capfd.readouterr().err


PRESSED_TWICE = """
import os, signal
from perceiver_jax.train.interruption import Interruption
signal.signal(signal.SIGINT, signal.default_int_handler)
with Interruption() as interruption:
    interruption.unsaved = 1234
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
print("still here")
"""


def test_the_second_press_ends_the_process_at_once_and_says_what_is_lost():
    done = subprocess.run([sys.executable, "-c", PRESSED_TWICE], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (130, b"")
    assert b"stopped at once; up to 1,234 steps are lost\n" in done.stderr


def test_afterwards_ctrl_c_is_as_before():
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        press()
        assert interruption.request == Request.GO_ON


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_termination_asks_for_more_than_a_press_and_raises_nothing(capfd):
    with Interruption() as interruption:
        press()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.request == Request.VACATE == max(Request)
    assert "SIGTERM: saving after this step" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_others_for_termination_stays():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert (seen, interruption.request) == ([signal.SIGTERM], Request.GO_ON)


def test_a_preempted_run_ends_with_the_exit_code_for_temporary_failures():
    assert Preempted().code == os.EX_TEMPFAIL == 75
