"""The start-up benchmark: what it times, and what it says."""

import json

import pytest

from benchmarks import startup
from perceiver_jax.errors import UserError
from tests.conftest import ROOT

TIMES = {
    "import this": {"warm": [0.02, 0.01, 9.0]},
    "first step of that": {"cold": [3.0, 4.0, 2.0], "warm": [1.25]},
}


def test_a_first_step_is_timed_and_leaves_programs_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    seconds = startup.first_step_seconds(f"{ROOT}/tests/train/tiny_runs.py", tmp_path)
    assert seconds > 0
    assert list((tmp_path / "perceiver_jax" / "xla").glob("jit_train_step-*-cache"))


def test_a_command_that_ends_before_its_first_step_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no config file imagenet_b"):
        startup.first_step_seconds("imagenet_b", tmp_path)


def test_the_table_has_medians_and_the_file_every_time(tmp_path):
    table = startup.table(TIMES)
    assert [list(column.cells) for column in table.columns] == [
        list(TIMES),
        ["", "3.00"],
        ["0.02", "1.25"],
    ]
    startup.write(tmp_path / "new" / "startup.json", TIMES)
    assert json.loads((tmp_path / "new" / "startup.json").read_text())["seconds"] == TIMES
