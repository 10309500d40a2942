"""Formats that have several kinds of models: one module for each, chosen in one place.

- Such a module, a family, has `WHOSE`, `config`, `settings`, `requirements` and `rows` as a format
  has them, and `MODELS`: the classes of ours that its models become.
"""

from collections.abc import Sequence
from types import ModuleType

from perceiver_jax.config import ConfigError
from perceiver_jax.models import AnyModelConfig, model_class


def family_of(config: AnyModelConfig, families: Sequence[ModuleType], whose: str) -> ModuleType:
    """The family that a model belongs to.

    Args:
        config: of the model.
        families: of a format.
        whose: the implementation, for the message.

    Raises:
        ConfigError: it belongs to none of them.
    """
    try:
        model = model_class(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    for family in families:
        if model in family.MODELS:
            return family
    known = ", ".join(one.__name__ for family in families for one in family.MODELS)
    raise ConfigError(f"{whose} has no {model.__name__}; of our models it has {known}")
