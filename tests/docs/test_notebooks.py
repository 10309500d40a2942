"""Every notebook runs from top to bottom without a network, and is saved with clean outputs."""

import importlib.util
import json
import os
import pathlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MAX_OUTPUT_BYTES = 200_000
MACHINE = re.compile(r"/(work|home|root|tmp|Users|usr|opt|mnt|private|var)/|[A-Z]:\\\\|-packages/")
"""Places on the machine that a notebook was executed on."""
WARNING = re.compile(r"\b\w*Warning: ")
NOISE = re.compile(r"^\s*(?:[%!]|get_ipython|from tqdm)", re.M)
"""Lines of code that only a notebook understands."""
COMPILE_FAST = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
"""Set for the other tests, which compile much and run little; notebooks train."""

FETCHED = {"music": "perceiver_jax.data.music.chorales"}
"""Notebooks whose data a command fetches: they are executed where it was."""

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def outputs(notebook):
    return [output for cell in cells(notebook, "code") for output in cell.outputs]


def texts(notebook):
    """What outputs say in words, pictures left out."""
    for output in outputs(notebook):
        yield output.get("text", "")
        for kind, data in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield data if isinstance(data, str) else json.dumps(data)


def test_there_are_notebooks_and_the_readme_lists_them():
    listed = re.findall(r"\]\(([\w]+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == [path.name for path in PATHS]
    assert len(PATHS) >= 3


@each
def test_it_runs_in_an_empty_folder_without_a_network(path, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in COMPILE_FAST}
    if path.stem in FETCHED:
        if not importlib.import_module(FETCHED[path.stem]).path_of(None).is_file():
            pytest.skip(f"fetch its data: python -m {FETCHED[path.stem]}")
    else:
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    # Nobody listens there: whoever wants to fetch something fails at once.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        environment[name] = environment[name.upper()] = "http://127.0.0.1:9"
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    folder = tmp_path / "cwd"
    folder.mkdir()
    saved, notebook = read(path), read(path)
    client = NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)  # raises where a cell does
    assert [text for text in texts(notebook) if WARNING.search(text)] == []
    for cell, before in zip(notebook.cells, saved.cells, strict=True):
        assert bool(cell.get("outputs")) == bool(before.get("outputs")), cell.source


@each
def test_it_was_executed_once_from_top_to_bottom(path):
    code = cells(read(path), "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@each
def test_its_outputs_are_saved_and_hold_pictures_and_no_noise(path):
    notebook = read(path)
    found = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in found)
    assert {output.output_type for output in found} <= {"stream", "display_data", "execute_result"}
    assert [output.text for output in found if output.get("name") == "stderr"] == []
    for text in texts(notebook):
        assert not MACHINE.search(text), text
        assert not WARNING.search(text), text
        assert "\x1b" not in text, text
    for output in found:
        assert len(json.dumps(output)) <= MAX_OUTPUT_BYTES


@each
def test_its_cells_are_source_alone(path):
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.source.strip() and not cell.metadata, cell.source
        assert not MACHINE.search(cell.source), cell.source
    for cell in cells(notebook, "code"):
        assert not NOISE.search(cell.source), cell.source


@each
def test_it_begins_with_a_title(path):
    first, *_ = read(path).cells
    assert first.cell_type == "markdown" and first.source.startswith("# ")


@each
def test_commands_that_it_names_exist(path):
    prose = " ".join(cell.source for cell in cells(read(path), "markdown"))
    for module, config in re.findall(r"python -m ([\w.]+)(?:\s+--config=([\w./]+))?", prose):
        assert importlib.util.find_spec(module), module
        if config not in ("", "FILE"):
            name = config.removeprefix("configs/").removesuffix(".py")
            assert (ROOT / "configs" / f"{name}.py").is_file(), config
