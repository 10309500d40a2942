"""Our own format of released weights: `model.safetensors`, `config.json` and a model card.

- The tensors are the flat dict of parameters and statistics, by path.
- A folder can be put on a hub as it is; `config.json` is removed first and written last, so a
  folder that has one is whole, and it is that of the weights.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from perceiver_jax import params
from perceiver_jax.card import ModelCard
from perceiver_jax.config import (
    ConfigError,
    choice_from_dict,
    choice_to_dict,
    from_dict,
    suggestion,
    to_dict,
)
from perceiver_jax.errors import UserError
from perceiver_jax.models.model_card import model_card_text
from perceiver_jax.params import FORMAT_VERSION
from perceiver_jax.typing import Model

WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
MARK = {"format": "perceiver_jax"}
"""Metadata of the weights, by which a release is known before it is whole."""
FILE_SUFFIXES = (".safetensors", ".json", ".npz", ".pt", ".bin", ".ckpt", ".pickle")
"""With which nobody names a folder."""
SPECIAL_TOKENS = "special_tokens_map.json"
"""Beside a `tokenizer.json`: which of its tokens are special."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """A model as data: all that is needed to make it, use it and hand it on.

    Attributes:
        config: a `PerceiverConfig`, or another of `AnyModelConfig`.
        arrays: parameters and statistics by path, NumPy's.
        card: class names, preprocessing, origin, licence.
        files: contents of further files that belong to the model, by name: a tokenizer.

    Raises:
        UserError: the class names are not as many as the model's classes.
    """

    config: Any
    arrays: Mapping[str, np.ndarray]
    card: ModelCard = ModelCard()
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        num_labels = len(self.card.labels)
        num_classes = getattr(getattr(self.config, "decoder", None), "num_classes", None)
        if num_labels and num_classes not in (None, num_labels):
            raise UserError(
                f"{num_labels} labels for a model of {num_classes} classes; give one for each, or "
                "none"
            )

    def model(self) -> Model:
        """The model, ready to call.

        Raises:
            ValueError: the arrays are not those of the config.
        """
        from perceiver_jax.models import skeleton

        structure = skeleton(self.config)
        arrays = {path: jnp.asarray(array) for path, array in self.arrays.items()}
        statistics = {path: arrays.pop(path) for path in structure.stats if path in arrays}
        model: Any = structure.bind(arrays, statistics)
        model.card, model.files = self.card, self.files
        return model

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the folder; an earlier release in it is replaced as a whole.

        All is written beside its place first, so that an earlier release outlasts a full disk.
        What else lies in the folder of a release is left alone.

        Raises:
            UserError: the path is that of a file; or something would be lost: the folder holds
                other things and no release, or one of which files were edited, or a file of one of
                the new names that is not of it.
        """
        from safetensors.numpy import save_file

        folder = Path(folder)
        names = (WEIGHTS, README, *self.files, CONFIG)
        earlier = _earlier(folder, names)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {path: np.array(array, order="C") for path, array in self.arrays.items()}
        description: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "model": choice_to_dict(self.config),
            "card": to_dict(self.card),
        }
        new = {name: folder / f".{name}.{os.getpid()}" for name in names}
        try:
            text = model_card_text(self.config, self.card)
            new[README].write_text(text, encoding="utf-8")
            for name, content in self.files.items():
                new[name].write_bytes(content)
            description["files"] = {name: _digest(new[name]) for name in (README, *self.files)}
            save_file(arrays, new[WEIGHTS], MARK)
            new[CONFIG].write_text(json.dumps(description, indent=2))
            (folder / CONFIG).unlink(missing_ok=True)
            for name in earlier - new.keys():
                (folder / name).unlink()
            for name, path in new.items():
                os.replace(path, folder / name)
        finally:
            for path in new.values():
                path.unlink(missing_ok=True)


class Releasable(nnx.Module):
    """A model with a config, which can be released.

    Attributes:
        config: a `PerceiverConfig`, or another of `AnyModelConfig`.
        card: class names, preprocessing, origin and licence, as far as they are known.
        files: contents of further files that belong to it, by name: a tokenizer.
    """

    config: Any
    card: ModelCard = ModelCard()
    files: Mapping[str, bytes] = MappingProxyType({})

    def save_pretrained(self, folder: str | os.PathLike[str], **card: Any) -> None:
        """Writes `model.safetensors`, `config.json` and a model card into a folder.

        An earlier release there is replaced as a whole; files that are not of it stay.

        Args:
            folder: made if it is not there.
            **card: fields of `ModelCard` to set: `labels`, `preprocessing`, `origin`, `licence`;
                others stay as the model was loaded with. The licence of a model that was trained
                here is for you to choose: without `licence="Apache-2.0"`, or another, the card
                says that none is recorded, and hubs show it as "other".

        Raises:
            UserError: the path is that of a file, or of a folder with other things in it; or the
                README.md of the release that is there was edited.
        """
        release(self, **card).save(folder)


