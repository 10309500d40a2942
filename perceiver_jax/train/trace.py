"""Profile traces on demand: `touch WORKDIR/trace` has the next steps of a run traced.

- Also before the run starts. A number in the file says how many steps; five without one.
- The first process alone traces, itself and its own devices.
- TensorBoard shows traces, with its profile plugin, beside the metrics; Perfetto opens them, too.
"""

from collections.abc import Callable
from pathlib import Path

import jax

NUM_STEPS = 5
"""Steps that are traced where the file names no number."""

REQUEST = "trace"
"""Name of the file in the workdir that asks for a trace."""


class Tracer:
    """Traces steps of a run when it is asked to; a trace that is going on ends with the `with`.

    Args:
        workdir: of the run.
        say: tells the user where a trace is.
    """

    def __init__(self, workdir: Path, say: Callable[[str], None]):
        self._request, self._directory = workdir / REQUEST, workdir / "tensorboard"
        self._say, self._left = say, 0
        self._asked = jax.process_index() == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._left:
            self._stop()

    def before_step(self) -> None:
        """Begins a trace if one is asked for."""
        if not self._left and self._asked and self._request.is_file():
            self._left = self._taken()
            jax.profiler.start_trace(self._directory)

    def after_step(self, results: object) -> None:
        """Ends a trace behind its last step.

        Args:
            results: arrays of the step, which the devices may still be working on.
        """
        if not self._left:
            return
        self._left -= 1
        if not self._left:
            jax.block_until_ready(results)
            self._stop()

    def _taken(self) -> int:
        """How many steps are asked for; the request is taken away."""
        words = self._request.read_text(encoding="utf-8", errors="replace").split()
        self._request.unlink()
        if words and words[0].isdecimal() and int(words[0]) > 0:
            return int(words[0])
        if words:
            self._say(f"{self._request} names no number of steps, {words[0]!r}; {NUM_STEPS} taken")
        return NUM_STEPS

    def _stop(self) -> None:
        self._left = 0
        jax.profiler.stop_trace()
        self._say(f"trace        {self._directory / 'plugins' / 'profile'}")
