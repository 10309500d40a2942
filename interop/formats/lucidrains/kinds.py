"""Which of lucidrains' classes a model belongs to."""

from types import ModuleType

from interop.formats.families import family_of
from interop.formats.lucidrains import perceiver, perceiver_ar, perceiver_io, perceiver_lm
from interop.formats.lucidrains.arguments import AnyArguments
from perceiver_jax.models import AnyModelConfig

WHOSE = "lucidrains"
FAMILIES = (perceiver, perceiver_io, perceiver_lm, perceiver_ar)
BY_ARGUMENTS = {family.ARGUMENTS: family for family in FAMILIES}


def of_arguments(arguments: AnyArguments) -> ModuleType:
    """The family of a class' arguments."""
    return BY_ARGUMENTS[type(arguments)]


def of_config(config: AnyModelConfig) -> ModuleType:
    """The family of a model of ours.

    Raises:
        ConfigError: it belongs to none.
    """
    return family_of(config, FAMILIES, WHOSE)