def release(model: Releasable, **card: Any) -> Release:
    """A model as data; fields of its card can be set.

    Raises:
        TypeError: the card has no such field.
    """
    known = [field.name for field in dataclasses.fields(ModelCard)]
    for name in card:
        if name not in known:
            raise TypeError(f"a model card has no field '{name}'{suggestion(name, known)}")
    parameters, statistics = params.flatten(model)
    arrays = {path: np.asarray(array) for path, array in {**parameters, **statistics}.items()}
    return Release(
        config=model.config,
        arrays=arrays,
        card=dataclasses.replace(model.card, **card),
        files=model.files,
    )


def read(folder: str | os.PathLike[str]) -> Release:
    """Reads a folder that `Release.save` wrote.

    Raises:
        UserError: it is none, or damaged, or of another version, or has NaN or infinite values.
    """
    from perceiver_jax.models import AnyModelConfig

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no release of a model: it has no {name}")
    try:
        description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(
                f"{folder} has format_version {version}, this library reads {FORMAT_VERSION}; read "
                "it with the version of perceiver_jax that wrote it"
            )
        config = choice_from_dict(AnyModelConfig, dict(description["model"]), "model")
        card = from_dict(ModelCard, description["card"], "card")
    except ConfigError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder / CONFIG} does not describe a release ({error!r}); it needs the fields "
            "format_version, model and card"
        ) from error
    return Release(
        config=config,
        arrays=_tensors(folder / WEIGHTS),
        card=card,
        files=tokenizer_files(folder, card),
    )


def _earlier(folder: Path, names: Collection[str]) -> set[str]:
    """Files of the release that lies in a folder; none where it is empty, or not there.

    Raises:
        UserError: files of these names, or all that is there, are not as a release was written.
    """
    if not folder.exists():
        if folder.suffix in FILE_SUFFIXES:
            raise UserError(
                f"{folder} is named like a file, and a release is a folder; name one, such as "
                f"{folder.with_suffix('')}"
            )
        return set()
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; a release is a folder, so name another path")
    there = {path.name for path in folder.iterdir()}
    if not _is_marked(folder / WEIGHTS):
        # Hidden ones are of version control or of the system, and nothing here has their names.
        if found := sorted(name for name in there if not name.startswith(".")):
            listed = ", ".join(found[:3]) + (" and more" if len(found) > 3 else "")
            raise UserError(
                f"{folder} has {listed} in it and is no release of a model; name a new folder, "
                "such as one in it"
            )
        return set()
    digests = _recorded(folder / CONFIG)
    if digests is None:
        return there.intersection(names)
    own = {WEIGHTS, CONFIG, *digests}
    edited = {n for n in digests if n in there and _digest(folder / n) != digests[n]}
    if lost := edited | (there.intersection(names) - own):
        raise UserError(
            f"{', '.join(sorted(lost))} in {folder} would be lost: not as the release there was "
            "written; move it to another place, or name another folder"
        )
    return own & there


def _is_marked(weights: Path) -> bool:
    """Whether a file is the weights of a release, of any version."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "numpy") as file:
            return file.metadata() == MARK
    except (SafetensorError, OSError):
        return False


def _recorded(config: Path) -> dict[str, str] | None:
    """Digests of the files of a release.

    None where there are none: it was written before they were recorded, or not to its end, so that
    any file may be of either release.
    """
    try:
        return dict(json.loads(config.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"{path} is not a whole safetensors file: {error}") from error
    ruined = sorted(name for name, array in arrays.items() if not _finite(array))
    if ruined:
        raise UserError(
            f"{path}: {', '.join(ruined)} hold NaN or infinite values; the file is damaged or the "
            "training diverged, so take an earlier release"
        )
    return arrays


def tokenizer_files(folder: Path, card: ModelCard) -> dict[str, bytes]:
    """The files that are the tokenizer of a model with that card, by name.

    Raises:
        UserError: the one that the card names is not in the folder.
    """
    if card.text is None or card.text.tokenizer == "bytes":
        return {}
    name = card.text.tokenizer
    if Path(name).name != name or not (folder / name).is_file():
        raise UserError(
            f"the card in {folder} names the tokenizer '{name}', which is no file beside it; put "
            "it there"
        )
    beside = [other for other in (name, SPECIAL_TOKENS) if (folder / other).is_file()]
    return {other: (folder / other).read_bytes() for other in beside}


def _finite(array: np.ndarray) -> bool:
    # NumPy itself does not count bfloat16 among the floats.
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(np.isfinite(array).all())
