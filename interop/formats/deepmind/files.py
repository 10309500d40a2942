"""DeepMind's files: Haiku's pickles, which say nothing of the model that they hold.

- The published models are recognised by names and shapes; for others the arguments stand in a JSON
  file beside the weights.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, haiku, npz
from interop.foreign import Foreign
from interop.formats.deepmind import (
    imagenet,
    language_model,
    optical_flow,
    perceiver_ar,
    video_autoencoder,
)
from interop.formats.deepmind.kinds import FAMILIES, WHOSE
from interop.formats.deepmind.released import PUBLISHED
from interop.formats.families import family_of
from interop.formats.settings import settings_beside, write_settings_beside
from interop.ops import KEEP
from perceiver_jax.card import ImagePreprocessing, TextPreprocessing
from perceiver_jax.data.imagenet import imagenet_classes
from perceiver_jax.models import AnyModelConfig, skeleton

NUM_BYTES = 262
"""The vocabulary of UTF-8 bytes."""
ENDINGS = (".pystate", ".pickle", ".npz")
"""Of files that are written."""
FRAMES = f"{optical_flow.PROJECTION}/w"
"""A tensor that only models of two frames have."""
BARE = {
    language_model.EMBEDDING,
    perceiver_ar.EMBEDDING,
    FRAMES,
    video_autoencoder.MASK_TOKEN,
}
"""Tensors of the models that were released without a state around their parameters."""


def read(source: Path) -> Foreign:
    """A `.pystate` or `.pickle` of Haiku's parameters, or an `.npz` of them.

    Raises:
        FileError: it is not such a file, or damaged.
    """
    arrays = npz.read(source) if source.suffix == ".npz" else haiku.read(source)
    foreign = Foreign(arrays=arrays, settings=settings_beside(source), **_input(arrays))
    name = None if foreign.settings else published(arrays)
    if name is None:
        return foreign
    config = PUBLISHED[name]()
    family = family_of(config, FAMILIES, WHOSE)
    return dataclasses.replace(
        foreign,
        settings=family.settings(config),
        labels=imagenet_classes() if family is imagenet else (),
        origin=f"DeepMind, {name} (recognised by its shapes)",
        licence="CC BY 4.0",
    )


def _input(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How a picture or a text becomes the input of a model with these arrays."""
    if {perceiver_ar.EMBEDDING, FRAMES, video_autoencoder.MASK_TOKEN} & arrays.keys():
        return {}
    embedding = arrays.get(language_model.EMBEDDING)
    if embedding is None:
        return {"preprocessing": ImagePreprocessing()}
    of_bytes = embedding.shape[:1] == (NUM_BYTES,)
    return {"text": TextPreprocessing(tokenizer="bytes") if of_bytes else None}


def published(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the released model that has arrays of these names and shapes, or None."""
    return next((name for name, make in PUBLISHED.items() if _has_its_shapes(make(), arrays)), None)


def _has_its_shapes(config: AnyModelConfig, arrays: Mapping[str, np.ndarray]) -> bool:
    table = family_of(config, FAMILIES, WHOSE).rows(config)
    if {name for row in table for name in (*row.theirs, *row.tied)} != arrays.keys():
        return False
    structure = skeleton(config)
    wanted = {path: x.shape for path, x in (structure.params | structure.stats).items()}
    return all(
        arrays[row.theirs[0]].shape == wanted[row.ours[0]]
        for row in table
        if row.ours and row.op is KEEP
    )


def write(destination: Path, foreign: Foreign) -> None:
    """A pickle as DeepMind released them, or an `.npz`; the arguments in a JSON file beside it.

    Raises:
        FileError: the name has another ending.
    """
    if destination.suffix in (".pystate", ".pickle"):
        haiku.write(destination, foreign.arrays, bare=not BARE.isdisjoint(foreign.arrays))
    elif destination.suffix == ".npz":
        npz.write(destination, foreign.arrays)
    else:
        raise FileError(f"{destination} has to end in {', '.join(ENDINGS)} for this format")
    write_settings_beside(destination, foreign.settings)
