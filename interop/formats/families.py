"""Formats that have several kinds of models: one module for each, chosen in one place.

- Such a module, a family, has `WHOSE`, `config`, `settings`, `requirements` and `rows` as a format
  has them, and `HALVES`: the types of encoder and decoder that its models are made of.
"""

from collections.abc import Sequence
from types import ModuleType

from perceiver_jax.config import ConfigError
from perceiver_jax.models import PerceiverConfig


def family_of(config: PerceiverConfig, families: Sequence[ModuleType], whose: str) -> ModuleType:
    """The family that a model belongs to.

    Args:
        config: of the model.
        families: of a format.
        whose: the implementation, for the message.

    Raises:
        ConfigError: it belongs to none of them.
    """
    halves = (type(config.encoder), type(config.decoder))
    for family in families:
        if family.HALVES == halves:
            return family
    encoder, decoder = (half.__name__ for half in halves)
    known = ", ".join(f"{e.__name__} + {d.__name__}" for e, d in (f.HALVES for f in families))
    raise ConfigError(f"{whose} has no model of {encoder} + {decoder}; it has {known}")
