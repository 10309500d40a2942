"""How long until something happens: imports, and commands up to the end of their first step.

python -m benchmarks.startup
python -m benchmarks.startup --rounds 5 --out startup.json

- Each time is that of a fresh process, from its start. A round runs everything once with an empty
  compilation cache (cold) and once more with what that left (warm); reported are medians.
- A step has ended when the run writes its metrics.
- Python's own files are in memory: machine and environment have run before.
- The last thing printed is a table in Markdown; the JSON file has every single time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import report
from perceiver_jax.command import run_command
from perceiver_jax.errors import UserError

IMPORTS = ("perceiver_jax", "perceiver_jax.models")
CONFIGS = ("mnist5k", "imagenet_a:smoke")
Times = dict[str, dict[str, list[float]]]
"""Seconds of each round, by what was started and by `cold` or `warm`."""


def main(arguments: Sequence[str]) -> None:
    """Measures, prints the table and writes the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each time is taken")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/startup.json"), help="JSON file to write"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UserError(f"--rounds={options.rounds} must be 1 or more")
    times = measure(options.rounds)
    write(options.out, times)
    Console().print(table(times))
    print(f"written to {options.out}")


def measure(num_rounds: int) -> Times:
    """The times of all rounds; an import compiles nothing, so that it has no cold one."""
    imports = [f"import {name}" for name in IMPORTS]
    steps = [f"first step of {name}" for name in CONFIGS]
    times: Times = {name: {"warm": []} for name in imports}
    times |= {name: {"cold": [], "warm": []} for name in steps}
    for _ in range(num_rounds):
        for statement in imports:
            times[statement]["warm"].append(import_seconds(statement))
        for name, config in zip(steps, CONFIGS, strict=True):
            with tempfile.TemporaryDirectory() as cache:
                for state, found in times[name].items():
                    found.append(first_step_seconds(config, Path(cache)))
                    print(f"{name}, {state}: {found[-1]:.1f} s", flush=True)
    return times


def import_seconds(statement: str) -> float:
    """From the start of Python to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def first_step_seconds(config: str, cache: Path) -> float:
    """From the start of a training command until its first step is done; then it is killed.

    Args:
        config: of the run, as the command takes it.
        cache: the user's cache folder of that process.

    Raises:
        UserError: the command ended before.
    """
    # What else JAX was told would decide over the cache.
    environment = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workdir:
        rows = Path(workdir) / "metrics.jsonl"
        command = [sys.executable, "-m", "perceiver_jax.train.main", f"--config={config}"]
        command += [f"--workdir={workdir}", "--config.log_every=1"]
        start = time.perf_counter()
        with subprocess.Popen(
            command,
            env=environment | {"XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not (rows.exists() and rows.stat().st_size):
                if process.poll() is not None:
                    raise UserError(f"{' '.join(command)} failed:\n{process.communicate()[1]}")
                time.sleep(0.005)
            seconds = time.perf_counter() - start
            process.kill()
        return seconds


def table(times: Times) -> Table:
    """A Markdown table of medians."""
    found = Table("seconds until", "cold", "warm", box=box.MARKDOWN)
    for name, states in times.items():
        medians = [
            f"{statistics.median(states[state]):.2f}" if state in states else ""
            for state in ("cold", "warm")
        ]
        found.add_row(name, *medians)
    return found


def write(path: Path, times: Times) -> None:
    """Writes every single time, in seconds, and what they were measured with."""
    tree = {"machine": report.machine(), "versions": report.versions(), "seconds": times}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
