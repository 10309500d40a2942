"""Whole runs by the command line: what they leave behind, and that a killed one loses nothing."""

import contextlib
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import cv2
import jax
import numpy as np
import pytest

from interop.__main__ import main as interop_main
from perceiver_jax import load_checkpoint, params
from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.config import from_dict, to_config_dict, to_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.errors import UserError
from perceiver_jax.pretrained import open_source
from perceiver_jax.train.checkpoint import Checkpoints
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.evaluate import evaluate
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import read_rows
from perceiver_jax.train.progress import LINES
from perceiver_jax.train.sharding_rules import ParallelConfig
from tests.conftest import ROOT
from tests.train.tensorboard_files import events, scalars
from tests.train.tiny_runs import Run, experiment

STEPS, EVERY = 24, 4
COMMAND = [
    *(sys.executable, "-m", "perceiver_jax.train.main"),
    "--config=tests/train/tiny_runs.py",
    f"--config.num_steps={STEPS}",
    f"--config.eval_every={EVERY}",
    f"--config.checkpoint.every={EVERY}",
]


def start(workdir):
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(workdir):
    process = start(workdir)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def kill_at_line(workdir, words):
    """Kills the command as soon as it prints a line with these words."""
    process = start(workdir)
    lines = iter(process.stdout.readline, "")
    assert any(words in line for line in lines)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def stop_at_line(workdir, words):
    """Stops the command as Ctrl-C does when it prints a line with these words."""
    # Tests that run in the background ignore Ctrl-C, and their children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(workdir)
    signal.signal(signal.SIGINT, before)
    assert any(words in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    return process.returncode, output


def kill_while_saving(workdir):
    """Kills the command when it has begun to write a checkpoint; returns what is half-written."""
    folder = workdir / "checkpoints"
    before = half_written(folder)
    process = start(workdir)
    while process.poll() is None and not half_written(folder) - before:
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    return half_written(folder) - before


def half_written(folder):
    """Names of unfinished checkpoints, each with what tells one of that name from the next."""
    found = set()
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if not path.name.isdecimal():
                found.add((path.name, path.stat().st_ino))
    return found


def first_step(output):
    """The step that a run says it starts from."""
    return int(output.split("steps ")[1].split(" ")[0])


def without_speed(rows):
    """Rows without what differs from run to run."""
    return [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in rows]


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The same program runs in several processes: the first compiles it for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of a run that nothing disturbed, and what it printed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, finish(workdir)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed twice, torn on top, stopped, and resumed each time.

    Gives its workdir, what the last process printed, and how the stopped one ended, with the
    newest checkpoint then.
    """
    workdir = tmp_path_factory.mktemp("killed") / "run"
    kill_at_line(workdir, f"step {2 * EVERY + 2} of")
    # Once in a while the kill comes when the checkpoint is just complete: then at the next.
    assert any(kill_while_saving(workdir) for _ in range(3))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 23, "train/lo')
    stopped = *stop_at_line(workdir, "held-out"), Checkpoints(workdir).latest()
    return workdir, finish(workdir), stopped


# ---- What a run leaves behind --------------------------------------------------------------------


def test_a_run_says_what_it_does_and_where_things_are(whole):
    workdir, output = whole
    lines = output.splitlines()
    begin = "1,731 parameters, 1 cpu device(s), steps 0 to 24, workdir"
    assert sum(line.startswith(begin) for line in lines) == 1
    assert lines.count(f"every row of metrics: {workdir / 'metrics.jsonl'}") == 1
    assert sum(line.startswith("step ") and " of 24  " in line for line in lines) == LINES
    assert sum("  held-out  " in line for line in lines) == STEPS // EVERY
    assert sum(line.startswith("final  held-out  ") for line in lines) == 1
    assert f"perceiver_jax.load_checkpoint('{workdir}')" in output
    assert "Warning" not in output and "Traceback" not in output


def test_rows_hold_the_documented_metrics(whole):
    rows = read_rows(whole[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row in rows:
        names = {"train/loss", "train/accuracy", "optim/learning_rate", "optim/gradient_norm"}
        names |= {"optim/update_norm", "optim/parameter_norm", "perf/steps_per_s"}
        names |= {"perf/examples_per_s", "perf/data_wait_fraction", "step"}
        names |= {"perf/device_wait_fraction", "perf/host_fraction", "perf/pauses_s"}
        if row["step"] % EVERY == 0:
            names |= {"eval/loss", "eval/accuracy"}
        assert set(row) == names
        assert np.isfinite(list(row.values())).all()


def test_tensorboard_holds_the_same_scalars(whole):
    rows, shown = read_rows(whole[0] / "metrics.jsonl"), scalars(whole[0])
    for name in rows[-1].keys() - {"step"}:
        wanted = {row["step"]: np.float32(row[name]) for row in rows if name in row}
        assert shown[name] == pytest.approx(wanted), name


def test_tensorboard_holds_pictures_of_predictions(whole):
    pictures = [
        (event.step, value.image.encoded_image_string)
        for _, event in events(whole[0])
        for value in event.summary.value
        if value.tag == "eval/predictions"
    ]
    assert [step for step, _ in pictures] == list(range(EVERY, STEPS + 1, EVERY))
    image = cv2.imdecode(np.frombuffer(pictures[-1][1], np.uint8), cv2.IMREAD_COLOR)
    saved = cv2.imread(str(whole[0] / "plots" / "predictions.png"))
    np.testing.assert_array_equal(image, saved)


def test_tensorboard_holds_hyperparameters_beside_final_results(whole):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    found = {}
    for _, event in events(whole[0]):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                found |= dict(content.session_start_info.hparams)
    assert found["model.num_latents"].number_value == 4
    assert found["data.dataset"].string_value == "synthetic"
    final = read_rows(whole[0] / "metrics.jsonl")[-1]["eval/loss"]
    assert scalars(whole[0])["final/loss"].popitem()[1] == pytest.approx(final)


def test_plots_are_pictures_of_sane_size(whole):
    names = {"train_loss.png", "eval_loss.png", "eval_accuracy.png", "predictions.png"}
    assert {path.name for path in (whole[0] / "plots").iterdir()} == names
    for name in names:
        height, width, _ = cv2.imread(str(whole[0] / "plots" / name)).shape
        assert 150 < height < 2000 and 500 < width < 2000, name


def test_the_workdir_holds_the_resolved_config(whole):
    tree = json.loads((whole[0] / "config.json").read_text())
    assert from_dict(ExperimentConfig, tree).num_steps == STEPS
    assert tree["checkpoint"]["every"] == EVERY


def test_the_newest_and_the_best_checkpoint_are_kept(whole):
    rows = [row for row in read_rows(whole[0] / "metrics.jsonl") if "eval/accuracy" in row]
    best = max(row["eval/accuracy"] for row in rows)
    kept = {int(path.name) for path in (whole[0] / "checkpoints").iterdir()}
    assert kept >= {STEPS - EVERY, STEPS} and len(kept) <= 3
    assert best in [row["eval/accuracy"] for row in rows if row["step"] in kept]


# ---- Killed and resumed --------------------------------------------------------------------------


def test_a_killed_run_ends_with_the_parameters_of_an_undisturbed_one(whole, killed):
    ours, theirs = (params.flatten(load_checkpoint(run[0])) for run in (killed, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_killed_run_has_the_rows_of_an_undisturbed_one_each_step_once(whole, killed):
    ours, theirs = (read_rows(run[0] / "metrics.jsonl") for run in (killed, whole))
    assert without_speed(ours) == without_speed(theirs)
    assert len((killed[0] / "metrics.jsonl").read_text().splitlines()) == STEPS


def test_a_killed_run_goes_on_from_a_checkpoint_and_removes_what_is_half_written(killed):
    workdir, output, _ = killed
    assert 0 < first_step(output) < STEPS
    assert not half_written(workdir / "checkpoints")


def test_stopping_by_hand_saves_and_ends_in_a_sentence(killed):
    _, resumed, (code, output, newest) = killed
    assert code == 130
    sentence = f"stopped; saved step {newest}; the same command goes on from there"
    assert output.splitlines()[-1] == sentence
    assert "Traceback" not in output
    assert first_step(resumed) == newest


def test_tensorboard_of_a_killed_run_shows_no_step_twice_and_each_since_the_resume(whole, killed):
    ours, theirs = (scalars(run[0]) for run in (killed, whole))
    first = first_step(killed[1])
    for name in ("train/loss", "eval/loss", "eval/accuracy", "optim/gradient_norm"):
        assert ours[name].items() <= theirs[name].items()
        since = {step for step in theirs[name] if step > first}
        assert since and since <= ours[name].keys()


def test_a_finished_run_started_again_changes_nothing(whole, tmp_path):
    workdir = shutil.copytree(whole[0], tmp_path / "again")
    config = from_dict(ExperimentConfig, json.loads((workdir / "config.json").read_text()))
    # As config files return it, and a path as one writes it.
    held_out = train(to_config_dict(config), str(workdir))
    row = read_rows(whole[0] / "metrics.jsonl")[-1]
    assert held_out == {"accuracy": row["eval/accuracy"], "loss": row["eval/loss"]}
    for name in ("metrics.jsonl", "config.json"):
        assert (workdir / name).read_text() == (whole[0] / name).read_text()
    ours, theirs = (params.flatten(load_checkpoint(path)) for path in (workdir, whole[0]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert scalars(workdir)["train/loss"] == scalars(whole[0])["train/loss"]


# ---- A run as a source of weights ----------------------------------------------------------------


def test_a_run_is_a_source_of_weights_with_names_and_preprocessing(whole, tmp_path, capsys):
    workdir = str(whole[0])
    released = open_source(workdir)
    ours = dict(enumerate(jax.tree.leaves(params.flatten(released.model()))))
    theirs = dict(enumerate(jax.tree.leaves(params.flatten(load_checkpoint(workdir)))))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert len(released.card.labels) == 10
    assert released.card.preprocessing == ImagePreprocessing(
        image_shape=(8, 8, 1), crop=None, mean=(0.5,), std=(0.5,), resampling="area"
    )
    assert "step 24 of the run 'run'" in released.card.origin
    assert interop_main(["export", "ours", workdir, str(tmp_path / "release")]) == 0
    assert "1,731 parameters" in capsys.readouterr().out
    assert open_source(f"ours:{tmp_path / 'release'}").card == released.card


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no folder checkpoints"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="there is no workdir"):
        open_source(str(tmp_path / "nothing"))


# ---- Evaluation of a checkpoint ------------------------------------------------------------------


def test_the_evaluate_command_prints_the_last_row_of_held_out_metrics(whole):
    done = subprocess.run(
        [sys.executable, "-m", "perceiver_jax.train.evaluate", f"--workdir={whole[0]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    row = read_rows(whole[0] / "metrics.jsonl")[-1]
    wanted = {"step": STEPS, "loss": row["eval/loss"], "accuracy": row["eval/accuracy"]}
    assert json.loads(done.stdout) == wanted
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_another_checkpoint_can_be_evaluated(whole):
    rows = {row["step"]: row for row in read_rows(whole[0] / "metrics.jsonl")}
    for step in (int(path.name) for path in (whole[0] / "checkpoints").iterdir()):
        got = evaluate(whole[0], step=step)
        assert got["step"] == step
        assert got["loss"] == pytest.approx(rows[step]["eval/loss"], rel=1e-6)


def test_the_best_checkpoint_can_be_evaluated_and_loaded(whole):
    rows = {row["step"]: row for row in read_rows(whole[0] / "metrics.jsonl")}
    best = evaluate(str(whole[0]), step="best")
    assert best["accuracy"] == max(row.get("eval/accuracy", 0) for row in rows.values())
    ours, theirs = (
        params.flatten(load_checkpoint(whole[0], step)) for step in ("best", best["step"])
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_another_split_can_be_evaluated(whole):
    held_out, train_split = (evaluate(whole[0], split=split) for split in (None, "train"))
    assert held_out["loss"] != train_split["loss"]


def test_evaluation_of_what_is_not_there_is_refused(whole, tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint 5 in .*; there are"):
        evaluate(whole[0], step=5)
    with pytest.raises(UserError, match="is no workdir of a run"):
        evaluate(tmp_path)


def test_an_evaluation_that_fails_leaves_nothing_open(whole, monkeypatch):
    closed, close = [], Checkpoints.close
    monkeypatch.setattr(Checkpoints, "close", lambda self: (closed.append(self), close(self)))
    with pytest.raises(UserError, match="there is no checkpoint 5"):
        evaluate(whole[0], step=5)
    assert len(closed) == 1


# ---- Errors in the middle of a run ---------------------------------------------------------------


def test_a_loss_that_is_no_longer_finite_stops_the_run_and_keeps_what_was_saved(tmp_path):
    config = experiment(
        num_steps=50,
        data={"std": (1e-3,)},
        optimizer=dataclasses.replace(experiment().optimizer, name="sgd", learning_rate=1e9),
        checkpoint=dataclasses.replace(experiment().checkpoint, every=1),
    )
    with pytest.raises(UserError, match=r"training broke down at step \d+: ") as error:
        train(config, tmp_path)
    step = int(str(error.value).split("at step ")[1].split(":")[0])
    kept = [int(path.name) for path in (tmp_path / "checkpoints").iterdir()]
    assert max(kept) == step
    for path, x in params.flatten(load_checkpoint(tmp_path))[0].items():
        assert np.isfinite(np.asarray(x)).all(), path


def test_parameters_that_an_update_ruined_are_not_saved_though_the_loss_was_finite(tmp_path):
    config = experiment(
        optimizer=dataclasses.replace(
            experiment().optimizer,
            name="sgd",
            schedule="constant",
            warmup_steps=0,
            learning_rate=3e38,
        ),
        checkpoint=dataclasses.replace(experiment().checkpoint, every=1),
        data={"std": (1e-3,)},
    )
    with pytest.raises(UserError, match="broke down at step 1: .*optim/parameter norm") as error:
        train(config, tmp_path)
    assert "loss" not in str(error.value).partition(";")[0]
    saved = params.flatten(load_checkpoint(tmp_path))[0]
    jax.tree.map(np.testing.assert_array_equal, saved, dict(Run(config).fresh().params))


def test_the_workdir_of_another_run_is_refused_with_what_differs(whole):
    before = (whole[0] / "config.json").read_text()
    config = from_dict(ExperimentConfig, json.loads(before))
    with pytest.raises(UserError, match="belongs to a run of another config") as error:
        train(dataclasses.replace(config, seed=7), whole[0])
    assert "config.seed: 0 there, 7 here" in str(error.value)
    with pytest.raises(UserError, match="is at step 24 already, past num_steps=20"):
        train(dataclasses.replace(config, num_steps=20), whole[0])
    assert (whole[0] / "config.json").read_text() == before


def test_a_wrong_name_of_the_best_metric_is_refused_before_the_run(tmp_path):
    checkpoint = dataclasses.replace(experiment().checkpoint, best_metric="acuracy")
    message = (
        "'acuracy' is no held-out metric of this run; set .*best_metric to one of accuracy, loss"
    )
    with pytest.raises(UserError, match=message):
        train(experiment(checkpoint=checkpoint), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_devices_to_an_example_than_there_are_are_refused(tmp_path):
    message = "parallel.fsdp=1 times parallel.tensor=2 does not divide the 1 devices"
    with pytest.raises(UserError, match=message):
        train(experiment(parallel=ParallelConfig(tensor=2)), tmp_path / "run")


def test_a_dataset_that_is_not_there_leaves_no_workdir(tmp_path):
    config = experiment(data={"dataset": "synthetics"})
    assert isinstance(config.data, ImageDataConfig)
    with pytest.raises(UserError, match="no dataset is called 'synthetics'"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert to_dict(config)["data"]["dataset"] == "synthetics"
