"""Compares this library with PyTorch implementations of the same models.

python -m benchmarks                             # all cases: more than half an hour on two cores
python -m benchmarks 'imagenet_a/forward/*' --rounds 21 --out forward.json

- A case runs in two processes, one with our model and one with the peer's, which are asked for one
  call each in turn. Reported are medians, and the median of the ratios of paired times: above 1 we
  are faster.
- Both have the same parameters, carried over by `interop`; outputs are compared in the same run,
  and where they differ the case fails.
- CPU, float32, as many threads as each framework takes by itself. Peak memory is that of the whole
  process, with its framework, loading and compilation. Compile times are without a cache.
- The last thing printed is a table in Markdown; the JSON file has every single time.
"""

import argparse
import fnmatch
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import pair, report
from benchmarks.cases import CASES, MODELS, Case
from perceiver_jax.command import run_command
from perceiver_jax.errors import UserError

TABLE_WIDTH = 200
"""Characters; a table in Markdown must not be folded to the width of a terminal."""


def main(arguments: Sequence[str]) -> int:
    """Runs the cases that the arguments name; 1 if any of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "patterns", nargs="*", default=["*"], help="names of cases, * stands for anything"
    )
    parser.add_argument("--rounds", type=int, default=11, help="timed calls of each side")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks.json"), help="JSON file to write"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UserError(f"--rounds={options.rounds} must be 1 or more")
    results: dict[Case, pair.Result | str] = {}
    for case in chosen(options.patterns):
        try:
            with tempfile.TemporaryDirectory() as folder, pair.start() as workers:
                result = pair.measure(
                    case, MODELS[case.model], workers, Path(folder), rounds=options.rounds
                )
        except UserError as error:
            print(f"{case.name}: FAILED, {error}", flush=True)
            result = str(error)
        else:
            print(report.line(case, result), flush=True)
        results[case] = result
        report.write(options.out, results, arguments)
    machine = report.machine()
    print(f"\n{machine['processor']}, {machine['num_cores']} cores; ours / peer:\n")
    Console(width=TABLE_WIDTH).print(report.table(results))
    print(f"written to {options.out}")
    return int(any(isinstance(result, str) for result in results.values()))


def chosen(patterns: Sequence[str]) -> list[Case]:
    """The cases that match any of the patterns.

    Raises:
        UserError: a pattern that matches none.
    """
    names = {case.name: case for case in CASES}
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            listed = "\n  ".join(names)
            raise UserError(f"no case matches '{pattern}'; there are\n  {listed}")
    return [
        case
        for name, case in names.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
