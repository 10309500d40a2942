"""What is kept, what is refused, and that what was saved is what comes back."""

import json
import math
import os
import re
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import load_checkpoint, params
from perceiver_jax.config import to_dict
from perceiver_jax.errors import UserError
from perceiver_jax.params import FORMAT_VERSION
from perceiver_jax.train import checkpoint as checkpoint_module
from perceiver_jax.train.checkpoint import ITEMS, CheckpointConfig, Checkpoints, newest
from perceiver_jax.train.state import TrainState
from tests.train.tiny_runs import Run, experiment


def small_state(step):
    """A state without a model: all that matters here is what is kept."""
    moments = {"mu": {"w": jnp.full(3, -float(step))}}
    return TrainState(jnp.asarray(step, jnp.int32), {"w": jnp.full(3, float(step))}, {}, moments)


def save(checkpoints, step, metrics=None, state=None, config=None):
    checkpoints.save(
        state or small_state(step),
        step=step,
        data={"next": step},
        config=config or {},
        metrics={"accuracy": 0.0, "loss": 0.0} if metrics is None else metrics,
    )


def folders(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def settled(workdir):
    """Names in the folder once what is removed in the background is gone."""
    for _ in range(100):
        if all(name.isdecimal() for name in folders(workdir)):
            break
        time.sleep(0.05)
    return folders(workdir)


@pytest.fixture
def two_saved(tmp_path):
    """A working directory with the checkpoints 1 and 2."""
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(keep_last=9))
    for step in (1, 2):
        save(checkpoints, step, {"accuracy": step / 10, "loss": 1 / step})
    checkpoints.close()
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {2, 5, 6}),
        ({"keep_last": 1}, {2, 6}),
        ({"keep_best": 2}, {2, 4, 5, 6}),
        ({"keep_last": 3, "keep_best": 0}, {4, 5, 6}),
        ({"best_metric": "loss", "best_mode": "min"}, {3, 5, 6}),
        ({"best_metric": "loss", "best_mode": "max"}, {1, 5, 6}),
        ({"best_metric": "loss", "best_mode": "min", "keep_best": 2}, {3, 4, 5, 6}),
    ],
)
def test_the_newest_and_the_best_are_kept_and_no_others(tmp_path, fields, kept):
    accuracy = [0.1, 0.9, 0.3, 0.8, 0.2, 0.4]
    loss = [6.0, 5.0, 1.0, 2.0, 3.0, 4.0]
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(**fields))
    for step in range(1, 7):
        save(checkpoints, step, {"accuracy": accuracy[step - 1], "loss": loss[step - 1]})
    checkpoints.close()
    assert {int(name) for name in folders(tmp_path)} == kept


def test_the_best_is_remembered_by_the_next_process(tmp_path):
    for steps in ((1, 2), (3, 4)):
        checkpoints = Checkpoints(tmp_path, CheckpointConfig(keep_last=1))
        for step in steps:
            save(checkpoints, step, {"accuracy": 0.9 if step == 1 else 0.1 * step})
        checkpoints.close()
    assert folders(tmp_path) == ["1", "4"]


@pytest.mark.parametrize("suffix", [".orbax-checkpoint-tmp", ".orbax-checkpoint-tmp-1700000000"])
def test_a_half_written_checkpoint_is_not_picked_up_and_is_removed(two_saved, suffix):
    folder = two_saved / "checkpoints"
    shutil.copytree(folder / "2", folder / f"3{suffix}")
    os.remove(folder / f"3{suffix}" / "model" / "manifest.ocdbt")
    reading = Checkpoints(two_saved)
    assert reading.find(None) == 2
    reading.close()
    writing = Checkpoints(two_saved, CheckpointConfig(keep_last=9))
    assert writing.latest() == 2
    assert settled(two_saved) == ["1", "2"]
    save(writing, 3)
    writing.close()
    assert folders(two_saved) == ["1", "2", "3"]


@pytest.mark.parametrize("missing", ["metrics", "_CHECKPOINT_METADATA", "model", "config"])
def test_an_old_checkpoint_that_was_half_removed_is_removed_by_the_next_save(two_saved, missing):
    path = two_saved / "checkpoints" / "1" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    checkpoints = Checkpoints(two_saved, CheckpointConfig())
    assert checkpoints.latest() == 2
    save(checkpoints, 3, {"accuracy": 0.0})
    checkpoints.close()
    assert folders(two_saved) == ["2", "3"]


def test_a_checkpoint_comes_back_as_it_was_saved(two_saved):
    checkpoints = Checkpoints(two_saved)
    for step in (1, 2):
        state, position = checkpoints.restore(step, jax.eval_shape(lambda: small_state(0)))
        jax.tree.map(np.testing.assert_array_equal, state, small_state(step))
        assert position == {"next": step}
    checkpoints.close()


