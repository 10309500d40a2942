"""Files of krasserm's models: Lightning checkpoints, state dicts, folders of its Hub interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, safetensors_files, torch_files
from interop.foreign import Foreign
from interop.formats import hub_folder
from interop.formats.krasserm import causal_sequence_model
from interop.formats.krasserm.halves import given
from interop.formats.krasserm.kinds import FAMILIES, WHOSE, of_settings
from interop.formats.krasserm.text import (
    data_of_text,
    is_music,
    stand_between,
    text_of_data,
    usual_text,
)
from interop.formats.settings import settings_beside, write_settings_beside

LIGHTNING_VERSION = "2.0.0"
"""Of the layout of checkpoints; Lightning migrates what is older than itself."""
HYPERPARAMETERS, OF_DATA = "hyper_parameters", "datamodule_hyper_parameters"
"""Where a Lightning checkpoint keeps those of the model and those of its data."""
STATE_DICTS = (".pt", ".pth", ".bin", ".safetensors")
"""Endings of files with a state dict alone."""
ENDINGS = ("", ".ckpt", *STATE_DICTS)
"""Of what is written; none: a folder."""
WRAPPERS = ("model.", "backend_model.")
"""Prefixes of names in files of Lightning and of Hugging Face's interface."""
NOT_OF_THE_MODEL = (
    "params",
    "optimizer_init",
    "lr_scheduler_init",
    "_instantiator",
    "masked_samples",
    "num_predictions",
    "validation_sample_prompt",
    "validation_sample_record",
    "optimizer",
    "scheduler",
    "max_grad_norm",
)
"""Hyper-parameters of Lightning modules that say how a model was trained and shown."""


def read(source: Path) -> Foreign:
    """A Lightning checkpoint, a state dict, or a folder of the Hugging Face interface.

    Raises:
        FileError: it is none of them, or damaged.
    """
    if source.is_dir():
        return _read_folder(source)
    if source.suffix == ".safetensors":
        settings = settings_beside(source)
        arrays = _unwrapped(safetensors_files.read(source))
        return Foreign(arrays=arrays, settings=settings, text=usual_text(settings))
    file = torch_files.read(source)
    settings = _of_the_model(file.rest.get(HYPERPARAMETERS)) or settings_beside(source)
    of_data = file.rest.get(OF_DATA)
    return Foreign(
        arrays=_unwrapped(file.tensors),
        settings=settings,
        text=text_of_data(of_data) if isinstance(of_data, Mapping) else usual_text(settings),
    )


def _of_the_model(hyperparameters: Any) -> dict[str, Any] | None:
    if not isinstance(hyperparameters, Mapping):
        return None
    return {
        name: _plain(value)
        for name, value in hyperparameters.items()
        if name not in NOT_OF_THE_MODEL
    }


def _plain(value: Any) -> Any:
    """A record of a pickled config dataclass as the dict of its fields."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items() if name != torch_files.CLASS}
    return value


def _read_folder(folder: Path) -> Foreign:
    config = hub_folder.config(folder)
    kind, settings = config.get("model_type"), config.get("model_config")
    if not isinstance(settings, Mapping):
        raise FileError(f"{folder / hub_folder.CONFIG} has no model_config; is it krasserm's?")
    known = [kind for family in FAMILIES for kind, _ in family.HUB_CLASSES]
    if kind is not None and kind not in known:
        raise FileError(
            f"{folder / hub_folder.CONFIG} has model_type '{kind}', which is not supported; "
            f"of {WHOSE}, {', '.join(known)} are"
        )
    image_shape = settings.get("encoder", {}).get("image_shape", (224, 224, 3))
    # Frames have no channels in their shape; their preprocessing is in no file.
    num_channels = image_shape[2] if len(image_shape) > 2 else None
    contents = hub_folder.read(folder, num_channels, between=stand_between(settings))
    return Foreign(
        arrays=_unwrapped(contents.arrays),
        settings=settings,
        labels=hub_folder.labels(contents.config),
        preprocessing=contents.preprocessing,
        text=contents.text or usual_text(settings),
        files=contents.files,
        **hub_folder.provenance(contents.config),
    )


def _unwrapped(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without the prefix of a wrapper; what lies outside the wrapped model keeps its own."""
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in arrays):
            return {name.removeprefix(prefix): array for name, array in arrays.items()}
    return dict(arrays)


def write(destination: Path, foreign: Foreign) -> None:
    """A Lightning checkpoint (`.ckpt`), a state dict, or a folder for the Hugging Face interface.

    Hyper-parameters of a Lightning checkpoint are plain dicts: to load one that has halves with the
    reference's Lightning module, give its `encoder` and `decoder` configs as arguments.
    """
    if destination.suffix == ".ckpt":
        of_data = data_of_text(foreign.text)
        rest = {
            "pytorch-lightning_version": LIGHTNING_VERSION,
            HYPERPARAMETERS: dict(foreign.settings or {}),
            **({} if of_data is None else {OF_DATA: of_data}),
        }
        torch_files.write(destination, foreign.arrays, rest, prefix="model.")
    elif destination.suffix in STATE_DICTS:
        if destination.suffix == ".safetensors":
            safetensors_files.write(destination, foreign.arrays)
        else:
            torch_files.write(destination, foreign.arrays)
        write_settings_beside(destination, foreign.settings)
    else:
        _write_folder(destination, foreign)


def _write_folder(folder: Path, foreign: Foreign) -> None:
    settings = foreign.settings or {}
    family = of_settings(settings)
    # Of several classes the last is that of music.
    kind, architecture = family.HUB_CLASSES[-1 if is_music(settings, foreign.text) else 0]
    is_causal = family is causal_sequence_model
    inputs = settings if is_causal else given(settings, "encoder")
    tokenizer = {"model_max_length": inputs["max_seq_len"]} if "max_seq_len" in inputs else {}
    arrays = {f"backend_model.{name}": array for name, array in foreign.arrays.items()}
    config = {
        "model_type": kind,
        "architectures": [architecture],
        "is_decoder": is_causal,
        "model_config": settings,
        **(hub_folder.label_settings(foreign.labels) if foreign.labels else {}),
        **hub_folder.provenance(foreign),
    }
    contents = hub_folder.HubFolder(
        config=config,
        arrays=arrays,
        preprocessing=foreign.preprocessing,
        text=foreign.text,
        files=foreign.files,
        tokenizer=tokenizer | ({"padding_side": "left"} if is_causal else {}),
    )
    hub_folder.write(folder, contents, channels_last=True)
