"""DeepMind's files: Haiku's pickles, which say nothing of the model that they hold.

- The published models are recognised by names and shapes; for others the arguments stand in a JSON
  file beside the weights.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from interop.files import FileError, haiku, npz
from interop.foreign import Foreign
from interop.formats.deepmind.arguments import PUBLISHED, settings
from interop.formats.deepmind.table import rows
from interop.formats.settings import settings_beside, write_settings_beside
from interop.ops import KEEP
from perceiver_jax.card import ImagePreprocessing
from perceiver_jax.data.imagenet import imagenet_classes
from perceiver_jax.models import skeleton


def read(source: Path) -> Foreign:
    """A `.pystate` or `.pickle` of Haiku's parameters, or an `.npz` of them.

    Raises:
        FileError: it is not such a file, or damaged.
    """
    arrays = npz.read(source) if source.suffix == ".npz" else haiku.read(source)
    foreign = Foreign(
        arrays=arrays, settings=settings_beside(source), preprocessing=ImagePreprocessing()
    )
    name = None if foreign.settings else published(arrays)
    if name is None:
        return foreign
    return dataclasses.replace(
        foreign,
        settings=settings(PUBLISHED[name]()),
        labels=imagenet_classes(),
        origin=f"DeepMind, Perceiver IO, {name} (recognised by its shapes)",
        licence="CC BY 4.0",
    )


def published(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the released model that has arrays of these names and shapes, or None."""
    got = {name: array.shape for name, array in arrays.items()}
    for name, preset in PUBLISHED.items():
        structure, table = skeleton(preset()), rows(preset())
        wanted = {path: x.shape for path, x in (structure.params | structure.stats).items()}
        names = {name for row in table for name in (*row.theirs, *row.tied)}
        if names == got.keys() and all(
            got[row.theirs[0]] == wanted[row.ours[0]]
            for row in table
            if row.ours and row.op is KEEP
        ):
            return name
    return None


def write(destination: Path, foreign: Foreign) -> None:
    """A pickle as DeepMind released them, or an `.npz`; the arguments in a JSON file beside it.

    Raises:
        FileError: the name has another ending.
    """
    writers = {".pystate": haiku.write, ".pickle": haiku.write, ".npz": npz.write}
    if destination.suffix not in writers:
        raise FileError(f"{destination} has to end in {', '.join(writers)} for this format")
    writers[destination.suffix](destination, foreign.arrays)
    write_settings_beside(destination, foreign.settings)
