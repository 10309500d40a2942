"""What the encoder's cross-attention costs over the size of its input, 10,000 to 1,000,000 tokens.

python -m benchmarks.input_size
python -m benchmarks.input_size --plot cost.png --rounds 9

- Square images, every pixel a token with Fourier features; 512 latents of 1024 channels, one head:
  the cross-attention of ImageNet's configuration A, from image to latents, MLP included.
- Time is the median of calls made in turn over all sizes; memory is what XLA sets aside for
  temporaries, without inputs, parameters and outputs.
- Printed are a table, a line fitted to the times, whose constant is what the latents cost by
  themselves, and the exponent of a power law fitted to the same.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.cases import MODELS
from benchmarks.ours import cross_attend
from perceiver_jax import models
from perceiver_jax.command import run_command

SIDES = (100, 178, 316, 562, 1000)
"""Of square images in pixels, in steps of half a power of ten."""
PLOT = Path("docs/images/input_size.png")
OURS, REFERENCE = "#4c72b0", "#8c8c8c"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one size costs.

    Attributes:
        num_tokens: input elements M.
        seconds: of one call, median.
        temporary_bytes: of the compiled function.
        dense_bytes: of the input tokens [1, M, C] in float32, were they written out.
    """

    num_tokens: int
    seconds: float
    temporary_bytes: int
    dense_bytes: int


def measure(sides: Sequence[int], *, rounds: int, num_latents: int = 512) -> list[Cost]:
    """Measures images of these sides.

    Args:
        sides: height and width in pixels.
        rounds: timed calls of each size, after one that is not timed.
        num_latents: latents N, of 2N channels.
    """
    function = jax.jit(cross_attend)
    rng = np.random.default_rng(0)
    calls, sizes = [], []
    for side in sides:
        model = _model((side, side, 3), num_latents)
        images = jax.device_put(rng.standard_normal((1, side, side, 3), np.float32))
        memory: Any = function.lower(model, images).compile().memory_analysis()
        num_tokens, channels = side**2, model.encoder.input_adapter.num_input_channels
        sizes.append((num_tokens, memory.temp_size_in_bytes, 4 * num_tokens * channels))
        calls.append((model, images))
    seconds = np.array([[_timed(function, *call) for call in calls] for _ in range(1 + rounds)])
    medians = np.median(seconds[1:], axis=0)
    return [
        Cost(num_tokens, float(median), temporary, dense)
        for (num_tokens, temporary, dense), median in zip(sizes, medians, strict=True)
    ]


def exponent(costs: Sequence[Cost]) -> float:
    """That of the power of the number of tokens that fits the times best."""
    tokens = [math.log(cost.num_tokens) for cost in costs]
    return float(np.polyfit(tokens, [math.log(cost.seconds) for cost in costs], 1)[0])


def line(costs: Sequence[Cost]) -> tuple[float, float, float]:
    """Fits a line to times over tokens, by relative errors.

    Returns:
        Seconds for no tokens, seconds per token, and the largest error relative to the time.
    """
    tokens = np.array([cost.num_tokens for cost in costs])
    seconds = np.array([cost.seconds for cost in costs])
    slope, constant = np.polyfit(tokens, seconds, 1, w=1 / seconds)
    worst = np.abs((constant + slope * tokens) / seconds - 1).max()
    return float(constant), float(slope), float(worst)


def plot(costs: Sequence[Cost], path: Path) -> None:
    """Draws time and memory over tokens, both axes logarithmic, into a PNG."""
    from matplotlib.figure import Figure

    tokens = np.array([cost.num_tokens for cost in costs])
    seconds = [cost.seconds for cost in costs]
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    constant, slope, _ = line(costs)
    fitted = constant + slope * tokens
    time_axes.plot(tokens, fitted, color=REFERENCE, linestyle="--", label="fitted line")
    time_axes.plot(tokens, seconds, color=OURS, marker="o", label="cross-attention")
    time_axes.set_title(_formula(constant, slope), loc="left")
    time_axes.set_ylabel("seconds")
    dense = [cost.dense_bytes / 1e6 for cost in costs]
    temporary = [cost.temporary_bytes / 1e6 for cost in costs]
    memory_axes.plot(tokens, dense, color=REFERENCE, linestyle="--", label="input, written out")
    memory_axes.plot(tokens, temporary, color=OURS, marker="o", label="temporaries")
    memory_axes.set_title("memory of one call", loc="left")
    memory_axes.set_ylabel("MB")
    for axes in (time_axes, memory_axes):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("input tokens")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    memory_axes.set_ylim(bottom=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints and plots."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_size",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plot", type=Path, default=PLOT, help="PNG file to write")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each size")
    options = parser.parse_args(arguments)
    costs = measure(SIDES, rounds=options.rounds)
    table = Table("tokens", "ms", "temporaries MB", "input written out MB", box=box.MARKDOWN)
    for cost in costs:
        table.add_row(
            f"{cost.num_tokens:,}",
            f"{1e3 * cost.seconds:,.0f}",
            f"{cost.temporary_bytes / 1e6:,.1f}",
            f"{cost.dense_bytes / 1e6:,.0f}",
        )
    Console().print(table)
    plot(costs, options.plot)
    constant, slope, worst = line(costs)
    print(f"{_formula(constant, slope)}, within {worst:.0%}")
    print(f"as a power of the number of tokens: {exponent(costs):.2f}")
    print(f"drawn to {options.plot}")


def _formula(constant: float, slope: float) -> str:
    return f"time: {1e3 * constant:.0f} ms + {1e6 * slope:.2f} µs per token"


def _model(image_shape: tuple[int, int, int], num_latents: int) -> Any:
    """ImageNet's configuration A for images of this shape, without its tower."""
    config = MODELS["imagenet_a"].config
    encoder: Any = dataclasses.replace(
        config.encoder,
        image_shape=image_shape,
        num_self_attention_layers_per_block=1,
        num_self_attention_blocks=1,
    )
    config = dataclasses.replace(
        config, encoder=encoder, num_latents=num_latents, num_latent_channels=2 * num_latents
    )
    return models.build(config, jax.random.key(0))


def _timed(function: Any, *arguments: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
