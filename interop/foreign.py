"""What a file of another implementation holds: arrays, and what it says of the model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from perceiver_jax.card import (
    ImagePreprocessing,
    MusicPreprocessing,
    TextPreprocessing,
    VideoPreprocessing,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign:
    """A model of another implementation, as read from its files or about to be written.

    Attributes:
        arrays: by the implementation's own names, without prefixes of wrappers.
        settings: the model's settings in the implementation's own words; None: the files do not
            tell.
        labels: names of the classes, where known.
        preprocessing: from a picture to the model's input, where known.
        text: from a text to the model's input, where known.
        music: from music to the model's input, where known.
        video: from a video to the model's input, where known.
        files: contents of further files that belong to the model, by name: a tokenizer.
        part: which part of the model in the files the arrays are; None: all of it.
        origin: where the weights come from, where the files tell.
        licence: of the weights, where the files tell.
    """

    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] | None = None
    labels: tuple[str, ...] = ()
    preprocessing: ImagePreprocessing | None = None
    text: TextPreprocessing | None = None
    music: MusicPreprocessing | None = None
    video: VideoPreprocessing | None = None
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    part: str | None = None
    origin: str | None = None
    licence: str | None = None
