"""One side of a comparison in a process of its own; `benchmarks.pair` starts it and asks.

- Requests and answers are lines of JSON on standard input and output.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Loaded, Workload

STATUS = Path("/proc/self/status")


def main() -> None:
    """Answers requests until there are no more."""
    # What libraries print goes to standard error, so that it does not mix with answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    workload: Any = None
    loaded: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "load":
            loaded = None  # makes room
            workload = Workload(**request["workload"])
            loaded = _load(request["side"], Path(request["path"]), workload)
            answer = loaded.facts
        elif request["do"] == "call":
            batch = workload.batch(request["seed"])
            answer = {"seconds": _call(loaded, batch, request.get("save"))}
        else:
            answer = {"peak_bytes": _peak_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


def _load(side: str, path: Path, workload: Workload) -> Loaded:
    if side == "ours":
        from benchmarks import ours

        return ours.load(path, workload)
    from benchmarks import peers

    return peers.load(side, path, workload)


def _call(loaded: Loaded, batch: dict[str, np.ndarray], save: str | None) -> float:
    """Seconds that one call took; its output goes to a file `.npy` if one is named."""
    placed = loaded.place(batch)
    start = time.perf_counter()
    output = loaded.run(placed)
    seconds = time.perf_counter() - start
    if save is not None:
        np.save(save, np.asarray(output))
    return seconds


def _peak_bytes() -> int | None:
    """Most memory that this process has had resident; None where the system does not say.

    `resource.getrusage` would count what the parent held when it started this process.
    """
    if not STATUS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    main()
