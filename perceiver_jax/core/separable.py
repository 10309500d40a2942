"""Softmax sums over tokens whose scores separate: the kernel of the structured cross-attention.

- A `Functional` maps every token to a number, for each of R rows: products with the token's
  features, plus a number for its place on the outer and one for its place on the inner axes of the
  grid, all times the token's scale. Scores are a functional, their gradient is one, and sums over
  tokens are its adjoint: three uses of one structure.
- Tokens are streamed one outer row at a time, so nothing of size tokens × R ever exists.
- The gradient is written by hand and saves the sums and one number per row.
- What is subtracted before exponentials is zero where a bound on all scores shows that this is
  safe, else the exact maximum, found in a pass of its own that takes no exponentials.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from perceiver_jax.typing import Array

SAFE_BOUND = 60.0
"""Scores below this need no shift: e^60 times a million tokens is far from float32's ends."""
TILE_SIZE = {"cpu": 2**18}
"""Scores at a time, by backend, so that they stay in the processor's cache; others: a whole row."""
LEAST_WIDTH = 16
"""Rows of scores that are at least taken at once: the width of a vector instruction."""
UNROLLED_FEATURES = 8
"""Up to this many features are multiplied and added one by one, which fuses with what follows."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Functional:
    """Numbers that a token's features and places are multiplied with, or sums over them.

    Attributes:
        features: [b, k, R].
        outer: [b, G, R] by place on the outer axes, or None.
        inner: [b, T, R] by place on the inner axes, or None.
    """

    features: Array
    outer: Array | None
    inner: Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norm:
    """What a token's deviation needs to know of the channels that are not its features.

    These are the entries of position tables at the token's outer and inner place.

    Attributes:
        outer: [G, 2] their mean, and the sum of their squared distances from it; or None.
        inner: [T, 2], likewise.
        num_outer: how many there are at an outer place.
        num_inner: how many there are at an inner place.
        epsilon: added to the variance of all channels.
    """

    outer: Array | None
    inner: Array | None
    num_outer: int = dataclasses.field(metadata={"static": True})
    num_inner: int = dataclasses.field(metadata={"static": True})
    epsilon: float = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Elements:
    """Tokens in G rows of T.

    Attributes:
        content: [B, G, T, c] features.
        shared: [G, T, p] further features, equal for all examples, or None; k = c + p.
        norm: a token's scale is one over the deviation of its channels; None: 1.
        mask: [B, G, T] bool, True = a token, or None.
    """

    content: Array
    shared: Array | None
    norm: Norm | None
    mask: Array | None


def softmax_sums(functional: Functional, elements: Elements, bound: Array | None) -> Functional:
    """Sums of scaled features, and of scales by place, weighted by the softmax of scores.

    The score of a token in row r is its scale times the functional r of it.

    Args:
        functional: of the scores, for R rows; its batch b is 1 or B.
        elements: B examples of G × T tokens.
        bound: upper bound on the magnitude of every score, of any shape; None: unknown.

    Returns:
        A functional of batch B with the weighted sums over all tokens of scale × features, and of
        the scale over the tokens at each outer and each inner place. Where all tokens are masked
        they are zero.
    """
    return _compiled(functional, elements, bound)


def rows_at_once(elements: Elements) -> int | None:
    """Rows R of which scores stay in the processor's cache; None where that does not matter."""
    batch, _, row_size, _ = elements.content.shape
    tile = TILE_SIZE.get(jax.default_backend())
    return None if tile is None else max(LEAST_WIDTH, tile // (batch * row_size))


@jax.custom_vjp
def _softmax_sums(functional: Functional, elements: Elements, bound: Array | None) -> Functional:
    return _forward(functional, elements, bound)[0]


def _forward(functional: Functional, elements: Elements, bound: Array | None):
    """(sums, [B, R] log of the sum of exponentials)."""
    batch, num_rows, num_inner, _ = elements.content.shape
    num_features, R = functional.features.shape[1:]
    dtype = functional.features.dtype
    shift = _shift(functional, elements, bound)

    def body(carry, g):
        total, features, inner = carry
        x, scale, mask = _row(elements, g)
        weights = jnp.exp(scale * _evaluate(functional, x, g) - shift[:, None])
        if mask is not None:
            weights = jnp.where(mask, weights, 0.0)
        # Sums over tokens as one product: 1, scale, scale × features.
        columns = jnp.concatenate([jnp.ones_like(scale), scale, scale * x], axis=-1)
        sums = jnp.einsum("btk,btr->bkr", columns, weights)
        if inner is not None:
            inner = inner + scale * weights
        outer = None if functional.outer is None else sums[:, 1]
        return (total + sums[:, 0], features + sums[:, 2:], inner), outer

    start = (
        jnp.zeros((batch, R), dtype),
        jnp.zeros((batch, num_features, R), dtype),
        None if functional.inner is None else jnp.zeros((batch, num_inner, R), dtype),
    )
    (total, features, inner), outer = jax.lax.scan(body, start, jnp.arange(num_rows))
    inverse = jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)
    sums = Functional(
        features=features * inverse[:, None],
        outer=None if outer is None else outer.swapaxes(0, 1) * inverse[:, None],
        inner=None if inner is None else inner * inverse[:, None],
    )
    # Rows without a token get +inf, so that their weights are zero in the gradient too.
    return sums, jnp.where(total > 0, shift + jnp.log(total), jnp.inf)


