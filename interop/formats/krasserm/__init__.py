"""krasserm/perceiver-io 0.11 (PyTorch): classifiers, language models, music, optical flow.

- One module for each family, most made of the same halves and all of the same layers; `kinds`
  chooses.
- Names are those of the backend model's state dict; Lightning and Hugging Face files put `model.`
  or `backend_model.` before them.
- Second and later cross-attentions always share weights with each other, and so do blocks.
- Exact GELU, and uniform attention where everything is masked: see `halves`.
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.krasserm.files import ENDINGS, read, write
from interop.formats.krasserm.kinds import WHOSE, of_config, of_settings
from interop.rows import Row
from perceiver_jax.models import AnyModelConfig

__all__ = [
    "ENDINGS",
    "WHOSE",
    "config",
    "notes",
    "read",
    "requirements",
    "rows",
    "settings",
    "write",
]


def config(hyperparameters: Mapping[str, Any]) -> AnyModelConfig:
    """Our config from the reference's, as a nested dict of its dataclasses.

    Raises:
        ConfigError: a setting that the reference's model does not have.
    """
    return of_settings(hyperparameters).config(hyperparameters)


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """The reference's config, as a nested dict of its dataclasses.

    Args:
        config: of a model that the reference has, see `requirements`.
    """
    return of_config(config).settings(config)


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that the reference does not let choose, as (value, the one it has to be).

    Raises:
        UserError: the reference has no model of such halves.
    """
    return of_config(config).requirements(config)


def notes(config: AnyModelConfig) -> tuple[str, ...]:
    """What the reference does otherwise and no setting tells."""
    return getattr(of_config(config), "NOTES", ())


def rows(config: AnyModelConfig) -> list[Row]:
    """The state dict of the backend model.

    Raises:
        UserError: the reference has no such model.
    """
    return of_config(config).rows(config)
