"""Checks that a foreign implementation can express a config."""

from collections.abc import Mapping
from typing import Any

from perceiver_jax.core.encoder import LayerOptions


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


def layer_settings(
    encoder: LayerOptions, decoder: LayerOptions, *, activation: str
) -> dict[str, tuple[Any, Any]]:
    """What all layers of an implementation have in common, as settings to check."""
    only = {
        "activation": activation,
        "layer_norm_epsilon": 1e-5,
        "qkv_bias": True,
        "out_bias": True,
        "mlp_bias": True,
    }
    return {
        f"{name}.{field}": (getattr(half, field), value)
        for name, half in (("encoder", encoder), ("decoder", decoder))
        for field, value in only.items()
    }
