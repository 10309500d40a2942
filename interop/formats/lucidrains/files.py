"""Files of lucidrains models: a state dict, and the constructor arguments as JSON beside it.

- Names before 0.11 become those of 0.11: the rules are exact, and nothing else is renamed.
- Arguments are looked for in `NAME.json`, in a dict inside of a PyTorch file, and in
  `config.json`; where there are none, shapes tell what they can.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interop.files import FileError, safetensors_files, torch_files
from interop.foreign import Foreign
from interop.formats.lucidrains.arguments import CLASS
from interop.formats.lucidrains.shapes import FREQUENCIES, INNER, class_of, from_shapes
from interop.formats.settings import read_json, settings_beside, write_settings_beside
from perceiver_jax.card import TextPreprocessing

TORCH = (".pt", ".pth", ".bin", ".ckpt")
SAFETENSORS = ".safetensors"
ENDINGS = (*TORCH, SAFETENSORS)
"""Of files that are written."""
INSIDE = ("config", "settings", "kwargs")
"""Keys under which a PyTorch file may keep the constructor arguments."""
CONFIG = "config.json"
EMBEDDING = "token_emb.weight"
NUM_BYTES = 262
"""Vocabulary of UTF-8 bytes."""

Arrays = dict[str, np.ndarray]

LEGACY_PERCEIVER = (
    (r"layers\.(\d+)\.0\.", r"layers.\1.cross_attn."),
    (r"layers\.(\d+)\.1\.", r"layers.\1.cross_ff."),
    (r"layers\.(\d+)\.2\.(\d+)\.([01])\.", r"layers.\1.self_attns.\2.\3."),
    (r"layers\.(\d+)\.3\.", r"attn_residuals.\1."),
)
LEGACY_PERCEIVER_IO = (
    (r"cross_attend_blocks\.0\.", r"cross_attend_block.cross_attn."),
    (r"cross_attend_blocks\.1\.", r"cross_attend_block.cross_ff."),
    (r"layers\.(\d+)\.([01])\.", r"layers.\1.self_attns.0.\2."),
    (r"layers\.(\d+)\.2\.", r"attn_residuals.\1."),
)
"""Beginnings of names up to 0.10, and what they are since 0.11."""


def read(source: Path) -> Foreign:
    """A state dict (`.pt`, `.pth`, `.bin`, `.safetensors`), or a folder with one.

    Returns:
        Names of 0.11; settings of which those that no file tells start with
        `arguments.UNKNOWN`: our config cannot be made of these.

    Raises:
        FileError: it is none, damaged, or the weights of another class.
    """
    path = _weights_in(source) if source.is_dir() else source
    inside: Mapping[str, Any] | None = None
    if path.suffix == SAFETENSORS:
        tensors = safetensors_files.read(path)
    elif path.suffix in TORCH:
        file = torch_files.read(path)
        tensors, inside = file.tensors, _arguments_inside(file.rest)
    else:
        raise FileError(f"{path} does not end in {', '.join((*TORCH, SAFETENSORS))}")
    arrays = renamed(unwrapped(tensors))
    name = class_of(arrays)
    found = settings_beside(path) or inside or _config_beside(path)
    return Foreign(
        arrays=arrays,
        settings=from_shapes(arrays) if found is None else {CLASS: name, **found},
        text=_text(arrays),
    )


def _text(arrays: Arrays) -> TextPreprocessing | None:
    """Bytes for a model of their vocabulary; the files themselves tell of no tokenizer."""
    is_of_bytes = EMBEDDING in arrays and len(arrays[EMBEDDING]) == NUM_BYTES
    return TextPreprocessing(tokenizer="bytes") if is_of_bytes else None


def write(destination: Path, foreign: Foreign) -> None:
    """A state dict (`.pt`, `.pth`, `.bin`, `.safetensors`), and its arguments in `NAME.json`."""
    if destination.suffix == SAFETENSORS:
        safetensors_files.write(destination, foreign.arrays)
    elif destination.suffix in TORCH:
        torch_files.write(destination, foreign.arrays)
    else:
        raise FileError(
            f"{destination} does not say in which kind of file to write; end it in "
            f"{', '.join(ENDINGS)}"
        )
    write_settings_beside(destination, foreign.settings)


def renamed(arrays: Arrays) -> Arrays:
    """The state dict under names of 0.11, whichever version it comes from.

    Those of a `PerceiverAR`, which is of another package, stay.

    Raises:
        FileError: two names would become one.
    """
    inner = INNER if any(name.startswith(INNER) for name in arrays) else ""
    if FREQUENCIES in arrays:
        return dict(arrays)
    if any(name.startswith(f"{inner}cross_attend_blocks.") for name in arrays):
        rules = LEGACY_PERCEIVER_IO
    elif any(name.startswith("layers.0.0.") for name in arrays) and not _is_variant(arrays):
        rules = LEGACY_PERCEIVER
    else:
        return dict(arrays)
    result = {_renamed(name, inner, rules): array for name, array in arrays.items()}
    if len(result) != len(arrays):
        raise FileError("these weights mix names from before 0.11 with those since")
    return result


def unwrapped(arrays: Arrays) -> Arrays:
    """The state dict without the prefix that a wrapping module gave to all of its names."""
    prefixes = [
        name.removesuffix(own)
        for own in ("latents", FREQUENCIES)
        for name in arrays
        if name.endswith(own)
    ]
    if len(prefixes) != 1:
        return arrays
    (prefix,) = prefixes
    # A language model wraps a PerceiverIO, too, but is more than that.
    outer = prefix.removesuffix(INNER)
    if outer + EMBEDDING in arrays:
        prefix = outer
    if not all(name.startswith(prefix) for name in arrays):
        return arrays
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def _renamed(name: str, inner: str, rules: tuple[tuple[str, str], ...]) -> str:
    if not name.startswith(inner):
        return name
    own = name.removeprefix(inner)
    for before, since in rules:
        if re.match(before, own):
            return inner + re.sub(f"^{before}", since, own)
    return name


def _is_variant(arrays: Arrays) -> bool:
    """Whether these are the gated, mixed-latents or experimental variant, which kept their names.

    Their head is a norm and a linear layer; that of `Perceiver` starts with a mean.
    """
    return "to_logits.0.weight" in arrays


def _weights_in(folder: Path) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix in (*TORCH, SAFETENSORS))
    if len(found) != 1:
        listed = ", ".join(p.name for p in found) or "none"
        raise FileError(f"folder {folder} should hold one file of weights, but has {listed}")
    return found[0]


def _arguments_inside(rest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first dict that can be one of constructor arguments: all classes need a depth."""
    for name in INSIDE:
        part = rest.get(name)
        if isinstance(part, Mapping) and "depth" in part:
            return dict(part)
    return None


def _config_beside(path: Path) -> dict[str, Any] | None:
    config = path.with_name(CONFIG)
    return read_json(config) if config.is_file() else None
