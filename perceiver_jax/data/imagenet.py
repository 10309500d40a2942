"""ImageNet (ILSVRC 2012): its 1,000 classes, and the command that prepares it for training.

python -m perceiver_jax.data.imagenet --archives=DIR --data_dir=DIR
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from perceiver_jax.command import run_command

COMMAND = "python -m perceiver_jax.data.imagenet"


@functools.cache
def imagenet_synsets() -> tuple[str, ...]:
    """Names of the classes in WordNet, such as n01440764, in the order of their labels."""
    return tuple(line.partition(" ")[0] for line in _lines())


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Names of the classes in the order of their labels: WordNet's words for each synset."""
    return tuple(line.partition(" ")[2] for line in _lines())


def in_words(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names in which synsets of ImageNet are replaced by their words."""
    words = dict(zip(imagenet_synsets(), imagenet_classes(), strict=True))
    return tuple(words.get(name, name) for name in class_names)


def _lines() -> list[str]:
    text = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepares the dataset 'tfds:imagenet2012' out of its archives; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Prepares ImageNet as TensorFlow Datasets does, in the ArrayRecord format and "
        "without TensorFlow. The archives are read in place; as much disk space as they have is "
        "needed once more.",
    )
    parser.add_argument(
        "--archives",
        type=Path,
        required=True,
        help="folder of ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
    )
    parser.add_argument(
        "--data_dir", help="folder of prepared datasets (default: that of TensorFlow Datasets)"
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        from perceiver_jax.data.imagenet_preparation import prepare

        print(prepare(options.archives, options.data_dir))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
