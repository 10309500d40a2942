"""What encoder and decoder ask of adapters, said where an adapter of one's own lacks it."""

import inspect
from typing import Any

from perceiver_jax.core.tokens import Tokens


def check_input_adapter(adapter: Any) -> None:
    """Raises a TypeError for what is no `adapters.base.InputAdapter`."""
    missing = "" if hasattr(adapter, "num_input_channels") else "has no num_input_channels"
    if isinstance(adapter, type):
        missing = "is a class, and an instance of it is needed"
    elif not missing and not _takes_key(adapter):
        missing = "takes no key= when it is called"
    if missing:
        raise TypeError(
            f"input_adapter, {_named(adapter)}, {missing}; it has num_input_channels, its call "
            "takes (inputs, input_mask=None, *, key=None), and returns Tokens, see "
            "adapters.base.InputAdapter"
        )


def check_output_adapter(adapter: Any) -> None:
    """Raises a TypeError for what no decoder can be built with.

    What else an `adapters.base.OutputAdapter` has is needed where it is asked for queries and
    predictions, which models may see to themselves.
    """
    missing = "" if hasattr(adapter, "num_output_query_channels") else "has no such channels"
    if isinstance(adapter, type):
        missing = "is a class, and an instance of it is needed"
    if missing:
        raise TypeError(
            f"output_adapter, {_named(adapter)}, {missing}; it has num_output_query_channels, "
            "gives queries and makes predictions of answers, see adapters.base.OutputAdapter"
        )


def check_tokens(tokens: Any, adapter: Any) -> None:
    """Raises an error for what an input adapter must not return."""
    if not isinstance(tokens, Tokens):
        raise TypeError(
            f"{type(adapter).__name__} returned {type(tokens).__name__}; an input adapter returns "
            "Tokens(content=..., mask=input_mask), with content [B, M, channels]"
        )
    if tokens.content.ndim < 3:
        raise ValueError(
            f"{type(adapter).__name__} made content of shape {tokens.content.shape}; it is [B, M, "
            "channels], so give inputs with the axis of the batch, also for a single example"
        )
    announced = adapter.num_input_channels
    if tokens.num_channels != announced:
        raise ValueError(
            f"{type(adapter).__name__} announces num_input_channels={announced} and gave tokens of "
            f"{tokens.num_channels} channels, positions included; make both the same"
        )


def _takes_key(adapter: Any) -> bool:
    if not callable(adapter):
        return False
    parameters = inspect.signature(adapter).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


def _named(adapter: Any) -> str:
    return adapter.__name__ if hasattr(adapter, "__name__") else f"of {type(adapter).__name__}"
