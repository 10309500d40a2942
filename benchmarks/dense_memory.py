"""Peak memory of dense outputs at their published sizes: optical flow and video decoding.

`python -m benchmarks.dense_memory [CASE ...]`: each case in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from perceiver_jax import models
from perceiver_jax.models.release import release
from perceiver_jax.pipelines.optical_flow import OpticalFlowEstimation

FULL_HD = (1080, 1920)


def flow_of(size: tuple[int, int]) -> None:
    """Flow between two pictures of a size, tile by tile."""
    model = models.build(models.optical_flow_perceiver(), jax.random.key(0))
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    (flow,) = OpticalFlowEstimation(release(model))([(pictures[0], pictures[1])])
    assert flow.shape == (*size, 2)


def video() -> None:
    """A clip of 16 frames of 224×224 and 0.64 s of sound, every pixel and sample of it."""
    model = models.build(models.video_perceiver(), jax.random.key(0))
    rng = np.random.default_rng(0)
    clip = {
        "image": rng.random((1, 16, 224, 224, 3), np.float32),
        "audio": rng.random((1, 30_720, 1), np.float32),
    }
    outputs = jax.block_until_ready(jax.jit(lambda model, clip: model(clip))(model, clip))
    assert outputs["image"].shape == (1, 16, 224, 224, 3)


CASES: dict[str, Callable[[], None]] = {
    "flow_368x496": lambda: flow_of((368, 496)),
    "flow_1080x1920": lambda: flow_of(FULL_HD),
    "video_16x224x224": video,
}
"""What is done, by name."""


def measure(case: str) -> dict[str, float]:
    """Does it once; seconds, compilation included, and the peak memory of this process in MB."""
    start = time.perf_counter()
    CASES[case]()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"seconds": seconds, "peak": peak}


def main() -> None:
    """Measures the cases that are asked for, each in a fresh process."""
    parser = argparse.ArgumentParser(description="Peak memory of dense outputs.")
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; all, if none is named")
    parser.add_argument("--here", action="store_true", help="in this process, as JSON")
    options = parser.parse_args()
    cases = options.case or list(CASES)
    if unknown := [case for case in cases if case not in CASES]:
        parser.error(f"there is no case {unknown[0]}; there are {', '.join(CASES)}")
    if options.here:
        print(json.dumps(measure(cases[0])))
        return
    table = Table("case", "peak MB", "seconds")
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.dense_memory", "--here", case]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        table.add_row(case, f"{found['peak']:,.0f}", f"{found['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
