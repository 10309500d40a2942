"""From any format to a model of ours: what is imported computes what the foreign model computes."""

import contextlib
import dataclasses
import difflib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from interop import rows
from interop.fields import by_name
from interop.files import hub
from interop.foreign import Foreign
from interop.formats import FORMATS, hub_folder
from perceiver_jax.card import ModelCard
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, resolution, skeleton
from perceiver_jax.models.release import Release
from perceiver_jax.typing import Model

HALVES = ("float16", "bfloat16")
MAX_PIXELS = 2**26
"""Of an image that a model may take: tables of positions have a row for each."""
LAYERS = ("num_self_attention_layers", "num_layers")
"""What fields that count layers begin with."""
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What settings of an unforeseen form raise somewhere."""


def load_pretrained(
    format: str,  # noqa: A002
    source: str | os.PathLike[str],
    *,
    config: AnyModelConfig | None = None,
    image_size: tuple[int, int] | None = None,
    interpolate_positions: bool = False,
) -> Model:
    """A foreign model as ours, ready to call; arguments and errors as of `import_weights`.

    `model.config` tells what it is, `model.card` its class names, preprocessing and origin;
    `model.encode(images)` gives latents.
    """
    return import_weights(
        format,
        source,
        config=config,
        image_size=image_size,
        interpolate_positions=interpolate_positions,
    ).model()


def import_weights(
    format: str,  # noqa: A002
    source: str | os.PathLike[str],
    *,
    config: AnyModelConfig | None = None,
    image_size: tuple[int, int] | None = None,
    interpolate_positions: bool = False,
) -> Release:
    """A foreign model as ours.

    Args:
        format: one of `FORMATS`.
        source: a file, a folder or a hub id `owner/name`.
        config: of the model, where the files do not tell or another is wanted.
        image_size: height and width of the images to be given to the model, where they are not
            those it was trained on; see `models.resolution`.
        interpolate_positions: whether learned positions may be interpolated for that.

    Raises:
        UserError: there is nothing there, it is damaged or of another kind, or does not fit.
    """
    module = find_format(format)
    if not isinstance(source, str | os.PathLike):
        raise UserError(
            f"source is of {type(source).__name__}; give the path of files: save it first, for "
            "example with its save_pretrained, and name the folder"
        )
    foreign, config = read(module, source, config)
    structure = skeleton(config)
    arrays = rows.load(module.rows(config), foreign.arrays, structure.params | structure.stats)
    card = _card(foreign, config, f"{format}: {_name(source)}")
    found = Release(config=config, arrays=arrays, card=card, files=foreign.files)
    if image_size is None:
        return found
    return resolution.at(found, image_size, interpolate_positions=interpolate_positions)


def find_format(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        UserError: there is none of that name.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        raise UserError(f"there is no format '{name}'{hint}; known are {', '.join(FORMATS)}")
    return FORMATS[name]


def read(
    module: ModuleType, source: str | os.PathLike[str], config: AnyModelConfig | None
) -> tuple[Foreign, AnyModelConfig]:
    """A foreign model, and the config of ours that computes the same.

    Args:
        module: of the format.
        source: as of `import_weights`.
        config: where it is known; None takes it from the files.

    Raises:
        UserError: there is nothing there, it is damaged, or does not tell what model it holds.
    """
    path = hub.locate(str(source), hub_folder.FILES)
    with _sentences(path):
        foreign = module.read(path)
        foreign = dataclasses.replace(foreign, arrays=_widened(foreign.arrays))
        if config is not None:
            return foreign, config
        if foreign.settings is None:
            raise UserError(
                f"{source} does not tell what model it holds; put its settings, in the words of "
                f"the format, into {path.with_suffix('.json').name} beside it, or give the config "
                "(--config=NAME, or a JSON or Python file)"
            )
        known = module.config(foreign.settings)
    _check_size(known, foreign, path)
    return foreign, known


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Settings that have another form than any code could foresee end in a sentence."""
    try:
        yield
    except UserError:
        raise
    except MALFORMED as e:
        what = f"{type(e).__name__}: {str(e)[:200]}"
        raise UserError(
            f"the settings of {path} have a form that this library does not know ({what}); "
            "compare them with those of a model that the implementation itself has saved"
        ) from e


def _widened(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Half-precision floats as float32, which holds all of their values."""
    return {
        name: array.astype(np.float32) if array.dtype.name in HALVES else array
        for name, array in arrays.items()
    }


def _check_size(config: AnyModelConfig, foreign: Foreign, path: Path) -> None:
    """Refuses settings of a model that is larger than its file before it is laid out."""
    fields = by_name(config)
    largest = max((array.size for array in foreign.arrays.values()), default=0)
    layers = [fields[name] for name in fields if name.startswith(LAYERS)]
    num_latents = fields.get("num_latents", 0) * fields.get("num_latent_channels", 0)
    told = {
        # what: (how many there are, the most that can be)
        "layers": (max(layers, default=0), len(foreign.arrays)),
        "numbers in the latents": (num_latents, largest),
        "pixels in an image": (math.prod(fields.get("image_shape", (0,))[:2]), MAX_PIXELS),
    }
    excess = [f"{number:,} {what}" for what, (number, most) in told.items() if number > most]
    if excess:
        raise UserError(
            f"the settings tell of {' and '.join(excess)}, more than {path} can hold; are they its "
            "own?"
        )


def _name(source: str | os.PathLike[str]) -> str:
    """A hub id, or the last part of a path."""
    path = Path(source)
    return path.name if path.exists() else str(source)


def _card(foreign: Foreign, config: AnyModelConfig, source: str) -> ModelCard:
    preprocessing = foreign.preprocessing
    image_shape = by_name(config).get("image_shape")
    if preprocessing is not None and image_shape is not None:
        channels = image_shape[-1]
        if {len(preprocessing.mean), len(preprocessing.std)} <= {1, channels}:
            preprocessing = dataclasses.replace(preprocessing, image_shape=tuple(image_shape))
        else:
            preprocessing = None
    part = f", {foreign.part} alone" if foreign.part else ""
    return ModelCard(
        labels=foreign.labels,
        preprocessing=preprocessing,
        text=foreign.text,
        music=foreign.music,
        video=foreign.video,
        origin=f"{foreign.origin or source}{part}",
        licence=foreign.licence,
    )
