"""`python -m perceiver_jax.run TASK --source=… INPUT`: models on files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.command import run_command


def classify_image(options: argparse.Namespace) -> None:
    """Prints the most probable classes of each image."""
    from perceiver_jax.pipelines.image_classification import ImageClassification, image_files
    from perceiver_jax.pretrained import open_source

    files = image_files(options.image)
    classify = ImageClassification(open_source(options.source))
    for file, guesses in zip(files, classify(files, options.top), strict=True):
        print(file)
        for label, probability in guesses:
            print(f"  {probability:7.2%}  {label}")


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the task; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m perceiver_jax.run", description=__doc__)
    tasks = parser.add_subparsers(metavar="TASK", required=True)

    task = tasks.add_parser("classify-image", help="images to the most probable classes")
    task.add_argument(
        "--source",
        required=True,
        help="workdir of a run, or FORMAT:PATH-OR-HUB-ID, as in deepmind:weights.pystate",
    )
    task.add_argument("--top", type=positive, default=5, help="how many classes (default: 5)")
    task.add_argument("image", type=Path, nargs="+", help="image files, or folders of them")
    task.set_defaults(run=classify_image)

    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
