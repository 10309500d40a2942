"""Our own releases: `model.safetensors` by path, `config.json`, a model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interop.foreign import Foreign
from interop.rows import Row, row, table
from perceiver_jax.card import ModelCard
from perceiver_jax.config import choice_from_dict, choice_to_dict
from perceiver_jax.models import AnyModelConfig, release, skeleton

WHOSE = "perceiver_jax"
ENDINGS = ("",)
"""Of what is written: a folder."""


def config(settings: Mapping[str, Any]) -> AnyModelConfig:
    """The config from the field `model` of a release's `config.json`.

    Raises:
        ConfigError: an unknown field, or a value that cannot be.
    """
    return choice_from_dict(AnyModelConfig, settings, "model")


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """The inverse of `config`."""
    return choice_to_dict(config)


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Nothing: whatever a config says can be released."""
    return {}


def rows(config: AnyModelConfig) -> list[Row]:
    """Every parameter and statistic under its own path."""
    structure = skeleton(config)
    return table(row(path, path) for path in (*structure.params, *structure.stats))


def read(source: Path) -> Foreign:
    """A folder that `save_pretrained` wrote.

    Raises:
        UserError: it is none, or damaged.
    """
    released = release.read(source)
    return Foreign(
        arrays=released.arrays,
        settings=choice_to_dict(released.config),
        labels=released.card.labels,
        preprocessing=released.card.preprocessing,
        text=released.card.text,
        music=released.card.music,
        video=released.card.video,
        files=released.files,
        origin=released.card.origin,
        licence=released.card.licence,
    )


def write(destination: Path, foreign: Foreign) -> None:
    """A folder, as `save_pretrained` writes it."""
    card = ModelCard(
        labels=foreign.labels,
        preprocessing=foreign.preprocessing,
        text=foreign.text,
        music=foreign.music,
        video=foreign.video,
        origin=foreign.origin,
        licence=foreign.licence,
    )
    released = release.Release(
        config=config(foreign.settings or {}),
        arrays=foreign.arrays,
        card=card,
        files=foreign.files,
    )
    released.save(destination)
