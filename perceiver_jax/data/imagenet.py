"""The 1,000 classes of ImageNet (ILSVRC 2012)."""

import functools
from pathlib import Path


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Names of the classes in the order of their labels: WordNet's words for each synset."""
    text = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(line.partition(" ")[2] for line in text.splitlines())
