"""Which of lucidrains' classes a model belongs to."""

from types import ModuleType

from interop.formats.lucidrains import perceiver, perceiver_io, perceiver_lm
from interop.formats.lucidrains.arguments import AnyArguments
from interop.formats.lucidrains.halves import WHOSE
from perceiver_jax.config import ConfigError
from perceiver_jax.models import PerceiverConfig

BY_ARGUMENTS = {family.ARGUMENTS: family for family in (perceiver, perceiver_io, perceiver_lm)}
BY_HALVES = {halves: family for family in BY_ARGUMENTS.values() for halves in family.HALVES}


def of_arguments(arguments: AnyArguments) -> ModuleType:
    """The family of a class' arguments."""
    return BY_ARGUMENTS[type(arguments)]


def of_config(config: PerceiverConfig) -> ModuleType:
    """The family of a model of ours.

    Raises:
        ConfigError: it belongs to none.
    """
    halves = (type(config.encoder), type(config.decoder))
    if halves not in BY_HALVES:
        known = ", ".join(f"{e.__name__} + {d.__name__}" for e, d in BY_HALVES)
        raise ConfigError(
            f"{WHOSE} has no model of {halves[0].__name__} + {halves[1].__name__}; it has {known}"
        )
    return BY_HALVES[halves]
