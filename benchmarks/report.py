"""What a run of the benchmarks says: a table to paste, and JSON with everything."""

import dataclasses
import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

import perceiver_jax
from benchmarks.cases import Case
from benchmarks.pair import Result

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "torch",
    "perceiver-io",
    "transformers",
    "perceiver-pytorch",
)
Results = Mapping[Case, Result | str]
"""What came of each case: a measurement, or why there is none."""


def table(results: Results) -> Table:
    """A Markdown table, a line per case; pairs are ours / the peer's, times are medians.

    Ours is traced and lowered, then compiled, in `lower + compile` seconds. Times of decoding are
    those of a token.
    """
    columns = ("case", "ms", "ratio", "quartiles", "must", "aim", "reached")
    columns += ("threads", "peak MB", "temporaries MB", "difference")
    columns += ("lower + compile s",)
    found = Table(*columns, box=box.MARKDOWN)
    for case, result in results.items():
        if isinstance(result, str):
            found.add_row(case.name, "failed")
            continue
        ours, peer = result.facts["ours"], result.facts["peer"]
        low, ratio, high = result.ratios
        found.add_row(
            case.name,
            f"{_ms(result.medians['ours'])} / {_ms(result.medians['peer'])}",
            f"{ratio:.2f}",
            f"{low:.2f} – {high:.2f}",
            "" if case.must is None else f"{case.must:g}",
            "" if case.aim is None else f"{case.aim:g}",
            reached(case, ratio),
            f"{ours['num_threads']} / {peer['num_threads']}",
            f"{_mb(ours['peak_bytes'])} / {_mb(peer['peak_bytes'])}",
            _mb(ours.get("temporary_bytes")),
            f"{result.difference:.0e}",
            _compilation(ours),
        )
    return found


def line(case: Case, result: Result) -> str:
    """The gist of a case."""
    low, ratio, high = result.ratios
    ours, peer = result.medians["ours"], result.medians["peer"]
    return (
        f"{case.name}: {_ms(ours)} ms, peer {_ms(peer)} ms, ratio {ratio:.2f} "
        f"({low:.2f} – {high:.2f}) {reached(case, ratio)}"
    )


def reached(case: Case, ratio: float) -> str:
    """`aim`, `must` or `NO`; nothing where nothing was wanted."""
    if case.must is None:
        return ""
    if case.aim is not None and ratio >= case.aim:
        return "aim"
    return "must" if ratio >= case.must else "NO"


def write(path: Path, results: Results, command: Sequence[str]) -> None:
    """Writes all that is known of a run, times in seconds and memory in bytes.

    Args:
        path: of the JSON file; folders are made.
        results: of the cases so far.
        command: the arguments that the run was started with.
    """
    cases = []
    for case, result in results.items():
        found: dict[str, Any] = {"name": case.name, **dataclasses.asdict(case)}
        if isinstance(result, str):
            found["failure"] = result
        else:
            low, ratio, high = result.ratios
            found |= {
                "median_seconds": result.medians,
                "ratio": ratio,
                "ratio_quartiles": [low, high],
                "reached": reached(case, ratio),
                **dataclasses.asdict(result),
            }
        cases.append(found)
    tree = {
        "date": datetime.date.today().isoformat(),
        "command": ["python", "-m", "benchmarks", *command],
        "machine": machine(),
        "versions": versions(),
        "cases": cases,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Kind of processor, its cores, the system."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    return {
        "processor": name,
        "architecture": platform.machine(),
        "num_cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that take part; None of those not installed."""
    found: dict[str, str | None] = {"perceiver_jax": perceiver_jax.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _compilation(facts: Mapping[str, Any]) -> str:
    """Nothing where several programs are compiled, when they are first called."""
    if "compile_seconds" not in facts:
        return ""
    return f"{facts['lower_seconds']:.1f} + {facts['compile_seconds']:.1f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.{1 if seconds < 0.1 else 0}f}"


def _mb(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / 1e6:,.{1 if num_bytes < 1e7 else 0}f}"
