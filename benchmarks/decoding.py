"""What a new token costs over the length of the sequence before it, up to the full context.

python -m benchmarks.decoding
python -m benchmarks.decoding --plot cost.png --batch-size 8 --rounds 5

- The model of bytes with 4,096 positions and 512 latents, ours and perceiver-io's, in the two
  processes that `python -m benchmarks` compares; greedy, with both caches, the same tokens.
- A length is that at the end of 64 decoded tokens, with which the latents are used up: the last one
  is the full context.
- Printed are a table and, for each side, how much slower the slowest length is than the fastest.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import pair
from benchmarks.cases import MODELS, Case, Model, Stretch
from perceiver_jax.command import run_command
from perceiver_jax.errors import UserError

MODEL, PEER = "causal_bytes", "krasserm"
NUM_LENGTHS = 8
NEW_PART = 8
"""Of the latents, one in so many is decoded."""
PLOT = Path("docs/images/cost_per_token.png")
COLORS = {"ours": "#4c72b0", "peer": "#dd8452"}
NAMES = {"ours": "perceiver_jax", "peer": "perceiver-io"}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a token costs at one length.

    Attributes:
        num_tokens: of the sequence.
        seconds: {"ours", "peer"} → median seconds of a token.
        ratio: median of the paired ratios, the peer's time over ours.
    """

    num_tokens: int
    seconds: dict[str, float]
    ratio: float


def cases(model: Model, batch_size: int) -> list[Case]:
    """Decoding up to evenly spaced lengths, the last of which is the full context."""
    config: Any = model.config
    num_new = config.max_latents // NEW_PART
    num_latents = config.max_latents - num_new
    step = config.max_seq_len // NUM_LENGTHS
    return [
        Case(
            MODEL,
            "decode",
            batch_size,
            PEER,
            stretch=Stretch(length - num_new, num_latents, num_new),
        )
        for length in range(step, config.max_seq_len + 1, step)
    ]


def measure(model: Model, *, batch_size: int, rounds: int) -> list[Cost]:
    """Measures all lengths, one after the other, in the same two processes."""
    costs = []
    with tempfile.TemporaryDirectory() as folder, pair.start() as workers:
        for case in cases(model, batch_size):
            result = pair.measure(case, model, workers, Path(folder), rounds=rounds)
            stretch = case.stretch or Stretch(0, 0)
            length = stretch.num_prompt_tokens + stretch.num_new_tokens
            costs.append(Cost(length, result.medians, result.ratios[1]))
    return costs


def spread(costs: Sequence[Cost], side: str) -> float:
    """How many times as long the slowest length takes as the fastest."""
    seconds = [cost.seconds[side] for cost in costs]
    return max(seconds) / min(seconds)


def plot(costs: Sequence[Cost], path: Path, batch_size: int) -> None:
    """Draws the time of a token over the length, from zero, into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    lengths = [cost.num_tokens for cost in costs]
    for side, name in NAMES.items():
        milliseconds = [1e3 * cost.seconds[side] for cost in costs]
        axes.plot(lengths, milliseconds, color=COLORS[side], marker="o", label=name)
    axes.set_title(f"a new token, batch size {batch_size}", loc="left")
    axes.set_xlabel("tokens of the sequence")
    axes.set_ylabel("ms per token")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str]) -> None:
    """Measures, prints and plots."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plot", type=Path, default=PLOT, help="PNG file to write")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each length and side")
    parser.add_argument("--batch-size", type=int, default=1, help="sequences at a time")
    options = parser.parse_args(arguments)
    for name in ("rounds", "batch_size"):
        if getattr(options, name) < 1:
            given = f"--{name.replace('_', '-')}={getattr(options, name)}"
            raise UserError(f"{given} must be 1 or more")
    costs = measure(MODELS[MODEL], batch_size=options.batch_size, rounds=options.rounds)
    table = Table("tokens", "ms, ours / peer", "ratio", box=box.MARKDOWN)
    for cost in costs:
        ours, peer = (f"{1e3 * cost.seconds[side]:.1f}" for side in ("ours", "peer"))
        table.add_row(f"{cost.num_tokens:,}", f"{ours} / {peer}", f"{cost.ratio:.2f}")
    Console().print(table)
    plot(costs, options.plot, options.batch_size)
    for side, name in NAMES.items():
        print(f"{name}: slowest over fastest length {spread(costs, side):.2f}")
    print(f"drawn to {options.plot}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
