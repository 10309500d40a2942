"""Where a package is missing, an error says one thing, and what it says can be done."""

import ast
import tomllib
from pathlib import Path

import pytest

from perceiver_jax.errors import how_to_install

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = [*(ROOT / "perceiver_jax").rglob("*.py"), *(ROOT / "interop").rglob("*.py")]


def test_it_is_the_command_of_the_readme_with_extras():
    assert how_to_install("hub", "text").endswith(": pip install -c constraints.txt '.[hub,text]'")
    assert "pip install -c constraints.txt '.[" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "constraints.txt").is_file()


def test_every_extra_that_is_named_is_one():
    calls = [
        node
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "how_to_install"
    ]
    named = {argument.value for call in calls for argument in call.args}
    assert len(calls) > 5
    assert named <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize("folder", ["perceiver_jax", "interop", "docs", "notebooks"])
def test_nobody_is_sent_to_an_index_for_this_library(folder):
    files = [
        file
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".md", ".ipynb") and file.is_file()
    ]
    assert files
    for file in files:
        assert f"{PROJECT['name']}[" not in file.read_text(encoding="utf-8"), file
