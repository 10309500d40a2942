"""Which of the implementation's families a model belongs to."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from interop.formats.families import family_of
from interop.formats.krasserm import image_classifier, masked_language_model, text_classifier
from interop.formats.krasserm.halves import given
from perceiver_jax.models import PerceiverConfig

WHOSE = "krasserm's perceiver-io"
FAMILIES = (image_classifier, masked_language_model, text_classifier)
"""What this package knows of; settings that could be those of several are read as the first's."""


def of_config(config: PerceiverConfig) -> ModuleType:
    """The family of a model of ours.

    Raises:
        ConfigError: it belongs to none.
    """
    return family_of(config, FAMILIES, WHOSE)


def of_settings(hyperparameters: Mapping[str, Any]) -> ModuleType:
    """The family that knows most of the encoder's and decoder's fields that are given."""

    def num_unknown(family: ModuleType) -> int:
        known = {"encoder": family.ENCODER_FIELDS, "decoder": family.DECODER_FIELDS}
        return sum(
            len(given(hyperparameters, half).keys() - names) for half, names in known.items()
        )

    return min(FAMILIES, key=num_unknown)
