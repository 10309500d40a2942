"""Two processes train as one does, end together, and go on as one, and one as two."""

import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from perceiver_jax import load_checkpoint, params
from perceiver_jax.config import to_config_dict
from perceiver_jax.train import hosts, parallel
from perceiver_jax.train.hosts import HostsConfig
from perceiver_jax.train.interruption import Preempted
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import MetricsWriter, read_rows
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.parallel import ParallelConfig
from tests.conftest import ROOT
from tests.train.test_faults import signalled_at
from tests.train.tiny_runs import experiment

STEPS = 30
TIMEOUT = 120


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"coordinator": "10.0.0.1"}, "coordinator='10.0.0.1' is neither HOST:PORT nor 'auto'"),
        ({"coordinator": "a:1"}, "num_processes=None and process_id=None: with coordinator='a:1'"),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            "the id in .0, num_processes",
        ),
        ({"coordinator": "auto", "process_id": 0}, "process_id=0 belong to a coordinator with an"),
        ({"num_processes": 2}, "num_processes=2 .* and coordinator=None; give HOST:PORT"),
        ({"timeout": 0}, "timeout=0 must be 1 or more"),
    ],
)
def test_what_does_not_say_who_the_processes_are_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        HostsConfig(**fields)


def test_no_cluster_to_be_found_is_an_error_that_says_what_to_give(run_python):
    code = """
        from perceiver_jax.errors import UserError
        from perceiver_jax.train.hosts import HostsConfig, join
        try:
            join(HostsConfig(coordinator="auto"))
        except UserError as error:
            print(error)
    """
    assert "did not find each other, hosts.coordinator='auto'" in run_python(code)


def test_one_process_is_told_what_it_says_itself_and_gathers_what_it_has():
    greatest = hosts.Greatest(parallel.make_mesh(ParallelConfig()))
    assert [greatest(here) for here in (0, 2, 1)] == [0, 2, 1]
    assert hosts.gathered({"next": 3}) == [{"next": 3}]
    assert hosts.from_first(7) == 7


# ---- Two processes -------------------------------------------------------------------------------


def config():
    """A run whose losses depend on its examples, and not on their order in a batch."""
    return experiment(
        encoder={"dropout": 0.0},
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.02, clip_norm=1.0),
        num_steps=STEPS,
    )


def get_config():
    """The same as a config file."""
    return to_config_dict(config())


COMMAND = """
import runpy, signal, sys, time
from perceiver_jax.train import checkpoint

signal.signal(signal.SIGINT, signal.default_int_handler)
newest, seconds = checkpoint.newest, float(sys.argv.pop(1))
checkpoint.newest = lambda workdir: (time.sleep(seconds), newest(workdir))[1]
runpy.run_module("perceiver_jax.train.main", run_name="__main__", alter_sys=True)
"""
"""The training command, which looks for checkpoints so many seconds late.

It hears Ctrl-C also where the tests were started in the background, which ignores that.
"""


class Pair:
    """Two processes with two devices each that train together, the second `late` by seconds."""

    def __init__(self, workdir, logs, late=0):
        self.late = (0, late)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
        self.logs = [logs / f"{port}-{index}" for index in range(2)]
        self.processes = [self._start(i, workdir, port, flags) for i in range(2)]

    def _start(self, index, workdir, port, flags):
        command = [
            *(sys.executable, "-c", COMMAND, str(self.late[index])),
            *("--config=tests/train/test_hosts.py", f"--workdir={workdir}"),
            f"--config.hosts.coordinator=127.0.0.1:{port}",
            *("--config.hosts.num_processes=2", f"--config.hosts.process_id={index}"),
            "--config.hosts.timeout=10",
        ]
        with self.logs[index].open("w") as errors:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE if index == 0 else errors,
                stderr=errors,
                text=True,
            )

    def signal_second_at(self, step, number):
        """Sends the second process a signal when the first one says that it is at a step."""
        lines = iter(self.processes[0].stdout.readline, "")
        assert any(f"step {step} of" in line for line in lines), self.errors()
        self.processes[1].send_signal(number)

    def ended(self):
        """What the first process printed since, and the exit codes."""
        try:
            output, _ = self.processes[0].communicate(timeout=TIMEOUT)
            return output, (self.processes[0].returncode, self.processes[1].wait(TIMEOUT))
        finally:
            for process in self.processes:
                process.kill()

    def errors(self):
        return "".join(log.read_text() for log in self.logs)


