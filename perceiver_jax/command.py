"""What all commands share: programs compiled once, and mistakes answered in a sentence."""

import os
import sys
from collections.abc import Callable

from perceiver_jax.errors import UserError


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
