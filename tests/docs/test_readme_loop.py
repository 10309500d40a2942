"""The loop without our trainer is taken out of the README and run, as a user would."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FIRST_LINES = "import jax\nimport optax\n"
BLOCKS = [
    block
    for block in re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    if block.startswith(FIRST_LINES)
]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the loop prints."""
    (block,) = BLOCKS
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path_factory.mktemp("loop"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_short():
    (block,) = BLOCKS
    assert len(block.splitlines()) <= 30


def test_the_loss_falls_from_that_of_guessing(printed):
    losses = [float(loss) for loss in re.findall(r"step \d+: loss ([\d.]+)", printed)]
    assert len(losses) == 5
    assert 2.0 < losses[0] < 3.0 and losses[-1] < 0.8


def test_digits_that_it_has_not_seen_are_told_apart(printed):
    (accuracy,) = re.findall(r"held out: ([\d.]+)%", printed)
    assert float(accuracy) > 80.0