def _shift(functional: Functional, elements: Elements, bound: Array | None) -> Array:
    """[B, R] what to subtract from scores: zero where that is safe, else their maximum."""
    batch, num_rows, _, _ = elements.content.shape
    shape, dtype = (batch, functional.features.shape[-1]), functional.features.dtype

    def maximum():
        def body(highest, g):
            x, scale, mask = _row(elements, g)
            scores = scale * _evaluate(functional, x, g)
            if mask is not None:
                scores = jnp.where(mask, scores, jnp.finfo(dtype).min)
            return jnp.maximum(highest, _maximum(scores)), None

        lowest = jnp.full(shape, jnp.finfo(dtype).min)
        return jax.lax.scan(body, lowest, jnp.arange(num_rows))[0]

    if bound is None:
        return maximum()
    # A bound that is not a number is not below anything, either.
    safe = jnp.max(bound) < SAFE_BOUND
    return jax.lax.cond(safe, lambda: jnp.zeros(shape, dtype), maximum)


def _maximum(scores: Array) -> Array:
    """[B, T, R] → [B, R]; by halves, which CPUs vectorise along R."""
    while (size := scores.shape[1]) > 1:
        half = (size + 1) // 2
        scores = jnp.maximum(scores[:, :half], scores[:, size - half :])
    return scores[:, 0]


def _row(elements: Elements, g: Array) -> tuple[Array, Array, Array | None]:
    """Features [B, T, k], scale and mask [B, T, 1] of outer row g."""
    x, scale = _features(elements.norm, *_parts(elements, g))
    mask = None if elements.mask is None else _at(elements.mask, g, 1)[..., None]
    return x, scale, mask


def _at(x: Array, g: Array, axis: int) -> Array:
    return jax.lax.dynamic_index_in_dim(x, g, axis, keepdims=False)


def _parts(elements: Elements, g: Array):
    """What features and scale of row g are made of: content, shared, outer and inner moments."""
    shared, norm = elements.shared, elements.norm
    return (
        _at(elements.content, g, 1),
        None if shared is None else _at(shared, g, 0),
        None if norm is None or norm.outer is None else _at(norm.outer, g, 0),
        None if norm is None else norm.inner,
    )


def _features(norm: Norm | None, content, shared, outer, inner) -> tuple[Array, Array]:
    """[B, T, k] features and [B, T, 1] scale. Parts are centred before squares, nothing cancels."""
    x = content
    if shared is not None:
        x = jnp.concatenate([x, jnp.broadcast_to(shared, (len(x), *shared.shape))], axis=-1)
    if norm is None:
        return x, jnp.ones((*x.shape[:-1], 1), x.dtype)
    moments = []
    if outer is not None:
        moments.append((norm.num_outer, outer[0], outer[1]))
    if inner is not None:
        moments.append((norm.num_inner, inner[None, :, :1], inner[None, :, 1:]))
    num_channels = x.shape[-1] + sum(size for size, _, _ in moments)
    mean = x.sum(-1, keepdims=True)
    for size, own, _ in moments:
        mean = mean + size * own
    mean = mean / num_channels
    squares = jnp.square(x - mean).sum(-1, keepdims=True)
    for size, own, distances in moments:
        squares = squares + distances + size * jnp.square(own - mean)
    return x, jax.lax.rsqrt(squares / num_channels + norm.epsilon)


def _evaluate(functional: Functional, x: Array, g: Array) -> Array:
    """[B, T, R] functional of the tokens in row g with features x [B, T, k], before scaling."""
    u = functional.features
    if u.shape[1] == 0:
        # Tokens that are nothing but their place.
        values = jnp.zeros((*x.shape[:-1], u.shape[-1]), u.dtype)
    elif u.shape[1] <= UNROLLED_FEATURES:
        values = x[:, :, 0, None] * u[:, None, 0]
        for i in range(1, u.shape[1]):
            values = values + x[:, :, i, None] * u[:, None, i]
    elif len(u) == 1:
        values = jnp.einsum("btk,kr->btr", x, u[0])
    else:
        values = jnp.einsum("btk,bkr->btr", x, u)
    if functional.outer is not None:
        outer = jax.lax.dynamic_index_in_dim(functional.outer, g, axis=1)
        values = values + outer
    if functional.inner is not None:
        values = values + functional.inner
    return values


