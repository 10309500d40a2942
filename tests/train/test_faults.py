"""Every fault ends in a run that goes on, or in a clear stop that keeps the last good state."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from perceiver_jax import load_checkpoint, params
from perceiver_jax.errors import UserError
from perceiver_jax.train import hosts
from perceiver_jax.train.interruption import Interruption, Preempted
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import MetricsWriter, read_rows
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import ImageClassification
from tests.conftest import ROOT
from tests.train.test_checkpoint import flip_a_bit
from tests.train.tiny_runs import Run, experiment

SGD = OptimizerConfig(name="sgd", learning_rate=0.05)


def trained(workdir):
    """Parameters and statistics of the newest checkpoint."""
    return params.flatten(load_checkpoint(workdir))


def same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def steps(workdir):
    names = [path.name for path in (workdir / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdecimal())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The workdir of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    train(experiment(), workdir)
    return workdir


# ---- A step that breaks down ---------------------------------------------------------------------


@pytest.fixture
def broken_batches(monkeypatch):
    """A set of batches, by position, in which every pixel is not a number."""
    broken = set()
    plain = ImageClassification.batches

    def spoil(index, batch):
        return batch | {"image": np.full_like(batch["image"], np.nan)} if index in broken else batch

    def batches(self, data, *, training, seed, shard):
        found = plain(self, data, training=training, seed=seed, shard=shard)
        return found.map_with_index(spoil) if training else found

    monkeypatch.setattr(ImageClassification, "batches", batches)
    return broken


@pytest.mark.parametrize(("log_every", "saved"), [(5, 8), (1, 7)])
def test_after_a_broken_step_the_last_good_state_is_saved_and_a_run_goes_on_behind_it(
    tmp_path, broken_batches, log_every, saved
):
    config = experiment(optimizer=SGD, log_every=log_every, num_steps=10)
    broken_batches.add(6)
    with pytest.raises(UserError, match="broke down at step 7: .*loss nan.*changed nothing") as e:
        train(config, tmp_path)
    assert f"step {saved} is saved" in str(e.value)
    assert f"--config.pretrained.source={tmp_path}" in str(e.value)
    # It is found while the next step runs, which has begun from what was withheld.
    assert steps(tmp_path)[-1] == saved
    run = Run(config)
    wanted, _ = run.losses(run.fresh(), range(6))
    wanted = dataclasses.replace(wanted, step=wanted.step + 1)
    wanted, _ = run.losses(wanted, range(7, saved))
    same(trained(tmp_path)[0], dict(wanted.params))
    assert train(config, tmp_path)
    wanted, _ = run.losses(wanted, range(saved, 10))
    same(trained(tmp_path)[0], dict(wanted.params))


def test_a_run_that_broke_down_is_a_source_for_another(tmp_path, broken_batches):
    broken_batches.add(1)
    with pytest.raises(UserError, match="broke down at step 2"):
        train(experiment(optimizer=SGD), tmp_path / "old")
    good = trained(tmp_path / "old")[0]
    broken_batches.clear()
    source = dataclasses.replace(experiment().pretrained, source=str(tmp_path / "old"))
    frozen = dataclasses.replace(SGD, learning_rate=0.0)
    train(experiment(optimizer=frozen, pretrained=source, num_steps=1), tmp_path / "new")
    same(trained(tmp_path / "new")[0], good)


# ---- SIGTERM -------------------------------------------------------------------------------------


def test_a_terminated_run_is_saved_without_evaluation_and_goes_on(
    tmp_path, undisturbed, monkeypatch, capsys
):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(
        MetricsWriter, "scalars", signalled_at(4, MetricsWriter.scalars, signal.SIGTERM)
    )
    # Step 5 would be evaluated and saved anyway.
    config = experiment(
        eval_every=1, checkpoint=dataclasses.replace(experiment().checkpoint, every=5)
    )
    with pytest.raises(Preempted) as ended:
        train(config, tmp_path)
    monkeypatch.undo()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 75
    said = capsys.readouterr().out
    assert "saved step 5; the same command goes on from there (exit code 75)" in said
    assert steps(tmp_path) == [5]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [("eval/loss" in row) for row in rows] == [True] * 4 + [False]
    train(config, tmp_path)
    same(trained(tmp_path), trained(undisturbed))
    ours, theirs = (read_rows(path / "metrics.jsonl") for path in (tmp_path, undisturbed))
    assert [row["train/loss"] for row in ours] == [row["train/loss"] for row in theirs]


def signalled_at(step, scalars, name):
    """Writing metrics, in which a signal comes at a step."""

    def write(self, number, values):
        scalars(self, number, values)
        if number == step:
            os.kill(os.getpid(), name)

    return write


# ---- Ctrl-C --------------------------------------------------------------------------------------


def test_a_run_stopped_by_hand_is_saved_without_evaluation_and_goes_on(
    tmp_path, undisturbed, monkeypatch
):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    arrived = signalled_at(4, MetricsWriter.scalars, signal.SIGINT)
    monkeypatch.setattr(MetricsWriter, "scalars", arrived)
    config = experiment(checkpoint=dataclasses.replace(experiment().checkpoint, every=12))
    with pytest.raises(KeyboardInterrupt) as ended:
        train(config, tmp_path)
    monkeypatch.undo()
    signal.signal(signal.SIGINT, before)
    assert str(ended.value) == "stopped; saved step 5; the same command goes on from there"
    assert steps(tmp_path) == [5]
    train(config, tmp_path)
    same(trained(tmp_path), trained(undisturbed))


def test_a_second_press_would_lose_what_came_after_the_newest_checkpoint(tmp_path, monkeypatch):
    seen, greatest = [], hosts.Greatest.__call__
    interruptions = []
    monkeypatch.setattr(Interruption, "__enter__", lambda self: interruptions.append(self) or self)

    def look(self, here):
        seen.append(interruptions[0].unsaved)
        return greatest(self, here)

    monkeypatch.setattr(hosts.Greatest, "__call__", look)
    train(experiment(), tmp_path)
    # Looked at before the step is counted. A save is known to be whole when the next one begins.
    assert seen == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 4, 5]


# ---- Code that changed ---------------------------------------------------------------------------


def test_a_model_of_other_code_is_refused_with_its_parameter_and_nothing_is_touched(
    tmp_path, undisturbed, monkeypatch, capfd
):
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    # The same config that makes another model, as when the code is edited.
    monkeypatch.setattr("perceiver_jax.train.main.check_resumable", lambda *_: None)
    changed = experiment(decoder={"num_output_query_channels": 4})
    capfd.readouterr()
    with pytest.raises(UserError) as refused:
        train(changed, workdir)
    message = str(refused.value)
    assert message.startswith(
        "parameter decoder/cross_attention/attention/key/bias is (4,) in the model and (8,) in "
        "the checkpoint of step 12, and "
    )
    assert "the code of the model changed" in message and "another --workdir" in message
    assert "Remove" not in message
    assert capfd.readouterr().err == ""
    assert steps(workdir) == steps(undisturbed)
    same(trained(workdir), trained(undisturbed))


# ---- Damaged files -------------------------------------------------------------------------------


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    tmp_path, undisturbed, capfd
):
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    flip_a_bit(workdir / "checkpoints" / "12")
    with pytest.raises(UserError, match="checkpoint 12 in .* is damaged: model/"):
        load_checkpoint(workdir)
    train(experiment(), workdir)
    output = capfd.readouterr()
    assert "checkpoint 12 is damaged: model/" in output.err
    assert "steps 9 to 12" in output.out
    assert (workdir / "checkpoints" / "12.damaged" / "model").is_dir()
    same(trained(workdir), trained(undisturbed))


# ---- A full disk ---------------------------------------------------------------------------------

FULL_DISK = """
import os, pathlib, resource, subprocess, sys
import numpy as np
from perceiver_jax import load_checkpoint, params
from perceiver_jax.errors import UserError
from perceiver_jax.train.checkpoint import Checkpoints
from perceiver_jax.train.main import train
from tests.train.tiny_runs import experiment

