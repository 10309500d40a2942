"""A full disk ends a run in a sentence, whoever wrote last: checkpoints, metrics or events."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from perceiver_jax.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, quota used up, file larger than allowed."""


@contextlib.contextmanager
def explained(workdir: Path) -> Iterator[None]:
    """Says what to do where something inside fails because the disk of a workdir is full."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore have many types, and numbers in the text
        reason = _reason(error)
        if reason is None:
            raise
        raise UserError(
            f"{workdir} could not be written to: {reason}. What was saved before is whole in "
            f"{workdir / 'checkpoints'}; free some space, or lower --config.checkpoint.keep_last "
            "and keep_best, and the same command goes on from there"
        ) from error


def _reason(error: BaseException | None) -> str | None:
    """The system's words for a full disk in an error or in what led to it, if they are there."""
    while error is not None:
        for number in FULL:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None
