"""Errors whose message is all that a user needs: commands print it without a stack trace."""

import os
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something outside the code is wrong; the message names it, what was expected, the remedy."""


def run_command(main: Callable[[], int | None]) -> int:
    """Runs a command, and ends what is not its fault in a sentence.

    Args:
        main: does the work; returns an exit code, or None for success.

    Returns:
        The exit code.
    """
    try:
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
        print("stopped", file=sys.stderr)
        return 130
