"""What blocks and models are called with: names that they know, masks and keys that are such."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.config import suggestion
from perceiver_jax.core.known_values import known as known_values
from perceiver_jax.typing import Array

F = TypeVar("F", bound=Callable[..., Any])

_MASK = ("input_mask", ", True where there is an element")
_TRAINING = ("key", ": a random key means training, None inference")
_INDICES = ("query_indices", "")
ELSEWHERE = {
    "attention_mask": _MASK,
    "mask": _MASK,
    "pad_mask": ("input_mask", ", its opposite: True where there is an element"),
    "rng": _TRAINING,
    "training": _TRAINING,
    "train": _TRAINING,
    "is_training": _TRAINING,
    "deterministic": _TRAINING,
    "subsampled_output_points": _INDICES,
    "subsampled_query": _INDICES,
}
"""Arguments of other implementations: what they are called here, and what is to be known of it."""
METHODS = {"output_attentions": "attention_maps", "return_embeddings": "encode"}
"""Arguments of other implementations that are methods of models here."""


def known_arguments(*configs: type) -> Callable[[F], F]:
    """Makes a method refuse arguments of unknown names before Python misses those that they meant.

    Args:
        *configs: dataclasses whose fields the method takes besides, as `**fields`.

    Raises:
        TypeError: at the call; it says what was meant.
    """

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        known += [field.name for config in configs for field in dataclasses.fields(config)]

        @functools.wraps(function)
        def checked(self, *args, **arguments):
            for name in arguments:
                if name not in known:
                    meant = _meant(name, known)
                    raise TypeError(f"{type(self).__name__} takes no argument '{name}'; {meant}")
            return function(self, *args, **arguments)

        return cast(F, checked)

    return decorate


def _meant(name: str, known: list[str]) -> str:
    """What somebody may have meant by an argument, of those that are known."""
    if name in METHODS:
        return f"here it is the method {METHODS[name]} of models"
    here, meaning = ELSEWHERE.get(name, (None, ""))
    if here in known:
        return f"here it is {here}={meaning}"
    return suggestion(name, known).removeprefix("; ")


def as_mask(mask: Any, name: str = "input_mask") -> Array | None:
    """A mask as bool: of bools, or of zeros and ones.

    Raises:
        ValueError: it holds something else, such as numbers that are added to scores. Of traced
            integers that is not known: all but 0 are True.
    """
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.dtype == bool:
        return mask
    values, given = known_values(mask), f"is of type {mask.dtype}"
    if jnp.issubdtype(mask.dtype, jnp.integer):
        odd = [] if values is None else np.setdiff1d(values, [0, 1])
        if not len(odd):
            return mask.astype(bool)
        given = f"has {odd[0]} in it"
    raise ValueError(
        f"{name} {given}; give bools, True = an element, False = padding (and no numbers that are "
        "added to scores)"
    )


def check_mask(mask: Array | None, shape: tuple[int, ...]) -> None:
    """Raises a ValueError where a mask is not of that shape: (B, M), of the inputs."""
    if mask is not None and mask.shape != shape:
        raise ValueError(
            f"input_mask of shape {tuple(mask.shape)} does not fit inputs of {shape[-1]} tokens; "
            f"it takes {shape}, one bool per token"
        )


def check_key(key: Any) -> None:
    """Raises a ValueError for what is no random key of JAX, and not None."""
    if key is None:
        return
    if not isinstance(key, jax.Array | np.ndarray):
        shown = repr(key) if isinstance(key, int | float | str) else f"a {type(key).__name__}"
        raise ValueError(f"key={shown} is no random key; give jax.random.key(0), or None")
    is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key and key.dtype != jnp.uint32:
        raise ValueError(
            f"a key of type {key.dtype} is no random key; give jax.random.key(0), or None"
        )


def check_rngs(rngs: Any) -> None:
    """Raises a TypeError for what gives no initial values."""
    if not callable(getattr(rngs, "params", None)):
        shown = repr(rngs) if isinstance(rngs, int) else type(rngs).__name__
        raise TypeError(f"rngs={shown} gives no initial values; give flax.nnx.Rngs(0)")