def test_asking_for_what_is_not_there_is_answered_with_what_is(two_saved, tmp_path_factory):
    checkpoints = Checkpoints(two_saved)
    with pytest.raises(UserError, match=r"no checkpoint 7 in .*; there are \[1, 2\]"):
        checkpoints.find(7)
    checkpoints.close()
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(UserError, match="is no workdir of a run: it has no folder checkpoints"):
        load_checkpoint(empty)
    (empty / "checkpoints").mkdir()
    with pytest.raises(UserError, match="there is no checkpoint in"):
        load_checkpoint(empty)


def test_the_best_is_found_by_name(two_saved, tmp_path_factory):
    for mode, best in (("max", 2), ("min", 1)):
        workdir = shutil.copytree(two_saved, tmp_path_factory.mktemp(mode) / "run")
        chosen = CheckpointConfig(best_mode=mode, keep_last=9)
        checkpoints = Checkpoints(workdir, chosen)
        save(checkpoints, 3, {"accuracy": 0.15}, config={"checkpoint": to_dict(chosen)})
        checkpoints.wait()
        assert checkpoints.find("best") == best
        assert checkpoints.find(None) == 3
        checkpoints.close()


def test_a_damaged_checkpoint_is_an_error_that_names_its_folder(two_saved):
    shutil.rmtree(two_saved / "checkpoints" / "2" / "model")
    checkpoints = Checkpoints(two_saved)
    message = "checkpoint 2 in .* cannot be read: .*\nIf it is damaged, remove the folder"
    with pytest.raises(UserError, match=message):
        checkpoints.restore(2, jax.eval_shape(lambda: small_state(0)))
    checkpoints.close()


def test_another_format_version_is_refused_by_every_reader(two_saved, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "FORMAT_VERSION", 99)
    message = f"checkpoint 2 in .* has parameter format {FORMAT_VERSION}, this library reads 99"
    checkpoints = Checkpoints(two_saved)
    with pytest.raises(UserError, match=message):
        checkpoints.restore(2, jax.eval_shape(lambda: small_state(0)))
    checkpoints.close()
    with pytest.raises(UserError, match=message):
        load_checkpoint(two_saved)


def test_streams_of_another_number_of_processes_are_refused_with_the_reason(two_saved):
    path = two_saved / "checkpoints" / "2" / "data" / "metadata"
    assert json.loads(path.read_text()) == {"positions": [{"next": 2}]}
    path.write_text(json.dumps({"positions": [{"next": 2}] * 4}))
    like = jax.eval_shape(lambda: small_state(0))
    checkpoints = Checkpoints(two_saved)
    assert checkpoints.restore(2, like, by_position=True)[1] == {"next": 2}
    with pytest.raises(UserError, match="written by 4 processes, this run has 1: streamed data"):
        checkpoints.restore(2, like, by_position=False)
    checkpoints.close()


def test_the_data_position_of_an_earlier_version_is_read(two_saved):
    path = two_saved / "checkpoints" / "2" / "data" / "metadata"
    path.write_text(json.dumps({"position": {"next": 7}, "process_count": 1}))
    checkpoints = Checkpoints(two_saved)
    for by_position in (True, False):
        _, position = checkpoints.restore(
            2, jax.eval_shape(lambda: small_state(0)), by_position=by_position
        )
        assert position == {"next": 7}
    checkpoints.close()


def test_what_has_no_metrics_is_among_the_newest_and_never_the_best(tmp_path):
    config = CheckpointConfig(best_metric="loss", best_mode="min", keep_last=1)
    checkpoints = Checkpoints(tmp_path, config)
    for step, metrics in ((1, {"loss": 3.0}), (2, {}), (3, {"loss": math.nan}), (4, {"loss": 5.0})):
        save(checkpoints, step, metrics, config={"checkpoint": to_dict(config)})
    save(checkpoints, 5, {}, config={"checkpoint": to_dict(config)})
    checkpoints.wait()
    assert settled(tmp_path) == ["1", "5"]
    assert (checkpoints.find(None), checkpoints.find("best")) == (5, 1)
    shutil.rmtree(tmp_path / "checkpoints" / "1")
    reading = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"has the held-out metric 'loss'; choose one .*\[5\]"):
        reading.find("best")
    reading.close()
    checkpoints.close()


# ---- Damaged files -------------------------------------------------------------------------------


def largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def flip_a_bit(folder):
    path = largest(folder / "model")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(folder):
    path = largest(folder / "optimizer")
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "flipped": (flip_a_bit, "model/.* is not what was written", False),
    "torn": (tear, "optimizer/.* is not what was written", True),
    "missing": (
        lambda folder: os.remove(folder / "data" / "metadata"),
        "data/metadata is missing",
        True,
    ),
    "digests": (lambda folder: (folder / "digests.json").write_text("{"), "cannot be read", False),
}


