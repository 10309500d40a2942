"""Two processes, ours and the peer's, asked in turn; what came of it."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.cases import Case, Model
from benchmarks.peers import PEERS
from perceiver_jax.errors import UserError

NUM_WARM_UPS = 2
"""Calls before the timed ones; of these the outputs are compared."""
TOLERANCE = 1e-3
"""Largest difference of outputs, relative to the largest output of the peer.

In a train step the output is the loss; the second one shows whether the first updates agree."""
PAUSE = 0.05
"""Seconds between two calls, in which the threads of the one side stop waiting for more work."""


class Differs(UserError):
    """Both sides do not compute the same function."""


class Worker:
    """A process with one side of a comparison."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request, see `benchmarks.worker`.

        Raises:
            UserError: the process has ended.
        """
        process: Any = self._process
        try:
            print(json.dumps({"do": do, **request}), file=process.stdin, flush=True)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(
                f"a process ended with code {process.wait()} when asked to {do}; what it said is "
                "above (where there is nothing, memory may have run out)"
            )
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        process: Any = self._process
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Our process and the peer's."""

    ours: Worker
    peer: Worker

    @property
    def both(self) -> tuple[tuple[str, Worker], tuple[str, Worker]]:
        """The processes with the names of their sides."""
        return ("ours", self.ours), ("peer", self.peer)


@contextlib.contextmanager
def start() -> Iterator[Pair]:
    """Starts both processes, and ends them."""
    with contextlib.ExitStack() as stack:
        workers = []
        for _ in range(2):
            workers.append(Worker())
            stack.callback(workers[-1].close)
        yield Pair(*workers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of a case.

    Attributes:
        seconds: {"ours", "peer"} → seconds of each call, of decoding those of a token; those of one
            position were taken one after the other.
        facts: {"ours", "peer"} → number of parameters and threads, peak memory in bytes of the
            process since its start; of the compiled function temporaries in bytes, and the seconds
            that tracing and lowering it took and that compiling it took.
        difference: largest one of the outputs, relative to the peer's largest.
    """

    seconds: dict[str, list[float]]
    facts: dict[str, dict[str, Any]]
    difference: float

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds of each side."""
        return {side: float(np.median(seconds)) for side, seconds in self.seconds.items()}

    @property
    def ratios(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the ratios of paired times, peer / ours."""
        ratios = np.divide(self.seconds["peer"], self.seconds["ours"])
        low, median, high = np.percentile(ratios, (25, 50, 75))
        return float(low), float(median), float(high)


def measure(case: Case, model: Model, pair: Pair, folder: Path, *, rounds: int) -> Result:
    """Lets both sides do the same and times them.

    Args:
        case: what is compared.
        model: that of the case, or a tiny form of it.
        pair: the processes; their peak memory is that of the case if they are fresh.
        folder: where weights and outputs go.
        rounds: timed calls of each side.

    Raises:
        Differs: the outputs are not the same.
        UserError: a process ended, or the peer has no such model.
    """
    paths = weights.write(model.config, PEERS[case.peer], folder)
    workload = dataclasses.asdict(case.workload(model))
    num_parts = max(1, workload["num_new_tokens"])
    facts = {}
    for (side, worker), path in zip(pair.both, paths, strict=True):
        name = side if side == "ours" else case.peer
        facts[side] = worker.ask("load", side=name, path=str(path), workload=workload)
    difference = _compare(pair, folder)
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for i in range(rounds):
        for side, worker in pair.both if i % 2 else pair.both[::-1]:
            answer = worker.ask("call", seed=NUM_WARM_UPS + i)
            seconds[side].append(answer["seconds"] / num_parts)
            time.sleep(PAUSE)
    for side, worker in pair.both:
        facts[side] |= worker.ask("memory")
    return Result(seconds=seconds, facts=facts, difference=difference)


def _compare(pair: Pair, folder: Path) -> float:
    """Warms both sides up; the largest relative difference of their outputs."""
    worst = 0.0
    for seed in range(NUM_WARM_UPS):
        outputs = []
        for side, worker in pair.both:
            file = folder / f"{side}.npy"
            worker.ask("call", seed=seed, save=str(file))
            outputs.append(np.load(file))
        ours, peers = outputs
        if ours.shape != peers.shape:
            raise Differs(f"outputs of shape {ours.shape} and {peers.shape}")
        difference = float(np.abs(ours - peers).max() / np.abs(peers).max())
        if not difference <= TOLERANCE:
            raise Differs(
                f"outputs differ by {difference:.1e} of their scale, more than "
                f"{TOLERANCE:.0e}; the two sides do not compute the same, so times say nothing"
            )
        worst = max(worst, difference)
    return worst
