"""The check of language models against the reference implementations, padding included."""

import importlib.util

import numpy as np
import pytest

from interop import export_weights
from interop.__main__ import main
from interop.check import check, first_difference
from tests.interop.conftest import language_model, text_classifier

FILES = {
    # case: (format, package of its reference, config, place)
    "deepmind": ("deepmind", "transformers", language_model(), "x.pickle"),
    "huggingface": ("huggingface", "transformers", language_model(), "x"),
    "huggingface, classes": ("huggingface", "transformers", text_classifier(), "x"),
    "krasserm": ("krasserm", "perceiver", language_model("gelu"), "x.ckpt"),
    "krasserm, classes": ("krasserm", "perceiver", text_classifier(), "x.ckpt"),
}
PERTURBED = "decoder/output_adapter/queries"
pytestmark = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture(scope="module", params=FILES)
def file(request, released, tmp_path_factory):
    """(format, path) of a tiny model."""
    format_, package, config, place = FILES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the reference of format {format_} is not installed")
    path = tmp_path_factory.mktemp(format_) / place
    export_weights(released(config), format_, path)
    return format_, str(path)


def test_every_stage_agrees(file):
    stages = check(*file)
    assert stages[0].name == "encoder/inputs" and stages[-1].name == "outputs"
    assert len(stages) > 8
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12


def test_a_perturbed_parameter_is_found_where_it_is_used(file, capsys):
    assert main(["check", *file, f"--perturb={PERTURBED}"]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert "the first stage that parts is decoder/queries" in verdict


def test_the_batch_can_be_given(file, tmp_path, capsys):
    ids = np.arange(15, dtype=np.int32).reshape(3, 5)
    np.savez(tmp_path / "batch.npz", inputs=ids, input_mask=ids % 5 < 3)
    assert main(["check", *file, f"--batch={tmp_path / 'batch.npz'}"]) == 0
    assert "[3, 5, 8]" in capsys.readouterr().out
