"""From a model of ours to any format; one that cannot express it refuses, or writes the nearest."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from interop import rows
from interop.expressible import Effect, nearest, remarks
from interop.foreign import Foreign
from interop.formats import hub_tokenizer
from interop.importing import find_format, import_weights, read
from interop.shipped import taken_by
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, skeleton
from perceiver_jax.models.release import Releasable, Release, release


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
    _check_ending(module, Path(destination))
    broken = [path for path, array in released.arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(
            f"{len(broken)} arrays of this model are not finite, {', '.join(broken[:3])} among "
            "them; it is of no use in any format"
        )
    try:
        config, changes = nearest(module, released.config)
    except UserError as error:
        raise UserError(f"{error}\n{taken_by(format)}") from error
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
        text=released.card.text,
        music=released.card.music,
        video=released.card.video,
        files=released.files,
        origin=released.card.origin,
        licence=released.card.licence,
    )
    try:
        Path(destination).parent.mkdir(parents=True, exist_ok=True)
        module.write(Path(destination), foreign)
    except OSError as error:
        raise UserError(f"{destination} cannot be written: {error}") from error
    written, again = read(module, destination, None)
    if not _same(written.arrays, foreign.arrays):
        raise UserError(f"{destination} does not hold what was written; is the disk sound?")
    # Whoever reads it gets a model of the same parameters: settings and table are inverses.
    structure = skeleton(again)
    rows.load(module.rows(again), written.arrays, structure.params | structure.stats)
    return Exported(
        destination=Path(destination),
        changes=changes,
        effect=effect,
        remarks=(
            *remarks(module, config),
            *_not_kept(foreign, written),
            *hub_tokenizer.remarks(Path(destination)),
        ),
    )


def _check_ending(module: ModuleType, destination: Path) -> None:
    """Refuses a name that is none of a format's; numbers end folders as well, as in v0.2."""
    is_file = re.fullmatch(r"\.[A-Za-z]\w*", destination.suffix) and not destination.is_dir()
    if (destination.suffix if is_file else "") in module.ENDINGS:
        return
    endings = ", ".join(filter(None, module.ENDINGS))
    known = [f"a file that ends in {endings}"] if endings else []
    known += ["a folder, without ending"] if "" in module.ENDINGS else []
    raise UserError(
        f"{destination} is no name for weights of {module.WHOSE}; name {' or '.join(known)}"
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
    for name in ("origin", "licence"):
        if getattr(foreign, name) and getattr(written, name) != getattr(foreign, name):
            found.append(f"{name} has no place in this format: {getattr(foreign, name)}")
    found += _not_kept_of_texts(foreign, written)
    before, after = foreign.preprocessing, written.preprocessing
    for field in ("crop", "mean", "std", "resampling") if before else ():
        ours, theirs = getattr(before, field), getattr(after, field, None)
        same = ours == theirs
        if isinstance(ours, float) and isinstance(theirs, float):
            same = math.isclose(ours, theirs)
        if not same:
            found.append(f"preprocessing.{field}: {ours!r} → {theirs!r}")
    return found


def _not_kept_of_texts(foreign: Foreign, written: Foreign) -> list[str]:
    """What a format has no place for of the way from a text to the model's input."""
    before, after = foreign.text, written.text
    if before is None:
        return []
    # A tokenizer's file may bear another name there; bytes have none.
    if after is None or foreign.files.get(before.tokenizer) != written.files.get(after.tokenizer):
        return [f"the tokenizer has no place in this format: {before.tokenizer}"]
    found = [
        f"{name} of the tokenizer has no place in this format"
        for name, content in foreign.files.items()
        if name != before.tokenizer and written.files.get(name) != content
    ]
    if before.add_special_tokens != after.add_special_tokens:
        found.append(
            f"text.add_special_tokens: {before.add_special_tokens} → {after.add_special_tokens}"
        )
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
    config: AnyModelConfig | None = None,
    approximate: bool = False,
) -> Exported:
    """From one format to another, by way of ours; see `import_weights` and `export_weights`."""
    found = import_weights(source_format, source, config=config)
    return export_weights(found, destination_format, destination, approximate=approximate)
