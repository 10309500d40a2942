"""What bounds a cached step: the products of a few rows with all weights, alone, here and in torch.

`python -m benchmarks.products [--rounds N]`
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from perceiver_jax.typing import Array

NUM_LAYERS, NUM_CHANNELS, NUM_HIDDEN = 9, 512, 2048
"""Those of `causal_bytes`; each layer has four square kernels and the two of its MLP."""
ROWS = (1, 2, 4, 8, 16)


def kernels() -> list[np.ndarray]:
    """[in, out] kernels of a model like `causal_bytes`."""
    rng = np.random.default_rng(0)
    square = [(NUM_CHANNELS, NUM_CHANNELS)] * 4
    shapes = [*square, (NUM_CHANNELS, NUM_HIDDEN), (NUM_HIDDEN, NUM_CHANNELS)] * NUM_LAYERS
    return [rng.normal(size=shape).astype(np.float32) / shape[0] ** 0.5 for shape in shapes]


def rows_left(x: Array, ws: list[Array]) -> Array:
    """[rows, channels] through all kernels [in, out], one after the other."""
    for w in ws:
        x = x @ w
    return x


def kernel_left(x: Array, ws: list[Array]) -> Array:
    """[channels, rows] through all kernels, stored as [out, in]."""
    for w in ws:
        x = w @ x
    return x


def torch_products(ws: list[np.ndarray], rows: int) -> Callable[[], Any]:
    """The same in torch, whose layers store [out, in]."""
    import torch

    tensors = [torch.from_numpy(np.ascontiguousarray(w.T)) for w in ws]
    x = torch.ones(rows, NUM_CHANNELS)

    def run():
        y = x
        with torch.inference_mode():
            for w in tensors:
                y = torch.nn.functional.linear(y, w)
        return y

    return run


def main() -> None:
    """Times the three, in turn."""
    parser = argparse.ArgumentParser(description="Times products of a few rows.")
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each; 20")
    rounds = parser.parse_args().rounds
    weights = kernels()
    ours = [jnp.asarray(w) for w in weights]
    turned = [jnp.asarray(w.T) for w in weights]
    table = Table("rows", "rows · kernel, ms", "kernel · rows, ms", "torch, ms")
    left, right = jax.jit(rows_left), jax.jit(kernel_left)
    for rows in ROWS:
        x = jnp.ones((rows, NUM_CHANNELS))
        calls: list[Callable[[], Any]] = [
            lambda x=x: left(x, ours).block_until_ready(),
            lambda x=x.T: right(x, turned).block_until_ready(),
            torch_products(weights, rows),
        ]
        seconds = [[] for _ in calls]
        for _ in range(rounds + 2):
            for times, call in zip(seconds, calls, strict=True):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
        table.add_row(str(rows), *(f"{1e3 * np.median(times[2:]):.1f}" for times in seconds))
    megabytes = sum(w.nbytes for w in weights) / 1e6
    console = Console()
    console.print(f"{megabytes:.0f} MB of kernels")
    console.print(table)


if __name__ == "__main__":
    main()
