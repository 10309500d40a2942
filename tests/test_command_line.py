"""Commands: what they take, what they print, and mistakes answered in a sentence."""

import json
import os
import subprocess
import sys

import pytest

from perceiver_jax.errors import UserError
from perceiver_jax.train import command_line
from perceiver_jax.train.main import train
from tests.conftest import ROOT
from tests.train import tiny_runs

TINY = f"--config={ROOT}/tests/train/tiny_runs.py"
FILE = "{tmp}/file"
OTHER = "{tmp}/other"

# Command and arguments → words of the answer. Each of them ends before the first step.
MISTAKES = {
    "a field at the top": (
        ["train.main", TINY, "--config.num_step=3"],
        [
            "the config has no field 'config.num_step'; did you mean 'config.num_steps'?",
            f"All fields: python -m perceiver_jax.config {ROOT}/tests/train/tiny_runs.py\n",
        ],
    ),
    "a nested field": (
        ["train.main", TINY, "--config.model.encoder.num_frequency_band=3"],
        [
            "the config has no field 'config.model.encoder.num_frequency_band'",
            "did you mean 'config.model.encoder.num_frequency_bands'?",
        ],
    ),
    "a field in another group": (
        ["train.main", TINY, "--config.seed=1", "--config.model.learning_rate", "3"],
        [
            "the config has no field 'config.model.learning_rate'",
            "did you mean 'config.optimizer.learning_rate'?",
        ],
    ),
    "a field of what is no group": (
        ["train.main", TINY, "--config.num_steps.x=3"],
        ["the config has no field 'config.num_steps.x'\n"],
    ),
    "an unknown field to unset": (
        ["train.main", TINY, "--config.optimizer.clip_nor=None"],
        ["'config.optimizer.clip_nor'; did you mean 'config.optimizer.clip_norm'?"],
    ),
    "a word for a number": (
        ["train.main", TINY, "--config.num_steps=three"],
        ["error: config.num_steps='three' is not valid; it takes int\n"],
    ),
    "a fraction for a count": (
        ["train.main", TINY, "--config.data.batch_size=1.5"],
        ["error: config.data.batch_size='1.5' is not valid; it takes int\n"],
    ),
    "a word for a fraction": (
        ["train.main", TINY, "--config.optimizer.learning_rate=fast"],
        ["error: config.optimizer.learning_rate='fast' is not valid; it takes float\n"],
    ),
    "a word that is no choice": (
        ["train.main", TINY, "--config.optimizer.name=adan"],
        ["config.optimizer.name='adan' is not valid; it takes", "'adamw'", "'lamb'"],
    ),
    "a number out of range": (
        ["train.main", TINY, "--config.model.encoder.dropout=1.5"],
        ["config.model.encoder", "dropout=1.5 is not a rate in [0, 1)"],
    ),
    "heads that do not divide channels": (
        ["train.main", TINY, "--config.model.encoder.num_self_attention_heads=3"],
        ["config.model", "3"],
    ),
    "no config": (
        ["train.main"],
        ["give --config=FILE or one of", "digits", "imagenet_a", "mnist"],
    ),
    "an unknown config": (
        ["train.main", "--config=imagenet_b"],
        ["no config file imagenet_b", "did you mean 'imagenet_a'?", "mnist_image_token"],
    ),
    "a field in place of an option": (
        ["train.main", TINY, "--num_steps=3"],
        ["error: --num_steps is no option; fields are written --config.num_steps\n"],
    ),
    "a value for a group of fields": (
        ["train.main", TINY, "--config.checkpoint=best"],
        ["error: config.checkpoint=best is not valid: these are fields, --config.checkpoint."],
    ),
    "too few values": (
        ["train.main", TINY, "--config.data.image_size=8,"],
        ["config.data.image_size=(8,) is not valid; it takes", ": 2 values, such as 3,3"],
    ),
    "an unknown flag": (
        ["train.main", TINY, "--work_dir=x"],
        ["work_dir", "workdir"],
    ),
    "images of another shape": (
        ["train.main", TINY, "--config.data.synthetic_shape=(9, 8, 1)", "--workdir={tmp}/new"],
        ["have shape (9, 8, 1), the model takes (8, 8, 1)", "--config.model.encoder.image_shape"],
    ),
    "an unknown variant": (
        ["train.main", "--config=digits:smokee", "--workdir={tmp}/new"],
        ["this config has no variant 'smokee'; it has 'smoke'"],
    ),
    "several output queries": (
        ["train.main", TINY, "--config.model.decoder.num_output_queries=2", "--workdir={tmp}/new"],
        ["one output query", "num_output_queries=1"],
    ),
    "fewer steps than were done": (
        ["train.main", TINY, "--config.num_steps=5", f"--workdir={OTHER}"],
        ["is at step 12 already, past num_steps=5"],
    ),
    "no such step to evaluate": (
        ["train.evaluate", f"--workdir={OTHER}", "--step=five"],
        ["takes a number of steps, or 'best'"],
    ),
    "too few classes": (
        ["train.main", TINY, "--config.model.decoder.num_classes=7", "--workdir={tmp}/new"],
        ["tells 7 classes apart", "has 10", "--config.model.decoder.num_classes=10"],
    ),
    "a file in place of the workdir": (
        ["train.main", TINY, f"--workdir={FILE}"],
        ["the workdir", "cannot be written to", "--workdir"],
    ),
    "a file in the way to the workdir": (
        ["train.main", TINY, f"--workdir={FILE}/run"],
        ["the workdir", "cannot be written to", "--workdir"],
    ),
    "the workdir of another run": (
        ["train.main", TINY, "--config.seed=7", f"--workdir={OTHER}"],
        [
            "belongs to a run of another config",
            "config.seed: 0 there, 7 here",
            "--config.pretrained.source=",
        ],
    ),
    # Where commands run there is a file `runs`.
    "no place for the run of a bare name": (
        ["train.main", "--config=digits"],
        ["the workdir runs/digits cannot be written to"],
    ),
    "no place for the run of a variant": (
        ["train.main", f"--config={ROOT}/configs/digits.py:smoke"],
        ["the workdir runs/digits-smoke cannot be written to"],
    ),
    "a dataset that is not prepared": (
        ["train.main", "--config=mnist", "--config.data.data_dir={tmp}", "--workdir={tmp}/new"],
        ["dataset 'tfds:mnist'", "cannot be read", "download_and_prepare"],
    ),
    "evaluation of no workdir": (
        ["train.evaluate", "--workdir={tmp}/nowhere"],
        ["there is no workdir", "nowhere; name the directory of a run"],
    ),
    "evaluation without a workdir": (
        ["train.evaluate"],
        ["error: give --workdir=DIR"],
    ),
    "a workdir to evaluate that stands alone": (
        ["train.evaluate", "runs/own", "--step=best"],
        ["error: runs/own is no option; write --workdir=runs/own\n"],
    ),
    "a config that stands alone": (
        ["train.main", "digits", "--workdir={tmp}/new"],
        ["error: digits is no option; write --config=digits\n"],
    ),
    "a workdir that stands alone": (
        ["train.main", TINY, "runs/own"],
        ["error: runs/own is no option; write --workdir=runs/own\n"],
    ),
    "a mesh that stands alone": (
        ["train.plan", TINY, "data=2"],
        ["error: data=2 is no option; write --mesh=data=2\n"],
    ),
    "a second value that stands alone": (
        ["config", f"{ROOT}/tests/train/tiny_runs.py", "num_steps=3"],
        ["error: num_steps=3 is no option\n"],
    ),
    "no config to print": (
        ["config"],
        ["give a config file, or the name of a shipped config"],
    ),
}  # fmt: skip


