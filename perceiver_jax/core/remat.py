"""What the backward pass computes again instead of keeping, by policies of `jax.checkpoint`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax

Policy = Literal["none", "dots", "full"]
"""Nothing is computed again; all but products with kernels; everything."""

Remat = Policy | bool
"""False stands for "none" and True for "full", as configs were once saved."""


def named(remat: Remat) -> Policy:
    """The policy by its name.

    Raises:
        ValueError: there is no such policy.
    """
    if isinstance(remat, bool):
        return "full" if remat else "none"
    if remat not in get_args(Policy):
        raise ValueError(f"remat={remat!r} is none of {', '.join(map(repr, get_args(Policy)))}")
    return remat


def recomputed(function: Callable, remat: Remat, static_argnums: Sequence[int] = ()) -> Callable:
    """A function whose intermediates the backward pass computes again, as the policy has it.

    "dots" keeps products without batch axes: projections, but not the scores of attentions.
    """
    policy = named(remat)
    if policy == "none":
        return function
    saveable: Any = None
    if policy == "dots":
        saveable = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return jax.checkpoint(function, policy=saveable, static_argnums=tuple(static_argnums))
