"""The files of the tutorial are taken out of the page, and its commands run, as a user would."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bring_your_own_modality.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^\*\*`([\w.]+)`\*\*\n\n```python\n(.*?)^```$", PAGE, re.M | re.S))
CHECKS, REAL, BIGGER, IMPUTING, *OTHERS = [
    block.splitlines() for block in re.findall(r"^```shell\n(.*?)^```$", PAGE, re.M | re.S)
]
"""Commands of the page, block by block."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of the page, and nothing else."""
    made = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (made / name).write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def run(folder):
    """A function that runs a command of the page in that folder: (exit code, what it printed)."""

    def start(line):
        program, *arguments = shlex.split(line)
        assert program == "python"
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    return start


@pytest.fixture(scope="module")
def trained(run, folder):
    """The workdir of the page's run of three steps."""
    code, printed = run(CHECKS[2])
    assert code == 0, printed
    assert "final  held-out  accuracy" in printed
    return folder / "runs" / "smoke"


def test_every_python_block_of_the_page_is_a_file_with_a_name():
    assert PAGE.count("```python") == len(FILES) == 6
    for name, text in FILES.items():
        compile(text, name, "exec")
        assert PAGE.count(f"`{name}`") > 1


def test_the_tests_of_the_page_pass(run):
    code, printed = run(CHECKS[0])
    assert code == 0 and "3 passed" in printed, printed


def test_the_config_of_the_page_is_shown_with_its_fields(run):
    code, printed = run(CHECKS[1])
    assert code == 0, printed
    assert "encoder: EventsConfig" in printed and "of a sensor's learned embedding" in printed


def test_the_trained_model_is_evaluated_loaded_and_looked_at(run, trained):
    assert (trained / "checkpoints" / "3").is_dir()
    code, printed = run(CHECKS[3])
    assert code == 0, printed
    assert "'step': 3" in printed
    assert re.search(r"^predicted: \w+, \w+\nreal:      (slow|fast), \w+$", printed, re.M)
    assert len(re.findall(r"of the attention is on sensor [01] at time \d", printed)) == 5


def test_a_command_that_knows_nothing_of_the_files_says_what_the_page_says(run, trained):
    code, printed = run(f"python -m perceiver_jax.train.evaluate --workdir={trained}")
    assert code == 1 and "Traceback" not in printed
    (said,) = re.findall(r"and says so: `(.*?)`", PAGE.replace("\n", " "))
    assert said in printed


def test_real_data_takes_the_commands_that_were_checked():
    fetch, train, use = REAL
    assert importlib.util.find_spec(fetch.split()[2]) is not None
    real = {":smoke": "", "runs/smoke": "runs/events"}
    for checked, command in ((CHECKS[2], train), (CHECKS[3], use)):
        for old, new in real.items():
            checked = checked.replace(old, new)
        assert checked == command


def test_the_bigger_model_is_one(run):
    (command,) = BIGGER
    code, printed = run(command)
    assert code == 0, printed
    assert int(re.findall(r"([\d,]+) parameters", printed)[-1].replace(",", "")) > 10_000_000


def test_an_output_of_a_new_kind_is_trained(run):
    (command,) = IMPUTING
    code, printed = run(command)
    assert code == 0, printed
    (error,) = re.findall(r"held-out squared error is ([\d.]+)", printed)
    assert 0.2 < float(error) < 1.2


def test_what_the_page_changes_are_fields_of_the_configs_that_it_names():
    names = {name for block in OTHERS for name in re.findall(r"--config=([\w:]+)", str(block))}
    assert names == {"japanese_vowels", "japanese_vowels:smoke"}
    tree = importlib.import_module("configs.japanese_vowels").get_config("smoke")
    paths = set(re.findall(r"--config\.([\w.]+)=", PAGE[PAGE.index("## Choosing bands") :]))
    assert len(paths) > 5
    for path in paths:
        *groups, field = path.split(".")
        group = tree
        for name in groups:
            group = group[name]
        assert field in group, path
