"""Which of the implementation's families a model belongs to."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from interop.formats.families import family_of
from interop.formats.krasserm import (
    causal_sequence_model,
    image_classifier,
    masked_language_model,
    optical_flow,
    text_classifier,
)
from interop.formats.krasserm.halves import given
from perceiver_jax.models import AnyModelConfig

WHOSE = "krasserm's perceiver-io"
FAMILIES = (
    image_classifier,
    masked_language_model,
    text_classifier,
    causal_sequence_model,
    optical_flow,
)
"""What this package knows of; settings that could be those of several are read as the first's."""


def of_config(config: AnyModelConfig) -> ModuleType:
    """The family of a model of ours.

    Raises:
        ConfigError: it belongs to none.
    """
    return family_of(config, FAMILIES, WHOSE)


def of_settings(hyperparameters: Mapping[str, Any]) -> ModuleType:
    """The family that knows most of the fields that are given, each half's after its name."""
    halves = ("encoder", "decoder")
    paths = {f"{half}.{name}" for half in halves for name in given(hyperparameters, half)}
    paths |= hyperparameters.keys() - halves
    return min(FAMILIES, key=lambda family: len(paths - family.FIELDS))
