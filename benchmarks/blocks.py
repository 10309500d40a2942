"""Long causal attention: blocks, the dense form, and torch's fused attention, called in turn.

python -m benchmarks.blocks [--rounds 9]

- Queries are the last N of M positions, as the latents of Perceiver AR are. CPU, float32.
- One process; outputs are compared before anything is timed. Ratios are medians of paired times,
  the other's over that of the blocks: above 1 the blocks are faster.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.command import run_command
from perceiver_jax.core.blockwise import attend_blockwise
from perceiver_jax.core.dense import attend
from perceiver_jax.errors import UserError

TOLERANCE = 1e-4
"""Largest difference of outputs of about unit size."""


@dataclasses.dataclass(frozen=True)
class Size:
    """N queries, M keys, H heads of K channels; whether the dense form fits into memory."""

    num_queries: int
    num_keys: int
    num_heads: int = 8
    num_channels: int = 64
    dense: bool = True


SIZES = (Size(512, 4096), Size(1024, 131_072, dense=False))


def forms(size: Size, arrays: Sequence[np.ndarray]) -> dict[str, tuple[Callable, Callable, int]]:
    """{name: (forward, forward and gradients, bytes of temporaries of the latter)}."""
    result = {}
    for name, form in (("blocks", attend_blockwise), ("dense", attend)):
        if name == "dense" and not size.dense:
            continue
        ours = [jnp.asarray(x) for x in arrays]
        forward = jax.jit(lambda q, k, v, form=form: form(q, k, v, causal=True))
        gradients = jax.jit(
            jax.grad(lambda q, k, v, form=form: form(q, k, v, causal=True).sum(), (0, 1, 2))
        )
        memory = gradients.lower(*ours).compile().memory_analysis()
        result[name] = (
            lambda f=forward, x=ours: jax.block_until_ready(f(*x)),
            lambda f=gradients, x=ours: jax.block_until_ready(f(*x)),
            memory.temp_size_in_bytes if memory else 0,
        )
    return result | {"torch": torch_form(size, arrays)}


def torch_form(size: Size, arrays: Sequence[np.ndarray]) -> tuple[Callable, Callable, int]:
    """The same by `scaled_dot_product_attention` with the mask written out, as it takes it."""
    import torch

    q, k, v = (torch.from_numpy(x).transpose(1, 2).contiguous() for x in arrays)
    mask = torch.ones(size.num_queries, size.num_keys, dtype=torch.bool)
    mask = mask.tril(size.num_keys - size.num_queries)

    def attend(q, k, v):
        result = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return result.transpose(1, 2).flatten(2)

    def forward():
        with torch.inference_mode():
            return attend(q, k, v).numpy()

    def gradients():
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        attend(*leaves).sum().backward()

    return forward, gradients, 0


def measure(size: Size, rounds: int) -> None:
    """Prints a row for the forward pass and one with gradients.

    Raises:
        UserError: outputs differ.
    """
    rng = np.random.default_rng(0)
    shape = (size.num_heads, size.num_channels)
    arrays = [
        rng.normal(size=(1, n, *shape)).astype(np.float32)
        for n in (size.num_queries, size.num_keys, size.num_keys)
    ]
    found: dict[str, Any] = forms(size, arrays)
    outputs = {name: np.asarray(form[0]()) for name, form in found.items()}
    for name, output in outputs.items():
        difference = np.abs(output - outputs["blocks"]).max()
        if not difference < TOLERANCE:
            raise UserError(f"outputs of {name} and of blocks differ by {difference:.1e}")
    for which, what in enumerate(("forward", "with gradients")):
        times: dict[str, list[float]] = {name: [] for name in found}
        for i in range(rounds + 1):
            for name, form in found.items():
                start = time.perf_counter()
                form[which]()
                if i:  # the first call warms up
                    times[name].append(time.perf_counter() - start)
        ratios = {
            name: statistics.median(
                other / own for other, own in zip(times[name], times["blocks"], strict=True)
            )
            for name in found
            if name != "blocks"
        }
        described = ", ".join(
            f"{ratio:.2f} times as fast as {name}" for name, ratio in ratios.items()
        )
        memory = ", ".join(
            f"{name} {found[name][2] / 1e6:,.0f} MB" for name in found if found[name][2]
        )
        milliseconds = statistics.median(times["blocks"]) * 1e3
        print(
            f"N {size.num_queries:,}, M {size.num_keys:,}, {what}: {milliseconds:,.0f} ms, "
            f"{described}; temporaries of the gradients: {memory}",
            flush=True,
        )


def main(arguments: Sequence[str]) -> None:
    """Measures all sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blocks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of each form")
    options = parser.parse_args(arguments)
    for size in SIZES:
        measure(size, options.rounds)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
