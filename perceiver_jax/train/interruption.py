"""Ctrl-C and SIGTERM between two steps: what a step, an evaluation or a save has begun is finished.

- Ctrl-C is a person who wants to stop, SIGTERM a cluster that wants its machine back and will soon
  kill. Both save the run; they end with different exit codes, as a cluster starts it again.
"""

import enum
import os
import signal
import threading
from types import FrameType
from typing import Any

NOTICE = b"\nsaving after this step, then stopping; press Ctrl-C again to stop at once\n"
SAVING = b"\nSIGTERM: saving after this step\n"


class Request(enum.IntEnum):
    """What a run is asked to do; of several processes, the greatest counts."""

    GO_ON = 0
    STOP = 1
    """save and stop"""
    VACATE = 2
    """save and end as `Preempted`"""


class Preempted(SystemExit):
    """A run ended on SIGTERM and is saved.

    Exit code 75, EX_TEMPFAIL of sysexits.h, tells a launcher that the same command goes on.
    """

    def __init__(self):
        super().__init__(75)


class Interruption:
    """While inside, signals only ask; what they ask for is done at a place of our choice.

    A `KeyboardInterrupt` anywhere else could leave a checkpoint's writer threads waiting for ever,
    or be swallowed in a callback. A second Ctrl-C ends the process at once, which loses no more
    than a kill does. Where a signal is ignored or handled otherwise, and outside the main thread,
    which alone can handle signals, nothing changes.

    Attributes:
        request: what this process was asked to do.
        unsaved: steps that a second Ctrl-C loses at most; the run counts them here.
    """

    def __init__(self):
        self.request = Request.GO_ON
        self.unsaved = 0
        self._before: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._handle(signal.SIGINT, signal.default_int_handler, self._ask)
            self._handle(signal.SIGTERM, signal.SIG_DFL, self._terminate)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, default: Any, handler: Any) -> None:
        if signal.getsignal(number) is default:
            self._before[number] = signal.signal(number, handler)

    # `print` is not safe in handlers: the signal may have come in the middle of one.

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.request != Request.GO_ON:
            os.write(2, f"\nstopped at once; up to {self.unsaved:,} steps are lost\n".encode())
            os._exit(128 + number)
        self.request = Request.STOP
        os.write(2, NOTICE)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.request = Request.VACATE
        os.write(2, SAVING)
