"""Checks that a foreign implementation can express a config."""

from collections.abc import Mapping
from typing import Any


def check_settings(whose: str, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Compares settings with the only values that an implementation knows.

    Args:
        whose: the implementation, for the message.
        settings: {name: (value, the one it has to be)}.

    Raises:
        ValueError: with every setting that differs.
    """
    wrong = [
        f"{name}={got!r} instead of {needed!r}"
        for name, (got, needed) in settings.items()
        if got != needed
    ]
    if wrong:
        raise ValueError(f"{whose} cannot express this model: {'; '.join(wrong)}")
