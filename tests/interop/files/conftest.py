"""What the tests of files share: golden files, and a trap for anything that a file would run."""

import builtins
import copyreg
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of arrays made with DeepMind's own code."""
    folder = os.environ.get("PERCEIVER_GOLDEN")
    if not folder:
        pytest.skip("PERCEIVER_GOLDEN is not set; it names the folder of golden files")
    path = Path(folder) / "deepmind"
    if not path.is_dir():
        pytest.skip(f"PERCEIVER_GOLDEN={folder} has no folder 'deepmind' in it")
    return path


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    """A file's path; afterwards it must not exist, and none of the trapped functions was called."""
    sentinel = tmp_path / "sentinel"
    calls = []

    def trap(name):
        return lambda *arguments, **_: calls.append((name, arguments))

    def evaluate(code, *arguments, original=builtins.eval):
        # Modules that are imported on the way make named tuples, which are made by eval.
        if sys._getframe(1).f_globals["__name__"] != "collections":
            calls.append(("eval", code))
            return None
        return original(code, *arguments)

    copyreg.add_extension("os", "system", 1)
    monkeypatch.setattr(builtins, "eval", evaluate)
    for module, name in (
        (os, "system"),
        (os, "popen"),
        (subprocess, "getoutput"),
        (subprocess, "run"),
    ):
        monkeypatch.setattr(module, name, trap(name))
    yield sentinel
    monkeypatch.undo()
    copyreg.remove_extension("os", "system", 1)
    copyreg.clear_extension_cache()
    assert not calls
    assert not sentinel.exists()