def newest(workdir):
    names = [path.name for path in (workdir / "checkpoints").iterdir()]
    return max(int(name) for name in names if name.isdecimal())


def one_process_until(step, workdir):
    """Trains in this process until SIGTERM comes at a step."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            MetricsWriter, "scalars", signalled_at(step, MetricsWriter.scalars, signal.SIGTERM)
        )
        with pytest.raises(Preempted):
            train(config(), workdir)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The workdir of a run of one process with one device."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    train(config(), workdir)
    return workdir


def test_ctrl_c_in_one_of_two_ends_both_also_where_one_came_late(tmp_path):
    # The first would have made the folder of checkpoints before the second looks for it.
    pair = Pair(tmp_path / "run", tmp_path, late=4)
    pair.signal_second_at(3, signal.SIGINT)
    output, codes = pair.ended()
    assert codes == (130, 130), output + pair.errors()
    assert newest(tmp_path / "run") < STEPS
    assert f"saved step {newest(tmp_path / 'run')}; the same command" in pair.errors()


@pytest.fixture(scope="module")
def run_of_many(tmp_path_factory):
    """A run of one process, two, one, two of which one is killed, and two.

    Gives its workdir and, by what was done, the newest step after it, exit codes and outputs.
    """
    logs = tmp_path_factory.mktemp("logs")
    workdir, found = logs / "run", {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(logs / "compiled"))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        one_process_until(3, workdir)
        found["one"] = newest(workdir)
        pair = Pair(workdir, logs)
        pair.signal_second_at(6, signal.SIGTERM)
        found["two, terminated"] = (*pair.ended(), newest(workdir))
        one_process_until(newest(workdir) + 1, workdir)
        found["one again"] = newest(workdir)
        pair = Pair(workdir, logs)
        pair.signal_second_at(newest(workdir) + 2, signal.SIGKILL)
        found["two, one killed"] = (*pair.ended(), newest(workdir), pair.errors())
        pair = Pair(workdir, logs)
        found["two"] = (*pair.ended(), newest(workdir))
    return workdir, found


def test_sigterm_to_one_of_two_saves_one_step_and_ends_both_with_75(run_of_many):
    _, found = run_of_many
    output, codes, step = found["two, terminated"]
    assert codes == (75, 75)
    assert found["one"] == 4 and step > 6
    assert f"saved step {step}; the same command goes on from there" in output
    assert found["one again"] == step + 2


def test_when_one_of_two_is_killed_the_other_ends_by_itself(run_of_many):
    _, codes, step, errors = run_of_many[1]["two, one killed"]
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)
    assert "another task died" in errors or "heartbeat" in errors
    assert step < STEPS


def test_a_run_of_changing_processes_ends_like_that_of_one(run_of_many, undisturbed):
    workdir, found = run_of_many
    output, codes, step = found["two"]
    assert (codes, step) == ((0, 0), STEPS)
    assert "4 cpu device(s)" in output
    ours, theirs = (read_rows(path / "metrics.jsonl") for path in (workdir, undisturbed))
    assert [row["step"] for row in ours] == list(range(1, STEPS + 1))
    losses = [[row["train/loss"] for row in rows] for rows in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert len(set(losses[0])) == STEPS
    assert ours[-1]["eval/loss"] == pytest.approx(theirs[-1]["eval/loss"], rel=1e-5)
    arrays = (params.flatten(load_checkpoint(path)) for path in (workdir, undisturbed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *arrays)