@pytest.mark.parametrize(("damage", "words", "has_model"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_found(
    two_saved, capfd, damage, words, has_model
):
    folder = two_saved / "checkpoints"
    damage(folder / "2")
    checkpoints = Checkpoints(two_saved)
    if has_model:
        assert checkpoints.find(None) == 2
    else:
        message = rf"checkpoint 2 in .* is damaged: .*{words}; choose another step, there are 1$"
        with pytest.raises(UserError, match=message):
            checkpoints.find(None)
    assert checkpoints.find(1) == 1
    checkpoints.close()
    assert newest(two_saved) == (1, {})
    assert folders(two_saved) == ["1", "2.damaged"]
    assert re.search(rf"checkpoint 2 is damaged: .*{words}; it is now", capfd.readouterr().err)
    # Once more at the same step: nothing is overwritten.
    writing = Checkpoints(two_saved, CheckpointConfig())
    save(writing, 2)
    writing.close()
    damage(folder / "2")
    assert newest(two_saved).step == 1
    assert folders(two_saved) == ["1", "2.damaged", "2.damaged1"]


def test_where_all_are_damaged_nothing_is_touched_and_a_run_does_not_begin_anew(two_saved):
    for step in (1, 2):
        tear(two_saved / "checkpoints" / str(step))
    for _ in range(2):
        message = r"every checkpoint in .* is damaged \(2: optimizer/.*; 1: optimizer/"
        with pytest.raises(UserError, match=message):
            newest(two_saved)
    assert folders(two_saved) == ["1", "2"]


def test_a_checkpoint_without_digests_is_read(two_saved):
    os.remove(two_saved / "checkpoints" / "2" / "digests.json")
    assert newest(two_saved).step == 2


def test_every_file_of_every_item_has_a_digest(two_saved):
    folder = two_saved / "checkpoints" / "2"
    digests = json.loads((folder / "digests.json").read_text())["sha256"]
    files = {str(path.relative_to(folder)) for path in folder.glob("*/**/*") if path.is_file()}
    assert set(digests) == files
    assert {name.split("/")[0] for name in files} == {*ITEMS, "metrics"}


@pytest.mark.parametrize("fields", [{"every": 0}, {"keep_last": 0}, {"keep_best": -1}])
def test_an_impossible_config_is_refused(fields):
    with pytest.raises(ValueError, match="=".join(map(str, *fields.items()))):
        CheckpointConfig(**fields)


# ---- With a model --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """A donating run with batch norms, saved after step 2 and then trained on to step 5.

    Gives the run, its workdir, and host copies of the state at steps 2 and 5.
    """
    encoder = {"preprocessing": "conv", "num_preprocessing_channels": 4}
    run, workdir = Run(experiment(encoder=encoder), donate=True), tmp_path_factory.mktemp("run")
    state, _ = run.losses(run.fresh(), range(2))
    before = jax.tree.map(np.array, state)
    checkpoints = Checkpoints(workdir, CheckpointConfig())
    save(checkpoints, 2, state=state, config=to_dict(run.config))
    # No wait: the next steps run, and reuse the memory of this state, while it is being written.
    state, _ = run.losses(state, range(2, 5))
    checkpoints.close()
    return run, workdir, before, jax.tree.map(np.array, state)


def test_the_state_at_the_save_is_what_comes_back_though_its_memory_was_donated(saved_run):
    run, workdir, before, after = saved_run
    checkpoints = Checkpoints(workdir)
    restored, _ = checkpoints.restore(2, run.like)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored, before)
    for path, x in before.params.items():
        if path.endswith("cross_attention/attention/key/bias"):
            continue  # cancels in the softmax, and never enters where projections are folded
        assert not np.array_equal(x, after.params[path]), path


def test_a_restored_state_goes_on_to_the_same_numbers(saved_run):
    run, workdir, _, after = saved_run
    checkpoints = Checkpoints(workdir)
    restored, _ = checkpoints.restore(2, run.like)
    checkpoints.close()
    state, _ = run.losses(restored, range(2, 5))
    jax.tree.map(np.testing.assert_array_equal, state, after)


def test_load_checkpoint_gives_the_trained_model(saved_run):
    run, workdir, before, _ = saved_run
    model = load_checkpoint(workdir)
    assert model.config == run.config.model
    loaded = params.flatten(model)
    jax.tree.map(np.testing.assert_array_equal, loaded, (before.params, before.stats))
    images = np.asarray(run.batch(0)["image"])
    call = jax.jit(lambda model, images: model(images))
    trained = run.skeleton.bind(*jax.tree.map(jnp.asarray, (before.params, before.stats)))
    np.testing.assert_array_equal(call(model, images), call(trained, images))
    np.testing.assert_allclose(model(images), call(trained, images), rtol=1e-5, atol=1e-6)
