"""What blocks and models are called with: names that they know, masks and keys that are such."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp

from perceiver_jax.config import suggestion
from perceiver_jax.typing import Array

F = TypeVar("F", bound=Callable[..., Any])

ELSEWHERE = {
    "attention_mask": "input_mask=, True where there is an element",
    "mask": "input_mask=, True where there is an element",
    "pad_mask": "input_mask=, its opposite: True where there is an element",
    "rng": "key=",
    "training": "key=: a random key means training, None inference",
    "train": "key=: a random key means training, None inference",
    "is_training": "key=: a random key means training, None inference",
    "deterministic": "key=: a random key means training, None inference",
    "output_attentions": "the method attention_maps",
    "return_embeddings": "the method encode",
    "subsampled_output_points": "query_indices=",
    "subsampled_query": "query_indices=",
}
"""Arguments of other implementations, and what stands for them here."""


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
                    meant = suggestion(name, known)
                    if name in ELSEWHERE:
                        meant = f"; here it is {ELSEWHERE[name]}"
                    raise TypeError(f"{type(self).__name__} takes no argument '{name}'{meant}")
            return function(self, *args, **arguments)

        return cast(F, checked)

    return decorate


def as_mask(mask: Any, name: str = "input_mask") -> Array | None:
    """A mask as bool: of bools, or of integers, of which all but 0 are True.

    Raises:
        ValueError: it holds something else, such as numbers that are added to scores.
    """
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.dtype != bool and not jnp.issubdtype(mask.dtype, jnp.integer):
        raise ValueError(
            f"{name} is of type {mask.dtype}; give bools, True = an element, False = padding (and "
            "no numbers that are added to scores)"
        )
    return mask.astype(bool)


def check_key(key: Any) -> None:
    """Raises a ValueError for what is no random key of JAX, and not None."""
    if key is None:
        return
    if not (hasattr(key, "dtype") and hasattr(key, "shape")):
        raise ValueError(f"key={key!r} is no random key; give jax.random.key(0), or None")
    is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key and key.dtype != jnp.uint32:
        raise ValueError(
            f"a key of type {key.dtype} is no random key; give jax.random.key(0), or None"
        )


def check_rngs(rngs: Any) -> None:
    """Raises a TypeError for what gives no initial values."""
    if not callable(getattr(rngs, "params", None)):
        raise TypeError(f"rngs={rngs!r} gives no initial values; give flax.nnx.Rngs(0)")
