"""The check of a file against the reference implementation: it passes, and it can fail."""

import importlib.util
import re

import numpy as np
import pytest

from interop import export_weights
from interop.__main__ import main
from interop.check import MAX_REASON, Stage, check, first_difference, report
from interop.references import lucidrains
from perceiver_jax.config import ConfigError
from perceiver_jax.errors import UserError
from tests.interop.conftest import classifier, pooled

PERTURBED = "encoder/block/0/layer/1/mlp/hidden/kernel"
FILES = {
    "krasserm": (classifier("gelu", image_shape=(6, 8, 3), max_resolution=None), "x.ckpt"),
    "huggingface": (classifier("gelu"), "x"),
    "deepmind": (classifier(image_shape=(6, 8, 3)), "x.pystate"),
    "lucidrains": (pooled(), "x.pt"),
}
pytestmark = [pytest.mark.parity, pytest.mark.reference]


@pytest.fixture(scope="module", params=FILES)
def file(request, released, tmp_path_factory):
    """(format, path) of a tiny model."""
    package = {"krasserm": "perceiver", "lucidrains": "perceiver_pytorch"}
    if importlib.util.find_spec(package.get(request.param, "transformers")) is None:
        pytest.skip(f"the reference of format {request.param} is not installed")
    config, name = FILES[request.param]
    path = tmp_path_factory.mktemp(request.param) / name
    export_weights(released(config), request.param, path)
    return request.param, path


def test_every_stage_agrees(file):
    stages = check(file[0], str(file[1]))
    assert stages[0].name == "encoder/inputs" and stages[-1].name == "outputs"
    assert len(stages) > 8
    assert first_difference(stages) is None
    assert max(stage.relative for stage in stages) < 1e-12
    assert report(stages).splitlines()[-1].startswith(f"all {len(stages)} stages agree")


def test_a_perturbed_parameter_is_found_where_it_is_used(file, capsys):
    code = main(["check", file[0], str(file[1]), f"--perturb={PERTURBED}"])
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert code == 1
    assert "the first stage that parts is encoder/step/0/block/layer/1/mlp" in verdict


def test_the_batch_can_be_given(file, tmp_path, capsys):
    shape = FILES[file[0]][0].encoder.image_shape
    np.savez(tmp_path / "batch.npz", inputs=np.full((3, *shape), 0.5, np.float32))
    assert main(["check", file[0], str(file[1]), f"--batch={tmp_path / 'batch.npz'}"]) == 0
    assert "[3, 3]" in capsys.readouterr().out
    np.savez(tmp_path / "other.npz", images=np.zeros((3, *shape), np.float32))
    with pytest.raises(UserError, match="has no array 'inputs'"):
        check(file[0], str(file[1]), batch=tmp_path / "other.npz")


def test_the_command_says_what_takes_its_time_beside_the_report(file, capsys):
    assert main(["check", file[0], str(file[1])]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"compiling and running {file[0]} and ours, ")
    assert re.search(r"\ncompiled and run in [\d.]+ s\n$", said.err)
    assert said.out.startswith("stage  ")
    assert check(file[0], str(file[1]))
    assert capsys.readouterr().err == ""


def test_unknown_parameters_are_answered_with_near_ones(file):
    with pytest.raises(UserError, match=f"near are {PERTURBED}"):
        check(file[0], str(file[1]), perturb=PERTURBED[:-1])


def test_a_given_config_goes_before_what_a_file_tells(released, tmp_path, capsys):
    pytest.importorskip("perceiver_pytorch")
    export_weights(released(pooled()), "lucidrains", tmp_path / "bare.pt")
    (tmp_path / "bare.json").rename(tmp_path / "arguments.json")
    arguments = ["check", "lucidrains", str(tmp_path / "bare.pt")]
    assert main(arguments) == 1
    assert "the files do not tell these arguments" in capsys.readouterr().err
    assert main([*arguments, f"--config={tmp_path / 'arguments.json'}"]) == 0
    assert "stages agree" in capsys.readouterr().out


def test_what_a_reference_says_ends_with_a_word_and_what_we_say_is_our_own(
    released, tmp_path, monkeypatch
):
    export_weights(released(pooled()), "lucidrains", tmp_path / "x.pt")

    def refuse(error):
        def run(*_):
            raise error

        monkeypatch.setattr(lucidrains, "run", run)
        with pytest.raises(UserError) as found:
            check("lucidrains", str(tmp_path / "x.pt"))
        return str(found.value)

    assert refuse(ConfigError("give another")) == "give another"
    said = refuse(RuntimeError("\n".join(["mismatch"] * 100)))
    assert said.startswith("the reference implementation does not take this: mismatch ")
    assert said.endswith("mismatch …") and said.count("mismatch") == MAX_REASON // 9


def test_our_own_format_has_no_reference(released, tmp_path):
    export_weights(released(classifier()), "ours", tmp_path / "x")
    with pytest.raises(UserError, match="'ours' has no reference"):
        check("ours", str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("difference", "first"), [((0.0, 1e-3, 2.0), "b"), ((np.nan, 0.0, 0.0), "a"), ((0, 0, 0), None)]
)
def test_the_first_difference_is_named(difference, first):
    stages = [Stage(name, (2, 3), d, 1.0) for name, d in zip("abc", difference, strict=True)]
    found = first_difference(stages)
    assert (found and found.name) == first
    if first:
        assert report(stages).splitlines()[-1].startswith(f"the first stage that parts is {first}")


def test_other_shapes_part():
    stage = Stage.compare("x", np.zeros((2, 3)), np.zeros((2, 4)))
    assert stage.difference == np.inf
    assert first_difference([stage]) == stage
