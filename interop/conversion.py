"""Weights from any format into ours and from ours into any: import, export, and both in one.

- What is imported computes what the foreign model computes; a format that cannot express a model
  refuses it, unless its nearest model was asked for.
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from interop import rows
from interop.expressible import Effect, nearest, remarks
from interop.files import hub
from interop.foreign import Foreign
from interop.formats import FORMATS, hub_folder
from perceiver_jax.card import ModelCard
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, resolution, skeleton
from perceiver_jax.models.release import Releasable, Release, release
from perceiver_jax.typing import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What became of an exported model.

    Attributes:
        destination: where it lies.
        changes: settings that are not the model's own, because the format does not have these.
        effect: how far outputs moved by that; None if nothing was changed.
        remarks: what differs without touching the outputs for whole inputs.
    """

    destination: Path
    changes: tuple[str, ...] = ()
    effect: Effect | None = None
    remarks: tuple[str, ...] = ()


def find_format(name: str) -> ModuleType:
    """The module of a format.

    Raises:
        UserError: there is none of that name.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"there is no format '{name}'{hint} Known are {', '.join(FORMATS)}")
    return FORMATS[name]


def import_weights(
    format: str,  # noqa: A002
    source: str | os.PathLike[str],
    *,
    config: PerceiverConfig | None = None,
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
    foreign, config = read(module, source, config)
    structure = skeleton(config)
    arrays = rows.load(module.rows(config), foreign.arrays, structure.params | structure.stats)
    card = _card(foreign, config, f"{format}: {_name(source)}")
    found = Release(config=config, arrays=arrays, card=card)
    if image_size is None:
        return found
    return resolution.at(found, image_size, interpolate_positions=interpolate_positions)


def read(
    module: ModuleType, source: str | os.PathLike[str], config: PerceiverConfig | None
) -> tuple[Foreign, PerceiverConfig]:
    """A foreign model, and the config of ours that computes the same.

    Args:
        module: of the format.
        source: as of `import_weights`.
        config: where it is known; None takes it from the files.

    Raises:
        UserError: there is nothing there, it is damaged, or does not tell what model it holds.
    """
    foreign = module.read(hub.locate(str(source), hub_folder.FILES))
    if config is not None:
        return foreign, config
    if foreign.settings is None:
        raise UserError(
            f"{source} does not tell what model it holds; give the config (--config=NAME, or a "
            "JSON or Python file)"
        )
    return foreign, module.config(foreign.settings)


def _name(source: str | os.PathLike[str]) -> str:
    """A hub id, or the last part of a path."""
    path = Path(source)
    return path.name if path.exists() else str(source)


def _card(foreign: Foreign, config: PerceiverConfig, source: str) -> ModelCard:
    preprocessing = foreign.preprocessing
    image_shape = getattr(config.encoder, "image_shape", None)
    if preprocessing is not None and image_shape is not None:
        channels = image_shape[-1]
        if {len(preprocessing.mean), len(preprocessing.std)} <= {1, channels}:
            preprocessing = dataclasses.replace(preprocessing, image_shape=image_shape)
        else:
            preprocessing = None
    return ModelCard(
        labels=foreign.labels,
        preprocessing=preprocessing,
        origin=foreign.origin or source,
        licence=foreign.licence,
    )


def load_pretrained(
    format: str,  # noqa: A002
    source: str | os.PathLike[str],
    *,
    config: PerceiverConfig | None = None,
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


def export_weights(
    released: Release,
    format: str,  # noqa: A002
    destination: str | os.PathLike[str],
    *,
    approximate: bool = False,
) -> Exported:
    """Writes a model of ours in a foreign format.

    Args:
        released: the model as data.
        format: one of `FORMATS`.
        destination: file or folder, as the format has it; replaced if it is there.
        approximate: where the format cannot express the model, whether to write the nearest one
            that it can; the effect is measured.

    Raises:
        UserError: the format cannot express the model, or the destination cannot be written.
    """
    module = find_format(format)
    config, changes = nearest(module, released.config)
    if changes and not approximate:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{module.WHOSE} cannot express this model; it would change\n  {listed}\n"
            "To write the nearest model all the same and see the effect: --approximate "
            "(approximate=True)"
        )
    effect = Effect.measure(released, config) if changes else None
    foreign = Foreign(
        arrays=rows.save(module.rows(config), released.arrays),
        settings=module.settings(config),
        labels=released.card.labels,
        preprocessing=released.card.preprocessing,
        origin=released.card.origin,
        licence=released.card.licence,
    )
    try:
        Path(destination).parent.mkdir(parents=True, exist_ok=True)
        module.write(Path(destination), foreign)
    except OSError as error:
        raise UserError(f"{destination} cannot be written: {error}") from error
    written = module.read(Path(destination))
    if not _same(written.arrays, foreign.arrays):
        raise UserError(f"{destination} does not hold what was written; is the disk sound?")
    return Exported(
        destination=Path(destination),
        changes=changes,
        effect=effect,
        remarks=(*remarks(module, config), *_not_kept(foreign, written)),
    )


def _same(written: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> bool:
    return written.keys() == arrays.keys() and all(
        np.array_equal(written[name], arrays[name]) for name in arrays
    )


def _not_kept(foreign: Foreign, written: Foreign) -> list[str]:
    """What a format has no place for, besides parameters and settings."""
    found = []
    if foreign.labels and foreign.labels != written.labels:
        found.append("names of the classes have no place in this format")
    before, after = foreign.preprocessing, written.preprocessing
    for field in ("crop", "mean", "std", "resampling") if before else ():
        ours, theirs = getattr(before, field), getattr(after, field, None)
        if ours != theirs:
            found.append(f"preprocessing.{field}: {ours!r} → {theirs!r}")
    return found


def export_pretrained(
    model: Releasable,
    format: str,  # noqa: A002
    destination: str | os.PathLike[str],
    *,
    approximate: bool = False,
) -> Exported:
    """Writes a model of ours in a foreign format; see `export_weights`."""
    return export_weights(release(model), format, destination, approximate=approximate)


def convert(
    source_format: str,
    source: str | os.PathLike[str],
    destination_format: str,
    destination: str | os.PathLike[str],
    *,
    config: PerceiverConfig | None = None,
    approximate: bool = False,
) -> Exported:
    """From one format to another, by way of ours; see `import_weights` and `export_weights`."""
    found = import_weights(source_format, source, config=config)
    return export_weights(found, destination_format, destination, approximate=approximate)
