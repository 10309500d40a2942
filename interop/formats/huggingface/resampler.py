"""Their Perceiver resamplers: that of IDEFICS, of layer norms, and that of Idefics2, of RMS norms.

- Of a whole model's files the resampler alone is read, with what projects its features.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from interop.formats.huggingface import idefics, idefics2
from interop.formats.huggingface.config_json import architecture
from interop.rows import Row
from perceiver_jax.models import Resampler, ResamplerConfig

WHOSE = "Hugging Face's resamplers"
MODELS = (Resampler,)
CLASSES = (*idefics.CLASSES, *idefics2.CLASSES)
WHOLE = idefics.WHOLE | idefics2.WHOLE


def config(settings: Mapping[str, Any]) -> ResamplerConfig:
    """Our config from a `config.json`, of a whole IDEFICS or Idefics2 too.

    Raises:
        ConfigError: a setting that is unknown, or one that cannot be expressed.
    """
    name = architecture(settings, CLASSES)
    return (idefics if name in idefics.CLASSES else idefics2).config(settings)


def settings(config: ResamplerConfig) -> dict[str, Any]:
    """A `config.json` that describes the model.

    Raises:
        UserError: Hugging Face has no such model.
    """
    return _of(config).settings(config)


def requirements(config: ResamplerConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that their classes do not let choose, as (value, the one it has to be)."""
    return _of(config).requirements(config)


def notes(config: ResamplerConfig) -> tuple[str, ...]:
    """What their classes do otherwise and no setting tells."""
    return getattr(_of(config), "NOTES", ())


def rows(config: ResamplerConfig) -> list[Row]:
    """The state dict of their class.

    Raises:
        UserError: Hugging Face has no such model.
    """
    return _of(config).rows(config)


def _of(config: ResamplerConfig) -> ModuleType:
    return idefics2 if config.norm == "rms_norm" else idefics
