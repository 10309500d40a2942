"""Parameters that both sides of a comparison share: drawn here, written for each of them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers import Peer
from interop import FORMATS, export_weights
from interop.expressible import nearest
from perceiver_jax import models
from perceiver_jax.models.release import Release, release

SIGMA = 0.1
"""Standard deviation of what is added to biases, which start at 0, and scales of norms, at 1."""


def write(config: models.AnyModelConfig, peer: Peer, folder: Path) -> tuple[Path, Path]:
    """Draws a model and writes it twice.

    Args:
        config: of the model; where the peer has another setting of the same parameters, its own
            is taken.
        peer: the other implementation.
        folder: where both go.

    Returns:
        Where ours lies, and where the peer's.

    Raises:
        UserError: the peer has no model with these parameters.
    """
    config, _ = nearest(FORMATS[peer.format], config)
    drawn = draw(config)
    ours, theirs = folder / "ours", folder / peer.file
    drawn.save(ours)
    export_weights(drawn, peer.format, theirs)
    return ours, theirs


def draw(config: models.AnyModelConfig) -> Release:
    """A model as data, of which no bias is 0 and no scale of a norm is 1; always the same."""
    model: Any = models.build(config, jax.random.key(0))
    drawn = release(model)
    rng = np.random.default_rng(0)
    arrays = {
        path: array + SIGMA * rng.standard_normal(array.shape, np.float32)
        if array.ndim == 1
        else array
        for path, array in drawn.arrays.items()
    }
    return dataclasses.replace(drawn, arrays=arrays)