workdir, small_disk = pathlib.Path(sys.argv[1]), sys.argv[2] == "small disk"
ballast, save = workdir.parent / "ballast", Checkpoints.save
if small_disk:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", workdir.parent], check=True)

def fill():
    if not small_disk:
        return resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        with ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:
        pass

def free():
    if small_disk:
        return ballast.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def save_where_the_disk_fills_up(self, state, *, step, **rest):
    if step == 6:
        self.wait()
        fill()
    save(self, state, step=step, **rest)

config = experiment(log_every=100)
Checkpoints.save = save_where_the_disk_fills_up
try:
    train(config, workdir)
except UserError as error:
    print("stopped:", error)
Checkpoints.save = save
print("kept:", *sorted(path.name for path in (workdir / "checkpoints").glob("*[0-9]")))
free()
train(config, workdir)
np.savez(sys.argv[3], **params.flatten(load_checkpoint(workdir))[0])
"""


def test_a_full_disk_stops_a_run_in_a_sentence_and_it_goes_on_when_there_is_space(
    tmp_path, undisturbed
):
    disk, result = tmp_path / "disk", tmp_path / "trained.npz"
    disk.mkdir()
    in_a_namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mounting = [*in_a_namespace, "mount", "-t", "tmpfs", "tmpfs", disk]
    possible = (
        shutil.which("unshare") and not subprocess.run(mounting, capture_output=True).returncode
    )
    # Where no disk may be mounted, files that may not grow: the same failure, another number.
    where, number = ("small disk", errno.ENOSPC) if possible else ("small files", errno.EFBIG)
    command = [sys.executable, "-c", FULL_DISK, disk / "run", where, result]
    done = subprocess.run(
        [*in_a_namespace, *command] if possible else command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (stopped,) = (line for line in lines if line.startswith("stopped: "))
    assert f"{disk / 'run'} could not be written to: {os.strerror(number)}" in stopped
    assert "kept: 3" in lines
    assert [line for line in lines if ", steps 3 to 12, workdir" in line]
    with np.load(result) as saved:
        same(dict(saved), trained(undisturbed)[0])
