"""Lines of a run where there is no terminal: few, and never none for long."""

import types

from perceiver_jax.train import progress
from perceiver_jax.train.progress import LINES, ProgressReport


def shown(capsys, num_steps, every, first_step=0):
    """Steps that a run with a row of metrics every so many steps prints."""
    report = ProgressReport(num_steps, first_step)
    for step in range(first_step + 1, num_steps + 1):
        report.step(step)
        if step % every == 0 or step == num_steps:
            report.metrics(step, {"train/loss": 1.0})
    lines = capsys.readouterr().out.splitlines()
    return [int(line.split()[1].replace(",", "")) for line in lines]


def test_a_run_prints_a_number_of_lines_that_can_be_read(capsys):
    steps = shown(capsys, num_steps=3000, every=20)
    assert len(steps) == LINES and steps[-1] == 3000
    assert {after - before for before, after in zip(steps, steps[1:], strict=False)} <= {140, 160}
    assert shown(capsys, num_steps=3, every=1) == [1, 2, 3]
    assert shown(capsys, num_steps=3000, every=1000) == [1000, 2000, 3000]
    assert shown(capsys, num_steps=3000, every=20, first_step=2700) == [2860, 3000]


def test_a_long_run_is_heard_of_between(capsys, monkeypatch):
    seconds = iter(range(10**6))
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    often = shown(capsys, num_steps=100_000, every=20)
    assert len(often) > 2 * LINES
