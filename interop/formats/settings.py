"""Settings of foreign models: whether they can express a config, and where files keep them."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.files import FileError
from perceiver_jax.core.layer_options import LayerOptions
from perceiver_jax.errors import UserError
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.models.perceiver_config import check_half

KV_HEADS = "_kv_heads"
ONLY_HERE: dict[str, Any] = {
    "norm": "layer_norm",
    "qk_norm": False,
    "rotary_channels": 0,
    "latents_contribute_kv": False,
}
"""What no other implementation of a Perceiver lets choose, as it is there."""


def check_settings(whose: str, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Compares settings with the only values that an implementation knows.

    Args:
        whose: the implementation, for the message.
        settings: {name: (value, the one it has to be)}.

    Raises:
        UserError: with every setting that differs.
    """
    wrong = [
        f"{name}={got!r} instead of {needed!r}"
        for name, (got, needed) in settings.items()
        if got != needed
    ]
    if wrong:
        raise UserError(f"{whose} cannot express this model: {'; '.join(wrong)}")


def classifier_halves(
    config: PerceiverConfig, whose: str
) -> tuple[ImageEncoderConfig, ClassificationDecoderConfig]:
    """Encoder and decoder of an image classifier of Perceiver IO.

    Args:
        config: of a model.
        whose: the implementation that has only such models, for the message.

    Raises:
        ConfigError: it is another kind of model.
    """
    encoder = check_half(config.encoder, ImageEncoderConfig, whose)
    return encoder, check_half(config.decoder, ClassificationDecoderConfig, whose)


def layer_settings(
    encoder: LayerOptions, decoder: LayerOptions, *, activation: str
) -> dict[str, tuple[Any, Any]]:
    """What all layers of an implementation have in common, as settings to check."""
    only = {
        "activation": activation,
        "layer_norm_epsilon": 1e-5,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
    }
    result: dict[str, tuple[Any, Any]] = {}
    for name, half in (("encoder", encoder), ("decoder", decoder)):
        for field, value in only.items():
            result[f"{name}.{field}"] = (getattr(half, field), value)
        result |= common_requirements(half, f"{name}.")
    return result


def common_requirements(options: LayerOptions, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """What no implementation of a Perceiver lets choose, as (value, the one it has to be).

    Args:
        options: an encoder, a decoder, or a model that has no halves.
        prefix: goes before the names of settings, as in "encoder.".
    """
    result: dict[str, tuple[Any, Any]] = {}
    for field in dataclasses.fields(options):
        name, given = field.name, getattr(options, field.name)
        if name in ONLY_HERE:
            result[f"{prefix}{name}"] = (given, ONLY_HERE[name])
        elif name.endswith(KV_HEADS):
            num_heads = getattr(options, name.removesuffix(KV_HEADS) + "_heads")
            result[f"{prefix}{name}"] = (None if given == num_heads else given, None)
    return result


def settings_beside(source: Path) -> dict[str, Any] | None:
    """The settings in the JSON file that bears the name of a weights file, if there is one.

    Raises:
        FileError: it is not a JSON object.
    """
    path = source.with_suffix(".json")
    return read_json(path) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        FileError: it is none.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(tree, dict):
        raise FileError(f"{path} holds a JSON {type(tree).__name__}; settings are an object")
    return tree


def write_settings_beside(destination: Path, settings: Mapping[str, Any] | None) -> None:
    """Writes settings into the JSON file that bears the name of a weights file."""
    if settings is not None:
        write_json(destination.with_suffix(".json"), settings)


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a JSON object beside its place, then moves it there."""
    write_bytes(path, (json.dumps(tree, indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file beside its place, then moves it there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
