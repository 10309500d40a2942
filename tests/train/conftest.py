"""What tests of training share: tiny runs and the golden files."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden_training():
    """Numbers made with DeepMind's own ImageNet training code: `{name: array}`."""
    folder = os.environ.get("PERCEIVER_GOLDEN")
    if not folder:
        pytest.skip("PERCEIVER_GOLDEN is not set; it names the folder of golden files")
    path = Path(folder) / "deepmind" / "training.npz"
    if not path.is_file():
        pytest.skip(f"PERCEIVER_GOLDEN={folder} has no deepmind/training.npz in it")
    with np.load(path) as file:
        return dict(file)
