"""What holds between two sets of tokens besides their content: who may attend, distance in time.

- Padding is attended to by nobody; tokens of different segments do not see each other.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perceiver_jax.core.position import Rotation
from perceiver_jax.core.rotary_time import RotaryTimeConfig
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array


class Relation(NamedTuple):
    """Of queries to the tokens that they attend to.

    Attributes:
        mask: [B or 1, 1, N or 1, M] bool, True = may attend; None: all may.
        rotation: turns keys and queries by their moments; None: nothing is turned.
    """

    mask: Array | None
    rotation: Rotation | None


def relate(queries: Tokens, inputs: Tokens, rotary: RotaryTimeConfig | None = None) -> Relation:
    """The relation of N queries to M inputs; of their content, not even the channels are looked at.

    Args:
        queries: their mask says nothing here.
        inputs: keys and values are made of them.
        rotary: how heads are turned; None: not at all, moments or not.

    Raises:
        ValueError: only one side has segments, heads are to be turned and moments are missing, or
            moments, segments and masks are not as many as tokens.
    """
    for name, tokens in (("queries", queries), ("inputs", inputs)):
        _check_sizes(name, tokens)
    mask = None if inputs.mask is None else inputs.mask[:, None, None, :]
    if (queries.segments is None) != (inputs.segments is None):
        without, other = ("inputs", "queries") if inputs.segments is None else ("queries", "inputs")
        raise ValueError(
            f"the {other} of an attention have segments and its {without} have none; give both, "
            "as in Tokens(content=…, segments=…), also to latents and output queries"
        )
    if queries.segments is not None and inputs.segments is not None:
        same = queries.segments[:, None, :, None] == inputs.segments[:, None, None, :]
        mask = same if mask is None else mask & same
    if rotary is None:
        return Relation(mask, None)
    if queries.times is None or inputs.times is None:
        sides = {"queries": queries.times, "inputs": inputs.times}
        without = " and ".join(name for name, times in sides.items() if times is None)
        raise ValueError(
            f"this attention is turned by time (rotary_channels={rotary.num_channels}), and its "
            f"{without} have no moments; give them as Tokens(content=…, times=[B or 1, number]), "
            "inputs by their adapter, latents and output queries at the call"
        )
    return Relation(mask, rotary.rotation(inputs.times, queries.times))


def followed_by(first: Tokens, second: Tokens) -> Tokens:
    """Dense tokens of both, one after the other; a batch of one is repeated.

    Raises:
        ValueError: one has moments or segments and the other has none, or channels differ.
    """
    batch = max(
        len(x)
        for tokens in (first, second)
        for x in (tokens.content, tokens.mask, tokens.times, tokens.segments)
        if x is not None
    )

    def joined(one, other):
        both = [jnp.broadcast_to(x, (batch, *x.shape[1:])) for x in (one, other)]
        return jnp.concatenate(both, axis=1)

    fields = {}
    for name in ("times", "segments"):
        one, other = getattr(first, name), getattr(second, name)
        if (one is None) != (other is None):
            raise ValueError(f"of two sets of tokens put together only one has {name}; give both")
        fields[name] = None if one is None else joined(one, other)
    if first.num_channels != second.num_channels:
        raise ValueError(
            f"tokens of {first.num_channels} and of {second.num_channels} channels cannot be put "
            "together; project one of them"
        )
    mask = None
    if first.mask is not None or second.mask is not None:
        mask = joined(*(_mask(tokens) for tokens in (first, second)))
    return Tokens(content=joined(first.dense(), second.dense()), mask=mask, **fields)


def _mask(tokens: Tokens) -> Array:
    if tokens.mask is None:
        return jnp.ones((len(tokens.content), tokens.num_tokens), bool)
    return tokens.mask


def _check_sizes(name: str, tokens: Tokens) -> None:
    for field in ("mask", "times", "segments"):
        value = getattr(tokens, field)
        batches = (1, len(tokens.content)) if len(tokens.content) > 1 else None
        if value is None:
            continue
        fits = value.ndim == 2 and value.shape[1] == tokens.num_tokens
        if not fits or (batches is not None and len(value) not in batches):
            raise ValueError(
                f"{field} of shape {value.shape} does not fit {name} of {len(tokens.content)} rows "
                f"of {tokens.num_tokens} tokens; it takes [rows or 1, {tokens.num_tokens}]"
            )
