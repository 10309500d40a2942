"""How a run shows itself: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping

import jax
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from perceiver_jax.command import make_console

LINES = 20
"""Of training metrics where there is no bar, a run's worth; `metrics.jsonl` has every row."""
LONGEST_SILENCE_S = 60.0
"""After which there is a line all the same: a long run is seen to be alive."""


class ProgressReport:
    """Tells the user how far training is.

    Args:
        num_steps: steps of the whole run.
        first_step: steps already done.
    """

    def __init__(self, num_steps: int, first_step: int):
        self._console = make_console(
            file=sys.stdout, quiet=jax.process_index() != 0, highlight=False
        )
        self._num_steps, self._first_step = num_steps, first_step
        self._live = self._console.is_terminal
        self._started: float | None = None
        self._shown_step, self._shown_at = first_step, time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._row = self._bar.add_task(
            "", total=num_steps, completed=first_step, status="compiling"
        )

    def __enter__(self) -> "ProgressReport":
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._bar.stop()

    def step(self, step: int) -> None:
        """Moves the bar. The first step, which compiles, does not count for the time left."""
        if self._started is None:
            self._started, self._first_step = time.monotonic(), step
        if self._live:
            self._bar.update(self._row, completed=step)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Shows training metrics: in the bar, or as a line where one is due."""
        status = _describe(values, "train/", "perf/steps_per_s")
        if self._live:
            self._bar.update(self._row, completed=step, status=status)
        elif self._is_due(step):
            self._shown_step, self._shown_at = step, time.monotonic()
            self.line(f"step {step:,} of {self._num_steps:,}  {status}  {self._time_left(step)}")

    def line(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _is_due(self, step: int) -> bool:
        """Whether another part of the run is over since the last line, or a long time."""
        over, shown = (at * LINES // self._num_steps for at in (step, self._shown_step))
        return over > shown or time.monotonic() - self._shown_at >= LONGEST_SILENCE_S

    def _time_left(self, step: int) -> str:
        done = step - self._first_step
        if self._started is None or not done:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self._num_steps - step)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"


def _describe(values: Mapping[str, float], *prefixes: str) -> str:
    words = []
    for name, value in values.items():
        if name.startswith(prefixes):
            short = name.rpartition("/")[2].replace("_per_s", "/s").replace("_", " ")
            words.append(f"{short} {value:.4g}")
    return "  ".join(words)
