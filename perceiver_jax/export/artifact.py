"""The folder of an artifact: written beside its place, tried there, and then put in it.

- `artifact.json` is removed first and written last: a folder that has one is whole.
- Weights are arguments of the program, in a file of their own. As constants inside it, a program
  ends at 2 GiB, and a compiler takes minutes where it now takes seconds.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax import export

import perceiver_jax
from perceiver_jax import models
from perceiver_jax.config import from_dict
from perceiver_jax.errors import UserError
from perceiver_jax.export.preprocessing import preprocessing
from perceiver_jax.export.program import (
    PLATFORMS,
    export_program,
    largest_difference,
    platform_here,
)
from perceiver_jax.export.readme import readme
from perceiver_jax.export.signature import Signature, signature
from perceiver_jax.models.release import Release, release
from perceiver_jax.pretrained import load_checkpoint
from perceiver_jax.train.config import ExperimentConfig

FORMAT_VERSION = 1
PROGRAM, WEIGHTS, README = "model.jax_export", "weights.npz", "README.md"
DESCRIPTION = "artifact.json"
MOST_DIFFERENCE = 0.02
"""Of the largest output: an artifact that differs more from its model is not kept.

Models in bfloat16 differ by some thousandths, others by millionths.
"""


class Artifact(NamedTuple):
    """What was written.

    Attributes:
        folder: where.
        description: contents of `artifact.json`.
    """

    folder: Path
    description: Mapping[str, Any]


def export_run(
    workdir: Path,
    folder: Path | None = None,
    *,
    step: int | Literal["best"] | None = None,
    **options: Any,
) -> Artifact:
    """Writes the model of a training run as an artifact.

    Args:
        workdir: of the run.
        folder: where to; None: `export` in the workdir.
        step: which checkpoint; None: the newest; "best": the best by held-out metric.
        **options: as of `export_release`.

    Raises:
        UserError: as `load_checkpoint` and `export_release`.
    """
    model: Any = load_checkpoint(workdir, step)
    data = _data_of_run(workdir)
    return export_release(release(model), folder or workdir / "export", data=data, **options)


def export_release(
    released: Release,
    folder: Path,
    *,
    data: Any = None,
    sizes: Mapping[str, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
    batch_size: int | None = None,
) -> Artifact:
    """Writes a model as an artifact, over an earlier one if there is one.

    Args:
        released: the model with its card.
        folder: where to; made if it is not there.
        data: the config of the data that it was trained on, if that is known.
        sizes: by name, sizes that the model leaves open, as `{"tokens": 512}`.
        platforms: what the program runs on.
        batch_size: the one that it takes; None: any.

    Raises:
        UserError: the folder is something else, or cannot be written to; a size is missing; or the
            model cannot be exported.
    """
    _check_folder(folder)
    shapes = signature(released.config, sizes or {}, data)
    program = export_program(released.config, shapes, platforms=platforms, batch_size=batch_size)
    description = _description(released, shapes, program, data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as made:
            _write(Path(made), released, program, description)
            if platform_here() in platforms:
                inputs = shapes.drawn(batch_size or 2)
                description["difference"] = _tried(Path(made), released, inputs)
            text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
            (Path(made) / DESCRIPTION).write_text(text, encoding="utf-8")
            _put(Path(made), folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}); choose another folder with --out"
        ) from error
    return Artifact(folder, description)


def load_program(folder: Path) -> tuple[Any, dict[str, jax.Array]]:
    """The program of an artifact, compiled when it is called, and its weights on the device."""
    program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    with np.load(folder / WEIGHTS) as weights:
        return jax.jit(program.call), jax.device_put(dict(weights))


def _data_of_run(workdir: Path) -> Any:
    """The config of the data that the run was trained on."""
    path = workdir / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); bring back the run's own") from error
    return from_dict(ExperimentConfig, tree).data


def _check_folder(folder: Path) -> None:
    """Raises a UserError where files of somebody else would be lost."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; an artifact is a folder, so name another path")
    if not folder.is_dir() or (folder / DESCRIPTION).is_file():
        return
    if found := sorted(path.name for path in folder.iterdir()):
        listed = ", ".join(found[:3]) + (" and more" if len(found) > 3 else "")
        raise UserError(
            f"{folder} has {listed} in it and is no artifact; name a new folder, such as one in it"
        )


