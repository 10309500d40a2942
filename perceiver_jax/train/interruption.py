"""Ctrl-C between two steps: what a step, an evaluation or a checkpoint has begun is finished."""

import os
import signal
import threading
from types import FrameType

NOTICE = b"\nstopping after this step; press Ctrl-C again to stop at once\n"


class Interruption:
    """While inside, a first Ctrl-C only asks; `check` then raises at a place of our choice.

    A `KeyboardInterrupt` anywhere else could leave a checkpoint's writer threads waiting for ever,
    or be swallowed in a callback. A second Ctrl-C ends the process at once, which loses no more
    than a kill does. Where Ctrl-C is ignored or handled otherwise, and outside the main thread,
    which alone can handle signals, nothing changes.
    """

    def __init__(self):
        self._asked = False
        self._before = None

    def __enter__(self):
        handler = signal.getsignal(signal.SIGINT)
        main_thread = threading.current_thread() is threading.main_thread()
        if main_thread and handler is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(128 + number)
        self._asked = True
        # `print` is not safe here: the signal may have come in the middle of one.
        os.write(2, NOTICE)