def command(module, *arguments):
    """Runs `python -m perceiver_jax.MODULE`."""
    return subprocess.run(
        [sys.executable, "-m", f"perceiver_jax.{module}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )


# Imports once what commands import, then runs each as `python -m` does, in a process of its own.
SERVER = """
import json, os, runpy, sys
import ml_collections.config_flags
import perceiver_jax.train.command_line, perceiver_jax.train.evaluation, perceiver_jax.train.optim
import perceiver_jax.train.plots, perceiver_jax.train.progress

for module, *arguments in json.load(sys.stdin):
    outputs = [os.open(f"answer.{name}", os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in "12"]
    child = os.fork()
    if not child:
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        sys.argv = [module, *arguments]
        runpy.run_module(f"perceiver_jax.{module}", run_name="__main__", alter_sys=True)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [os.pread(output, 1 << 20, 0).decode() for output in outputs]
    print(json.dumps([code, *texts]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """{mistake: (exit code, standard output, standard error)}, and what the folder held before."""
    folder, elsewhere = tmp_path_factory.mktemp("commands"), tmp_path_factory.mktemp("server")
    (folder / "file").write_text("")
    (elsewhere / "runs").write_text("")
    train(tiny_runs.experiment(), folder / "other")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    commands = [[w.replace("{tmp}", str(folder)) for w in words] for words, _ in MISTAKES.values()]
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        input=json.dumps(commands),
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(commands), done.stderr
    return dict(zip(MISTAKES, found, strict=True)) | {"folder": folder, "before": before}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence_without_a_stack_trace(answers, mistake):
    code, output, errors = answers[mistake]
    for words in MISTAKES[mistake][1]:
        assert words in errors
    assert code == 1
    assert "Traceback" not in errors
    assert len(errors) < 2500
    assert output == ""


def test_a_mistake_leaves_nothing_behind(answers):
    after = sorted(path.relative_to(answers["folder"]) for path in answers["folder"].rglob("*"))
    assert after == answers["before"]


# ---- What is printed -----------------------------------------------------------------------------


def test_the_config_command_prints_values_types_meanings_and_the_parameter_count():
    done = command("config", "mnist", "--config.num_steps=77")
    assert done.returncode == 0, done.stderr
    lines = {line.split(" = ")[0].strip(): line for line in done.stdout.splitlines() if "=" in line}
    assert "77" in lines["num_steps"] and "int; training steps" in lines["num_steps"]
    assert "# 'adamw', 'lamb', 'adam' (no weight decay), 'sgd', or 'muon'" in lines["name"]
    assert "# 'none' or 'dots' or 'full' or bool; what of each layer" in lines["remat"]
    assert "0.1 (default 0.0)" in lines["dropout"]
    assert "None or" in lines["clip_norm"] or "or None" in lines["clip_norm"]
    assert "907,212 parameters" in done.stdout
    assert "encoder: ImageEncoderConfig  # from inputs to latents" in done.stdout
    assert all("# " in line and line.rstrip()[-1] != ";" for line in lines.values())


def test_an_optional_field_is_unset_by_none():
    done = command("config", "mnist5k", "--config.optimizer.clip_norm=None")
    assert done.returncode == 0, done.stderr
    assert "clip_norm = None " in done.stdout
    refused = command("config", "mnist5k", "--config.num_steps=None")
    assert "config.num_steps is not set; it takes int" in refused.stderr


def test_the_config_command_takes_a_file_with_a_variant():
    done = command("config", "configs/imagenet_a.py:smoke")
    assert done.returncode == 0, done.stderr
    assert "'synthetic'" in done.stdout and "48,440,627" not in done.stdout


def test_a_config_file_may_return_the_dataclass_itself(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from tests.train.tiny_runs import experiment as get_config\n")
    done = command("config", str(file), "--config.num_steps=5", "--config.peak_tflops=2.5")
    assert done.returncode == 0, done.stderr
    assert "num_steps = 5 " in done.stdout and "peak_tflops = 2.5 " in done.stdout
    wrong = command("config", str(file), "--config.num_step=5")
    assert "did you mean 'config.num_steps'?" in wrong.stderr


@pytest.mark.parametrize("lines", [1, 5])
def test_a_reader_that_leaves_early_gets_no_stack_trace(lines):
    shell = f"'{sys.executable}' -m perceiver_jax.config mnist | head -n {lines}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout.count("\n") == lines
    assert done.stderr == ""


# ---- Names of configs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "mnist.py", "configs/mnist.py", "configs/mnist"])
def test_a_bare_name_means_the_shipped_config(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line.config_file(name) == ROOT / "configs" / "mnist.py"


def test_a_file_goes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").write_text("")
    assert command_line.config_file("mnist").resolve() == tmp_path / "mnist"


@pytest.mark.parametrize("name", ["elsewhere/mnist.py", "mnist6k", "/mnist"])
def test_other_paths_are_not_taken_for_shipped_configs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no config file .*shipped.*mnist"):
        command_line.config_file(name)


@pytest.mark.parametrize(
    "module, option", [("evaluate", "--step"), ("main", "--config.FIELD=VALUE")]
)
def test_help_shows_what_a_command_is_for_and_its_options(module, option):
    command = [sys.executable, "-m", f"perceiver_jax.train.{module}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--workdir " in done.stdout and option in done.stdout
    assert "--pdb" not in done.stdout
