"""The page on images of one's own: its folder is made, and its commands run on that."""

import os
import shlex
import subprocess
import sys

from tests.conftest import ROOT
from tests.docs.markdown_pages import blocks

PAGE = ROOT / "docs" / "own_images.md"


def test_the_commands_of_the_page_run_on_the_folder_of_the_page(tmp_path):
    def python(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    ((_, code),) = blocks(PAGE, "python")
    python("-c", code)
    ((_, commands),) = blocks(PAGE, "shell")
    train, classify = (shlex.split(line)[1:] for line in commands.replace("\\\n", " ").splitlines())
    python(*train, "--config.num_steps=2")
    file, *guesses = python(*classify).splitlines()
    assert file == "colors/val/red/0.png"
    assert {guess.split()[1] for guess in guesses} == {"blue", "red"}
