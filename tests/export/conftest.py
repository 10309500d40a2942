"""What tests of artifacts share: random models of every family, and artifacts of them."""

import pathlib
import subprocess
import sys

import jax
import pytest

from perceiver_jax import models
from perceiver_jax.models.release import release
from tests.export.families import FAMILIES

RUNNER = pathlib.Path(__file__).with_name("run_artifacts.py")


@pytest.fixture(scope="session")
def random_release(random_model):
    """A function that makes a random model of a config, or of a family by name, as data."""

    def make(config):
        config = FAMILIES[config][0] if isinstance(config, str) else config
        return release(random_model(lambda: models.build(config, jax.random.key(0))))

    return make


@pytest.fixture(scope="session")
def run_artifacts(tmp_path_factory):
    """A function that runs artifacts in a process that has not loaded this library."""

    def run(*folders):
        done = subprocess.run(
            [sys.executable, str(RUNNER), *map(str, folders)],
            cwd=tmp_path_factory.mktemp("elsewhere"),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr

    return run
