"""What the comparisons share: float64 in both frameworks, and where golden files lie."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def torch_float64(float64):
    """Computes in float64 in both frameworks: a tolerance of 1e-10 then speaks of the function.

    PyTorch takes one thread: those of tiny models wait for each other, on a busy machine for long.
    """
    torch = pytest.importorskip("torch")
    dtype, num_threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="module")
def offline():
    """transformers does not look for files on the hub."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("transformers", reason="needs transformers")
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    yield
    if before is None:
        del os.environ["HF_HUB_OFFLINE"]
    else:
        os.environ["HF_HUB_OFFLINE"] = before


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
