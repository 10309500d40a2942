"""`python -m perceiver_jax.run TASK --source=… INPUT`: models on files and texts."""

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


def fill_mask(options: argparse.Namespace) -> None:
    """Prints the most probable fills of every gap of each text."""
    from perceiver_jax.pipelines.mask_filling import MaskFilling
    from perceiver_jax.pipelines.texts import gather_texts
    from perceiver_jax.pretrained import open_source

    texts = gather_texts(options.text, options.file, options.lines)
    fill = MaskFilling(open_source(options.source), options.tokenizer)
    for text in texts:
        print(_shown(text))
        gaps = fill(text, options.top)
        for i, fills in enumerate(gaps, start=1):
            if len(gaps) > 1:
                print(f"  mask {i}")
            for word, probability in fills:
                print(f"  {probability:7.2%}  {word}")


def sentiment(options: argparse.Namespace) -> None:
    """Prints the most probable class of each text."""
    from perceiver_jax.pipelines.text_classification import TextClassification
    from perceiver_jax.pipelines.texts import gather_texts
    from perceiver_jax.pretrained import open_source

    texts = gather_texts(options.text, options.file, options.lines)
    classify = TextClassification(open_source(options.source), options.tokenizer)
    for text, labels in zip(texts, classify(texts, options.top), strict=True):
        for label, probability in labels:
            print(f"{probability:7.2%}  {label}  {_shown(text)}")


def _shown(text: str) -> str:
    """A text on one line, its beginning if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def add_text_arguments(task: argparse.ArgumentParser, top: int, what: str) -> None:
    """The options of tasks that read texts."""
    task.add_argument(
        "--source",
        required=True,
        help="workdir of a run, or FORMAT:PATH-OR-HUB-ID, as in deepmind:weights.pickle",
    )
    task.add_argument("--top", type=positive, default=top, help=f"how many {what} (default: {top})")
    task.add_argument(
        "--file",
        type=Path,
        action="append",
        default=[],
        help="a file that is one text; - for standard input",
    )
    task.add_argument(
        "--lines", type=Path, action="append", default=[], help="a file with a text on each line"
    )
    task.add_argument("--tokenizer", help="where the source does not tell: a tokenizer file")
    task.add_argument("text", nargs="*", help="texts")


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

    task = tasks.add_parser("fill-mask", help="texts with [MASK] to the most probable words")
    add_text_arguments(task, 5, "words for each mask")
    task.set_defaults(run=fill_mask)

    task = tasks.add_parser("sentiment", help="texts to their class: positive, negative")
    add_text_arguments(task, 1, "classes")
    task.set_defaults(run=sentiment)

    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
