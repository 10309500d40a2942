"""What all commands share: programs compiled once, mistakes in a sentence, a console."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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


def run_command(main: Callable[[], int | None], *, stopped: str = "stopped") -> int:
    """Runs a command, and ends what is not its fault in a sentence.

    Args:
        main: does the work; returns an exit code, or None for success.
        stopped: what to say after Ctrl-C.

    Returns:
        The exit code: 1 after a `UserError`, 130 after Ctrl-C.
    """
    try:
        # Here, and not above: a command line that is wrong is refused before jax has loaded.
        from perceiver_jax import compilation_cache

        compilation_cache.enable()
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
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
