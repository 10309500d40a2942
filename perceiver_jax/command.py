"""What all commands share: compilation told of, mistakes in a sentence, a console, a source."""

import argparse
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from perceiver_jax.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def make_console(**options: Any) -> "Console":
    """A rich console; in a notebook one that writes plain lines, as into a file.

    There rich would show every line as a figure of its own, and move a cursor that is none.
    """
    from rich.console import Console

    if Console().is_jupyter:
        options |= {"force_jupyter": False, "force_terminal": False}
    return Console(**options)


COMPILATION = "/jax/core/compile/backend_compile_duration"
"""What JAX calls the event in which XLA compiles a program, or fetches it from the cache."""
PATIENCE_S = 1.0
"""How long a program compiles before anything is said of it."""


_told_as: ContextVar[str | None] = ContextVar("told_as", default=None)


@contextlib.contextmanager
def compilation_told_as(name: str) -> Iterator[None]:
    """What compiles inside is told of as one, in a line at most, and once in a command.

    For work of several programs, between which results are shown.
    """
    before = _told_as.set(name)
    try:
        yield
    finally:
        _told_as.reset(before)


class CompilationNotice:
    """Says on standard error which program compiles, and how long it took, where that is long.

    Lines are printed and not sent through a console of their own: a live bar of the command then
    shows them above itself.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._timers: dict[int, threading.Timer] = {}
        self._told: set[int] = set()
        self._names: set[str] = set()

    def __enter__(self) -> "CompilationNotice":
        import jax

        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_duration_secs_listener(self._end)
        return self

    def __exit__(self, *exc: object) -> None:
        import jax

        jax.monitoring.unregister_scalar_listener(self._begin)
        jax.monitoring.unregister_event_duration_listener(self._end)

    def _begin(self, event: str, value: float, **about: Any) -> None:
        name = _told_as.get()
        if event == COMPILATION and name not in self._names:
            thread, program = threading.get_ident(), _readable(about)
            tell = self._tell if name is None else self._tell_once
            timer = threading.Timer(PATIENCE_S, lambda: tell(thread, timer, name or program))
            timer.daemon = True
            self._timers[thread] = timer
            timer.start()

    def _tell(self, thread: int, timer: threading.Timer, program: str) -> None:
        with self._lock:
            if self._timers.get(thread) is timer:
                self._told.add(thread)
                _print_from_first(f"compiling {program} …")

    def _tell_once(self, thread: int, timer: threading.Timer, name: str) -> None:
        with self._lock:
            if self._timers.get(thread) is timer:
                self._names.add(name)
                _print_from_first(f"compiling {name} …")

    def _end(self, event: str, duration_secs: float, **about: Any) -> None:
        if event == COMPILATION:
            thread = threading.get_ident()
            with self._lock:
                if timer := self._timers.pop(thread, None):
                    timer.cancel()
                told = thread in self._told
                self._told.discard(thread)
            if told:
                _print_from_first(f"compiled {_readable(about)} in {duration_secs:.1f} s")


def _readable(about: Mapping[str, Any]) -> str:
    """`train step` of `jit(train_step)`, where the event has the name."""
    return (
        about.get("fun_name", "a program")
        .removeprefix("jit(")
        .removesuffix(")")
        .strip("_")
        .replace("_", " ")
    )


def _print_from_first(line: str) -> None:
    """Of processes that compile the same, one says so."""
    import jax

    if jax.process_index() == 0:
        print(line, file=sys.stderr, flush=True)


def run_command(main: Callable[[], int | None], *, stopped: str = "stopped") -> int:
    """Runs a command, tells what it compiles, and ends what is not its fault in a sentence.

    Args:
        main: does the work; returns an exit code, or None for success.
        stopped: what to say after Ctrl-C where the work itself does not.

    Returns:
        The exit code: 1 after a `UserError`, 130 after Ctrl-C.
    """
    try:
        # Here, and not above: a command line that is wrong is refused before jax has loaded.
        from perceiver_jax import compilation_cache

        compilation_cache.enable()
        with CompilationNotice(), warnings.catch_warnings():
            warnings.showwarning = _shown_warning
            code = main() or 0
        sys.stdout.flush()  # here, and not when Python ends, is where a closed pipe is caught
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output, `head` for example, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        print(str(error) or stopped, file=sys.stderr)
        return 130


def _shown_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning in one line: where it was raised says nothing to who called a command."""
    print(f"warning: {message}", file=sys.stderr)


def stop_without_trace() -> None:
    """Makes Ctrl-C a word while a command imports what it needs; call it before it does.

    Python itself then ends the process as the signal does, which a shell shows as 130.
    """
    sys.excepthook = _shown_unless_stopped


def _shown_unless_stopped(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def add_source_arguments(parser: argparse.ArgumentParser, example: str) -> None:
    """The options of a command that uses a model: `--source`, and `--step` of a run."""
    parser.add_argument(
        "--source",
        required=True,
        help=f"workdir of a run, or FORMAT:PATH-OR-HUB-ID, as in {example}",
    )
    add_step_argument(parser)


def add_step_argument(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a checkpoint of a run."""
    parser.add_argument(
        "--step",
        type=_step,
        help="of a run: which checkpoint, or best (default: the newest)",
    )


def _step(text: str) -> int | Literal["best"]:
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no number of steps, and not 'best'")
    return int(text)