def _description(
    released: Release, shapes: Signature, program: export.Exported, data: Any
) -> dict[str, Any]:
    """`artifact.json`, but for what is known only when the files are there."""
    kind = models.model_class(released.config)
    return {
        "format_version": FORMAT_VERSION,
        "model": {
            "kind": kind.__name__,
            "does": (kind.__doc__ or "").partition("\n")[0],
            "origin": released.card.origin,
            "licence": released.card.licence,
        },
        "call": f"program.call(weights, {', '.join(shapes.arrays)})",
        "inputs": _inputs(shapes, program),
        "outputs": _outputs(program),
        "labels": list(released.card.labels),
        "preprocessing": preprocessing(released, data),
        "program": {
            "file": PROGRAM,
            "platforms": list(program.platforms),
            "calling_convention_version": program.calling_convention_version,
            "jax": jax.__version__,
            "perceiver_jax": perceiver_jax.__version__,
        },
        "weights": {
            "file": WEIGHTS,
            "arrays": len(released.arrays),
            "numbers": sum(array.size for array in released.arrays.values()),
        },
        "files": sorted(released.files),
        "difference": None,
    }


def _inputs(shapes: Signature, program: export.Exported) -> list[dict[str, Any]]:
    """Each array that the program takes after the weights, in order."""
    (_, *avals), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    return [
        {
            "argument": name,
            **_array(path, aval),
            "least": array.least,
            "most": array.most,
            "meaning": array.meaning,
        }
        for (name, arrays), tree in zip(shapes.arrays.items(), avals, strict=True)
        for (path, aval), array in zip(_leaves(tree), jax.tree.leaves(arrays), strict=True)
    ]


def _outputs(program: export.Exported) -> list[dict[str, Any]]:
    """Each array that the program returns."""
    outputs = jax.tree.unflatten(program.out_tree, program.out_avals)
    return [_array(path, aval) for path, aval in _leaves(outputs)]


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _array(path: Any, aval: Any) -> dict[str, Any]:
    """Where it lies in its tree, its sizes, a symbolic one as text, and its type."""
    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return {"keys": [part.key for part in path], "shape": shape, "dtype": aval.dtype.name}


def _write(
    folder: Path, released: Release, program: export.Exported, description: dict[str, Any]
) -> None:
    """All files but the description, to which it adds their digests."""
    (folder / PROGRAM).write_bytes(program.serialize())
    structure = models.skeleton(released.config)
    shapes = {**structure.params, **structure.stats}
    weights: dict[str, Any] = {
        path: np.asarray(released.arrays[path], x.dtype) for path, x in shapes.items()
    }
    np.savez(folder / WEIGHTS, **weights)
    for name, content in released.files.items():
        (folder / name).write_bytes(content)
    for part in ("program", "weights"):
        with (folder / description[part]["file"]).open("rb") as file:
            description[part]["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / README).write_text(readme(description), encoding="utf-8")


def _tried(folder: Path, released: Release, inputs: Mapping[str, Any]) -> dict[str, float]:
    """How far the written program is from the model.

    Raises:
        UserError: it is too far.
    """
    program, weights = load_program(folder)
    model: Any = released.model()
    wanted = jax.jit(_answers)(model, inputs)
    got = program(weights, *inputs.values())
    difference, largest = largest_difference(got, wanted)
    if not difference <= MOST_DIFFERENCE * max(largest, 1e-6):
        raise UserError(
            f"the exported program differs from the model by up to {difference:.2g}, of outputs up "
            f"to {largest:.2g}, and was not kept; please report that with the model's config"
        )
    return {"largest": difference, "of_outputs_up_to": largest}


def _answers(model: Any, inputs: Mapping[str, Any]) -> Any:
    return model(**inputs)


def _put(made: Path, folder: Path) -> None:
    """Moves the files into the folder, the description last."""
    (folder / DESCRIPTION).unlink(missing_ok=True)
    names = sorted(path.name for path in made.iterdir())
    for name in sorted(names, key=lambda name: name == DESCRIPTION):
        os.replace(made / name, folder / name)
