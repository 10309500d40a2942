"""`python -m perceiver_jax.export SOURCE`: a trained model as a folder that runs without this.

What is written needs jax, numpy and flatbuffers to run, and nothing of perceiver_jax.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.command import add_step_argument, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the artifact; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m perceiver_jax.export", description=__doc__)
    parser.add_argument(
        "source", help="workdir of a run, or FORMAT:PATH-OR-HUB-ID, as in deepmind:weights.pystate"
    )
    parser.add_argument("--out", type=Path, help="folder to write (default: export in the workdir)")
    add_step_argument(parser)
    parser.add_argument(
        "--platforms",
        type=_platforms,
        default="cpu,cuda,tpu",
        help="what the program runs on, with commas (default: cpu,cuda,tpu)",
    )
    parser.add_argument(
        "--batch-size", type=_positive, help="the only size of batch (default: any size)"
    )
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        default=[],
        metavar="NAME=N",
        help="a size that the model leaves open, as in tokens=512, points=2048, steps=128; may be "
        "repeated (default: the most tokens that it takes; otherwise that of the run's data)",
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> None:
    from perceiver_jax.errors import UserError
    from perceiver_jax.export.artifact import export_release, export_run
    from perceiver_jax.pretrained import open_source

    settings = {
        "sizes": dict(options.size),
        "platforms": options.platforms,
        "batch_size": options.batch_size,
    }
    if (Path(options.source) / "checkpoints").is_dir():
        made = export_run(Path(options.source), options.out, step=options.step, **settings)
    else:
        released = open_source(options.source, options.step)
        if options.out is None:
            raise UserError("name a folder with --out; only a run has a place for its artifact")
        made = export_release(released, options.out, **settings)
    for file in sorted(made.folder.iterdir()):
        print(f"{file}  {file.stat().st_size:,} bytes")
    difference = made.description["difference"]
    if difference is None:
        print("not compared with the model: this machine is none of its platforms")
    else:
        print(
            f"largest difference from the model, on random input: {difference['largest']:.1e}, of "
            f"outputs up to {difference['of_outputs_up_to']:.3g}"
        )


def _platforms(text: str) -> tuple[str, ...]:
    known, names = ("cpu", "cuda", "rocm", "tpu"), tuple(text.split(","))
    for name in names:
        if name not in known:
            meant = "; a GPU of NVIDIA is cuda, one of AMD rocm" if name == "gpu" else ""
            raise argparse.ArgumentTypeError(
                f"'{name}' is no platform of {', '.join(known)}{meant}"
            )
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def _size(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\w+)=([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; give one as in tokens=512")
    return found[1], int(found[2])


if __name__ == "__main__":
    sys.exit(main())