def evaluate_all(functional: Functional, elements: Elements) -> Array:
    """[B, G·T, R] scaled functional of all tokens, written out."""

    def row(g):
        x, scale, _ = _row(elements, g)
        return scale * _evaluate(functional, x, g)

    values = jax.vmap(row, out_axes=1)(jnp.arange(elements.content.shape[1]))
    return values.reshape(len(values), -1, values.shape[-1])


def _save(*arguments):
    """The forward pass under differentiation; arguments say whether they are differentiated."""

    def is_leaf(x):
        return isinstance(x, CustomVJPPrimal)

    functional, elements, bound = jax.tree.map(lambda x: x.value, arguments, is_leaf=is_leaf)
    sums, log_total = _forward(functional, elements, bound)
    # Only arrays can be saved; whether tokens are differentiated is told by the structure.
    asked = () if any(x.perturbed for x in jax.tree.leaves(arguments[1], is_leaf=is_leaf)) else None
    return sums, (functional, elements, sums, log_total, asked)


def _gradient(saved, cotangent):
    """Cotangents of functional and elements.

    With weights A, the cotangent of a weight is the cotangent functional w of its token, and that
    of its score is A (w - Σ A w), of which the functional's cotangent is the adjoint.
    """
    functional, elements, sums, log_total, asked = saved
    num_rows = elements.content.shape[1]
    cotangent = jax.tree.map(_materialised, cotangent, is_leaf=_is_zero)
    products = jax.tree.map(lambda c, s: jnp.sum(c * s, axis=1), cotangent, sums)
    mean = jax.tree.reduce(jnp.add, products)

    def body(carry, g):
        features, inner, d_inner = carry
        parts = _parts(elements, g)
        (x, scale), pull = jax.vjp(functools.partial(_features, elements.norm), *parts)
        scores = _evaluate(functional, x, g)
        slopes = _evaluate(cotangent, x, g)
        weights = jnp.exp(scale * scores - log_total[:, None])
        if elements.mask is not None:
            weights = jnp.where(_at(elements.mask, g, 1)[..., None], weights, 0.0)
        d_scores = weights * (scale * slopes - mean[:, None])
        columns = jnp.concatenate([scale, scale * x], axis=-1)
        d_sums = jnp.einsum("btk,btr->bkr", columns, d_scores)
        if inner is not None:
            inner = inner + scale * d_scores
        d_outer = None if functional.outer is None else d_sums[:, 0]
        d_parts = None
        if asked is not None:
            d_x = _contract(d_scores, functional.features)
            d_x = scale * (d_x + _contract(weights, cotangent.features))
            d_scale = jnp.sum(d_scores * scores + weights * slopes, axis=-1, keepdims=True)
            *d_parts, of_inner = pull((d_x, d_scale))
            d_inner = None if of_inner is None else d_inner + of_inner
        return (features + d_sums[:, 1:], inner, d_inner), (d_outer, d_parts)

    norm = elements.norm
    start = (
        jnp.zeros_like(sums.features),
        None if functional.inner is None else jnp.zeros_like(sums.inner),
        None if asked is None or norm is None else jax.tree.map(jnp.zeros_like, norm.inner),
    )
    last, (outer, d_parts) = jax.lax.scan(body, start, jnp.arange(num_rows))
    features, inner, d_inner = last
    d_functional = Functional(features, None if outer is None else outer.swapaxes(0, 1), inner)
    d_functional = jax.tree.map(
        lambda d, like: d.sum(0, keepdims=True) if len(like) < len(d) else d,
        d_functional,
        functional,
    )
    if d_parts is None:
        return d_functional, None, None
    d_content, d_shared, d_places = d_parts
    d_norm = None
    if norm is not None:
        d_norm = dataclasses.replace(norm, outer=d_places, inner=d_inner)
    return d_functional, Elements(d_content.swapaxes(0, 1), d_shared, d_norm, None), None


_softmax_sums.defvjp(_save, _gradient, symbolic_zeros=True)

# Calls outside of a compiled function do not compile each time.
_compiled = jax.jit(_softmax_sums)


def _contract(weights: Array, functional: Array) -> Array:
    """[B, T, R] weights, [b, k, R] functional → [B, T, k]."""
    if len(functional) == 1:
        return jnp.einsum("btr,kr->btk", weights, functional[0])
    return jnp.einsum("btr,bkr->btk", weights, functional)


def _is_zero(x) -> bool:
    return isinstance(x, SymbolicZero)


def _materialised(x) -> Array:
    return jnp.zeros(x.shape, x.dtype) if _is_zero(x) else x
