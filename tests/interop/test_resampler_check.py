"""The check of resamplers against Hugging Face's: it passes, and it can fail."""

import numpy as np
import pytest

from interop import export_weights
from interop.__main__ import main
from interop.check import check, first_difference
from interop.example import example_inputs
from tests.interop.conftest import IDEFICS, PROJECTION, resampler

MODELS = {
    "Idefics2": resampler(),
    "connector": resampler(**PROJECTION),
    "IDEFICS": resampler(**IDEFICS, qk_norm=True),
}
pytestmark = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture(params=MODELS)
def folder(request, released, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    export_weights(released(MODELS[request.param]), "huggingface", tmp_path / "x")
    return str(tmp_path / "x")


def test_every_stage_agrees(folder):
    stages = check("huggingface", folder)
    layers = [f"layer/{i}/{part}" for i in range(2) for part in ("attention", "mlp")]
    assert [stage.name for stage in stages] == ["inputs", *layers, "outputs"]
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12


def test_a_perturbed_parameter_is_found_where_it_is_used(folder, capsys):
    path = "layer/1/attention/value/kernel"
    assert main(["check", "huggingface", folder, f"--perturb={path}"]) == 1
    assert "that parts is layer/1/attention" in capsys.readouterr().out.splitlines()[-1]


def test_the_example_has_padding_and_frames_where_there_are_any():
    example = example_inputs(resampler(**PROJECTION), seed=0)
    assert example["inputs"].shape == (2, 6, 10)
    np.testing.assert_array_equal(example["input_mask"].sum(-1), [6, 3])
    example = example_inputs(resampler(max_frames=4), seed=0)
    assert example["inputs"].shape == (2, 4, 6, 16)
    np.testing.assert_array_equal(example["input_mask"].sum(-1), [[6] * 4, [3] * 4])
