"""The blocks of the page on deploying, as they stand there."""

import ast
import pathlib
import re
from typing import Any

import numpy as np
from jax import export

from configs import mnist5k
from perceiver_jax.config import from_dict
from perceiver_jax.export import artifact
from perceiver_jax.train.config import ExperimentConfig

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "deploy.md"
USE, OWN, IMPORTED, PART = re.findall(
    r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S
)


def test_the_lines_that_use_an_artifact_run(random_release, tmp_path, monkeypatch):
    model = from_dict(ExperimentConfig, mnist5k.get_config()).model
    artifact.export_release(random_release(model), tmp_path / "runs" / "mnist5k" / "export")
    monkeypatch.chdir(tmp_path)
    namespace = {"images": np.zeros((3, 28, 28, 1), np.float32)}
    exec(USE, namespace)
    assert namespace["logits"].shape == (3, 10)


def test_a_modality_of_ones_own_tells_its_arrays_as_the_page_does():
    namespace = {}
    exec(OWN, namespace)
    told = namespace["EventsConfig"].input_arrays(None)
    assert told["inputs"]["values"].shape == told["input_mask"].shape


def test_a_part_of_a_program_is_exported_as_the_page_does():
    namespace: dict[str, Any] = {}
    exec(PART, namespace)
    inputs, queries = np.ones((1, 40, 3), np.float32), np.ones((1, 7, 8), np.float32)
    program = export.deserialize(namespace["content"])
    got = program.call(namespace["weights"], inputs, queries)
    np.testing.assert_allclose(got, namespace["model"](inputs, queries=queries), atol=1e-5)


def test_what_the_page_imports_is_there():
    compile(IMPORTED, "deploy.md", "exec")
    for node in ast.parse(IMPORTED).body:
        if isinstance(node, ast.ImportFrom):
            exec(ast.unparse(node), {})
    assert "export_run(" in IMPORTED
