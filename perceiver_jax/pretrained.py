"""From a source of weights to a model that is ready to call.

- A source is the workdir of a training run, or `FORMAT:PATH-OR-HUB-ID` of any implementation.
- The one door from here to `interop`, opened only for foreign weights.
"""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from perceiver_jax.config import from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.models.release import Releasable, Release, release
from perceiver_jax.typing import Model

Source = str | os.PathLike[str] | Model | Release
"""Where a model comes from: what `open_source` takes, or a model that is loaded already."""


def open_source(source: str, step: int | Literal["best"] | None = None) -> Release:
    """A model as data, with its card, from wherever it lies.

    Args:
        source: a workdir, or `FORMAT:PATH-OR-HUB-ID`, with FORMAT one of `interop.FORMATS`.
        step: of a workdir, which checkpoint; None: the newest; "best": the best by held-out metric.

    Raises:
        UserError: there is nothing there, or it does not hold a model, or has no such checkpoint.
    """
    scheme, _, rest = source.partition(":")
    if rest and not Path(source).exists():
        if step is not None:
            raise UserError(f"step={step} is of a run, and {source} is none; leave it out")
        from interop import import_weights

        return import_weights(scheme, rest)
    if not Path(source).exists():
        raise UserError(
            f"there is no workdir {source}; name one, or FORMAT:PATH-OR-HUB-ID as in "
            "huggingface:deepmind/vision-perceiver-fourier"
        )
    if not (Path(source) / "checkpoints").is_dir():
        raise UserError(
            f"{source} is no workdir of a run, it has no folder checkpoints; of weights, name the "
            f"format as well: ours:{source} for a release, huggingface:{source} for a folder of "
            "transformers"
        )
    return _open_run(Path(source), step)


def as_release(source: Source) -> Release:
    """A model as data, from whatever a user has of it.

    Args:
        source: a workdir or `FORMAT:PATH-OR-HUB-ID`, as `open_source` takes it; a model; or what
            this returns.

    Raises:
        UserError: it is none of these, or as of `open_source`.
    """
    if isinstance(source, Release):
        return source
    if isinstance(source, Releasable):
        return release(source)
    if isinstance(source, str | os.PathLike):
        return open_source(os.fspath(source))
    raise UserError(
        f"an object of type {type(source).__name__} is no model; give a workdir, "
        "FORMAT:PATH-OR-HUB-ID as in huggingface:deepmind/vision-perceiver-fourier, or a model of "
        "perceiver_jax.models"
    )


def load_checkpoint(
    workdir: str | os.PathLike[str], step: int | Literal["best"] | None = None
) -> Model:
    """The model of a training run.

    Args:
        workdir: working directory of the run.
        step: which checkpoint; None: the newest; "best": the best by held-out metric.

    Returns:
        The model with its trained parameters, on the first device; `model.config` tells what it
        is. Call it with arrays: `model(images)`, or `jax.jit(lambda m, x: m(x))(model, images)`.

    Raises:
        UserError: there is no checkpoint, or not that one.
    """
    if (Path(workdir) / "model.safetensors").is_file():
        raise UserError(
            f"{workdir} is a release, no workdir of a run; load it with "
            f"interop.load_pretrained('ours', {str(workdir)!r})"
        )
    return _open_run(Path(workdir), step).model()


def _open_run(workdir: Path, step: int | Literal["best"] | None) -> Release:
    from perceiver_jax import models
    from perceiver_jax.train.checkpoint import Checkpoints
    from perceiver_jax.train.config import ExperimentConfig, read_card

    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        found = checkpoints.find(step)
        config = from_dict(ExperimentConfig, checkpoints.config(found))
        structure = models.skeleton(config.model)
        params, stats = checkpoints.restore_model(
            found, on_one_device((structure.params, structure.stats))
        )
    arrays = {path: np.asarray(array) for path, array in {**params, **stats}.items()}
    card, files = read_card(workdir)
    began = f", from weights: {card.origin}" if card.origin else ""
    dataset = getattr(config.data, "dataset", type(config.data).__name__)
    origin = (
        f"trained with perceiver_jax on {dataset}, step {found:,} of the run "
        f"'{workdir.name}'{began}"
    )
    return Release(
        config=config.model,
        arrays=arrays,
        card=dataclasses.replace(card, origin=origin),
        files=files,
    )


def on_one_device(shapes: Any) -> Any:
    """The same shapes, to be placed on the first device of this process."""
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
