"""The check of models of texts and music against the reference implementations, with padding."""

import importlib.util

import numpy as np
import pytest

from interop import export_weights
from interop.__main__ import main
from interop.check import check, first_difference
from tests.interop.conftest import MUSIC, causal_model, language_model, text_classifier

FILES = {
    # case: (format, package of its reference, config, place)
    "deepmind": ("deepmind", "transformers", language_model(), "x.pickle"),
    "huggingface": ("huggingface", "transformers", language_model(), "x"),
    "huggingface, classes": ("huggingface", "transformers", text_classifier(), "x"),
    "krasserm": ("krasserm", "perceiver", language_model("gelu"), "x.ckpt"),
    "krasserm, classes": ("krasserm", "perceiver", text_classifier(), "x.ckpt"),
}
PERTURBED = "decoder/output_adapter/queries"
CAUSAL_LAYERS = ("cross_attention/0", "block/layer/0", "block/layer/1")
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


@pytest.fixture(scope="module", params=["bytes", "music", "latents alone"])
def causal_file(request, released, tmp_path_factory):
    """(format, path) of a tiny causal model."""
    if importlib.util.find_spec("perceiver") is None:
        pytest.skip("the reference of format krasserm is not installed")
    fields = {"bytes": {}, "music": MUSIC, "latents alone": {"max_latents": 12}}
    path = tmp_path_factory.mktemp("causal") / "x.ckpt"
    export_weights(released(causal_model(remat=True, **fields[request.param])), "krasserm", path)
    return "krasserm", str(path)


def test_every_stage_of_a_causal_model_agrees(causal_file):
    stages = check(*causal_file)
    assert [stage.name for stage in stages] == [
        "inputs",
        *(f"{at}/{part}" for at in CAUSAL_LAYERS for part in ("attention", "mlp")),
        "outputs",
    ]
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("block/layer/1/mlp/output/kernel", "block/layer/1/mlp"),
        ("cross_attention/0/q_norm/scale", "cross_attention/0/attention"),
        ("input_adapter/token_embedding", "inputs"),
    ],
)
def test_a_perturbed_causal_model_is_found(path, stage, causal_file, capsys):
    assert main(["check", *causal_file, f"--perturb={path}"]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert f"the first stage that parts is {stage}, by" in verdict


def test_a_batch_for_a_causal_model(released, tmp_path, capsys):
    if importlib.util.find_spec("perceiver") is None:
        pytest.skip("the reference of format krasserm is not installed")
    export_weights(released(causal_model()), "krasserm", tmp_path / "x.pt")
    arguments = ["check", "krasserm", str(tmp_path / "x.pt"), f"--batch={tmp_path / 'batch.npz'}"]
    ids = np.arange(24, dtype=np.int32).reshape(3, 8)
    np.savez(tmp_path / "batch.npz", inputs=ids, num_latents=np.asarray(6))
    assert main(arguments) == 0
    assert "[3, 6, 16]" in capsys.readouterr().out
    np.savez(tmp_path / "batch.npz", ids=ids)
    assert main(arguments) == 1
    assert "has no array 'inputs'" in capsys.readouterr().err
