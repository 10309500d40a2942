"""The dense form is the oracle: every test compares with attention to `tokens.dense()`."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from perceiver_jax.core import separable
from perceiver_jax.core import structured as structured_attention
from perceiver_jax.core.dense import attend
from perceiver_jax.core.position import fourier_axes
from perceiver_jax.core.structured import Norm, attend_to_tokens, is_cheaper
from perceiver_jax.core.tokens import Tokens

N, K, V = 5, 4, 6
GRIDS = {
    "one axis": ((40,), 12, "deepmind"),
    "one axis without a fitting divisor": ((1031,), 2, "deepmind"),
    "two axes": ((6, 7), 3, "deepmind"),
    "two axes, rows of one": ((20, 22), 2, "lucidrains"),
    "two axes, many features": ((5, 18), 9, "deepmind"),
    "two axes, rows too long": ((3, 5000), 1, "deepmind"),
    "three axes": ((3, 4, 17), 1, "deepmind"),
    "three axes, rows of two": ((3, 4, 5), 2, "lucidrains"),
    "four axes": ((2, 3, 2, 2), 1, "lucidrains"),
    "one axis, places alone": ((40,), 0, "deepmind"),
    "two axes, places alone": ((6, 7), 0, "deepmind"),
    "three axes, places alone": ((3, 4, 17), 0, "deepmind"),
}


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def problem(grid, num_content, order="deepmind", *, queries=1, batch=2, heads=1, masked=False):
    """(arguments that are differentiated, what makes tokens of them)."""
    tables, order = fourier_axes(grid, num_bands=3, channel_order=order)
    num_channels = num_content + sum(table.shape[-1] for table in tables)
    mask = None
    if masked:
        mask = np.random.default_rng(0).random((max(queries, batch), np.prod(grid))) < 0.6
        mask[0] = False
        mask = jnp.asarray(mask)
    arguments = {
        "q": draw(queries, N, heads, K),
        "content": draw(batch, *grid, num_content),
        "table": jnp.asarray(tables[-1]),
        "key_kernel": draw(num_channels, heads * K),
        "value_kernel": draw(num_channels, heads * V),
        "value_bias": draw(heads * V),
        "scale": draw(num_channels),
        "bias": 3 + draw(num_channels),
    }

    def tokens(content, table):
        positions = (*tables[:-1], table)
        return Tokens(content=content, positions=positions, order=order, mask=mask)

    return arguments, tokens


def structured(arguments, tokens, *, norm=True, masked_rows="zero", form=attend_to_tokens):
    rest = dict(arguments)
    made = tokens(rest.pop("content"), rest.pop("table"))
    layer_norm = Norm(rest.pop("scale"), rest.pop("bias"), 1e-5)
    return form(
        rest.pop("q"), made, norm=layer_norm if norm else None, masked_rows=masked_rows, **rest
    )


def dense(arguments, tokens, **options):
    return structured(arguments, tokens, **options, form=attend_densely)


def attend_densely(q, tokens, *, key_kernel, value_kernel, value_bias, norm, masked_rows):
    x = tokens.dense()
    if norm is not None:
        x = x - x.mean(-1, keepdims=True)
        x = x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + norm.epsilon)
        x = x * norm.scale[None, None] + norm.bias[None, None]
    k, v = x @ key_kernel, x @ value_kernel
    if value_bias is not None:
        v = v + value_bias[None, None]
    k, v = (rearrange(y, "b m (h c) -> b m h c", h=q.shape[2]) for y in (k, v))
    mask = None if tokens.mask is None else tokens.mask[:, None, None]
    return attend(q, k, v, mask, masked_rows=masked_rows)


def assert_same(arguments, tokens, tolerance=1e-11, **options):
    """Results, and gradients of all arguments, relative to their scale."""

    def outputs(form):
        def value(arguments):
            result = form(arguments, tokens, **options)
            return (result * draw(*result.shape).astype(result.dtype)).sum(), result

        return jax.jit(jax.grad(value, has_aux=True))(arguments)

    (got_gradients, got), (gradients, result) = outputs(structured), outputs(dense)
    np.testing.assert_allclose(got, result, rtol=0, atol=tolerance * np.abs(result).max())
    for name, gradient in gradients.items():
        if gradient is None or not gradient.size:
            continue
        scale = max(np.abs(gradient).max(), 1e-3)
        np.testing.assert_allclose(
            got_gradients[name], gradient, rtol=0, atol=tolerance * scale, err_msg=name
        )


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_results_and_gradients_on_every_kind_of_grid(float64, grid):
    assert_same(*problem(*grid))


@pytest.mark.parametrize("grid", [GRIDS["two axes"], GRIDS["one axis"]], ids=["grid", "line"])
@pytest.mark.parametrize(
    "queries, batch, heads, masked, masked_rows, norm",
    [
        (2, 2, 2, False, "zero", True),
        (3, 1, 1, False, "zero", True),
        (1, 2, 2, False, "zero", False),
        *itertools.product([1, 2], [2], [1, 2], [True], ["zero", "uniform"], [True, False]),
    ],
)
def test_batches_heads_masks_and_no_norm(
    float64, grid, queries, batch, heads, masked, masked_rows, norm
):
    made = problem(*grid, queries=queries, batch=batch, heads=heads, masked=masked)
    assert_same(*made, masked_rows=masked_rows, norm=norm)


def test_content_alone_and_one_table_over_all_tokens(float64):
    arguments, _ = problem((40,), 12)
    assert_same(arguments, lambda content, table: Tokens(content=content, positions=(table,)))
    arguments = {
        name: x[:12] if name in ("key_kernel", "value_kernel", "scale", "bias") else x
        for name, x in arguments.items()
    }
    assert_same(arguments, lambda content, table: Tokens(content=content))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", ["table", "content"])
@pytest.mark.parametrize("grid", [GRIDS["two axes"], GRIDS["one axis"]], ids=["grid", "line"])
def test_tokens_are_differentiated_where_one_part_of_them_is_asked_for(float64, grid, name, norm):
    arguments, tokens = problem(*grid)

    def gradient(form):
        def total(x):
            return jnp.sin(form(arguments | {name: x}, tokens, norm=norm)).sum()

        return jax.grad(total)(arguments[name])

    wanted = gradient(dense)
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(gradient(structured), wanted, rtol=1e-9, atol=1e-11)


def test_masks_and_queries_of_one_and_of_many_examples(float64):
    arguments, tokens = problem((6, 7), 3, queries=3, batch=1)
    mask = jnp.asarray(np.random.default_rng(0).random((1, 42)) < 0.5)
    assert_same(arguments, lambda *parts: dataclasses.replace(tokens(*parts), mask=mask))


def test_no_score_exceeds_the_bound_that_spares_the_maximum(float64, monkeypatch):
    """Also where a token is parallel to the query, which comes close to it."""
    bounds = []
    real = structured_attention.softmax_sums
    monkeypatch.setattr(
        structured_attention,
        "softmax_sums",
        lambda functional, elements, bound: (
            bounds.append(bound) or real(functional, elements, bound)
        ),
    )
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = jnp.asarray(rng.normal(size=(1, 30, 8)))
        kernel, scale = jnp.asarray(rng.normal(size=(8, K))), jnp.asarray(rng.normal(size=8))
        q = jnp.asarray(rng.normal(size=(1, N, 1, K)))
        u = jnp.einsum("bnhk,ck->bnc", q, kernel) * scale[None, None] / K**0.5
        u = u - u.mean(-1, keepdims=True)
        x = x.at[:, :N].set(7 * u)  # the parallel ones
        norm = Norm(scale, jnp.zeros(8), 1e-12)
        attend_to_tokens(
            q,
            Tokens(content=x),
            key_kernel=kernel,
            value_kernel=kernel,
            value_bias=None,
            norm=norm,
            masked_rows="zero",
        )
        normed = x - x.mean(-1, keepdims=True)
        normed = normed / jnp.sqrt(jnp.square(normed).mean(-1, keepdims=True))
        highest = jnp.abs(jnp.einsum("bnc,bmc->bnm", u, normed)).max(-1)
        assert (bounds[-1] >= highest * (1 - 1e-9)).all()
        np.testing.assert_allclose(bounds[-1], highest, rtol=1e-6)


def test_queries_of_zero_have_finite_gradients(float64, monkeypatch):
    monkeypatch.setattr(separable, "TILE_SIZE", {"cpu": 2**6})
    monkeypatch.setattr(separable, "LEAST_WIDTH", 2)
    arguments, tokens = problem((6, 7), 3)
    assert_same(arguments | {"q": 0 * arguments["q"]}, tokens)


def test_values_may_have_no_bias(float64):
    arguments, tokens = problem((6, 7), 3, masked=True)
    assert_same(arguments | {"value_bias": None}, tokens)


def test_scores_far_beyond_the_range_of_exponentials(float64):
    """The bound is no use there: without the maximum, sums would overflow or vanish."""
    for sign in (1, -1):
        arguments, tokens = problem((6, 7), 3)
        arguments["q"] = sign * 1000 * jnp.abs(arguments["q"])
        assert_same(arguments, tokens, tolerance=1e-7)
    arguments, tokens = problem((6, 7), 3, masked=True)
    assert_same(arguments | {"q": 1000 * arguments["q"]}, tokens, tolerance=1e-7)


def test_a_token_that_is_not_a_number_is_seen(float64):
    arguments, tokens = problem((6, 7), 3)
    arguments["content"] = arguments["content"].at[0, 2, 3, 1].set(jnp.nan)
    result = structured(arguments, tokens)
    assert np.isnan(result[0]).all() and np.isfinite(result[1]).all()


@pytest.mark.parametrize("size", [2**8, 2**10])
def test_rows_of_scores_may_be_taken_in_parts(float64, monkeypatch, size):
    monkeypatch.setattr(separable, "TILE_SIZE", {"cpu": size})
    monkeypatch.setattr(separable, "LEAST_WIDTH", 3)
    for masked in (False, True):
        made = problem((6, 7), 3, heads=2, masked=masked)
        assert_same(*made)


def test_vmap_remat_and_scan(float64):
    arguments, tokens = problem((6, 7), 3)

    def total(q, form):
        return jnp.square(form(arguments | {"q": q}, tokens)).sum()

    def transformed(q, form):
        once = jax.grad(jax.checkpoint(lambda q: total(q, form)))(q)
        _, several = jax.lax.scan(lambda q, _: (q * 0.5, jax.grad(total)(q, form)), q, length=3)
        return once, several, jax.vmap(jax.grad(lambda q: total(q, form)))(q[None])

    # Not jitted as a whole: each transformation is one of its own.
    got, wanted = (transformed(arguments["q"], form) for form in (structured, dense))
    for x, y in zip(got, wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


def test_gradients_nobody_asks_for_are_not_computed(float64, equations):
    """Raw images are not differentiated, so nothing of their size is made."""
    arguments, tokens = problem((6, 7), 3)

    def size(names):
        def total(some):
            return structured(arguments | some, tokens).sum()

        some = {name: arguments[name] for name in names}
        return len(equations(jax.make_jaxpr(jax.grad(total))(some)))

    assert size(["q"]) < size(["q", "content"])


def test_float32_differs_from_the_truth_by_rounding_only():
    """More than the dense form does, whose own gradients are off by up to 4e-5 here."""
    with jax.enable_x64(True):
        arguments, tokens = problem((32, 32), 3, batch=1)
        weights = draw(1, N, V)
        truth = jax.grad(lambda a: (dense(a, tokens) * weights).sum())(arguments)
        single = {name: jnp.asarray(x, jnp.float32) for name, x in arguments.items()}
    weights = jnp.asarray(weights, jnp.float32)
    got = jax.grad(lambda a: (structured(a, tokens) * weights).sum())(single)
    for name, gradient in truth.items():
        tolerance = 5e-6 * np.abs(gradient).max()
        assert got[name].dtype == jnp.float32
        np.testing.assert_allclose(got[name], gradient, rtol=0, atol=tolerance, err_msg=name)


def test_bfloat16_queries_give_at_least_float32():
    arguments, tokens = problem((6, 7), 3)
    arguments = {name: jnp.asarray(x, jnp.float32) for name, x in arguments.items()}
    arguments["q"] = arguments["q"].astype(jnp.bfloat16)
    result = structured(arguments, tokens)
    assert result.dtype == jnp.float32
    wanted = dense(arguments | {"q": arguments["q"].astype(jnp.float32)}, tokens)
    np.testing.assert_allclose(result, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_memory_is_tables_by_axis_and_nothing_of_the_size_of_the_tokens():
    def temporaries(side):
        arguments, tokens = problem((side, side), 3, batch=1)
        arguments = {name: jnp.asarray(x, jnp.float32) for name, x in arguments.items()}
        compiled = jax.jit(lambda a: structured(a, tokens)).lower(arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # One number per token would be 4 × 256² = 262,144 bytes; scores are 5 of them, tokens 17.
    for side in (64, 256):
        assert temporaries(side) < 4 * 10 * N * side + 20_000


@pytest.mark.parametrize(
    "grid, num_content, num_queries, heads, expected",
    [
        ((224, 224), 3, 512, 1, True),
        ((28, 28), 1, 32, 4, True),
        ((368, 496), 64, 2048, 1, True),
        ((2048,), 768, 256, 8, False),
        ((2, 2), 64, 512, 8, False),
    ],
)
def test_what_is_cheaper_follows_from_shapes(grid, num_content, num_queries, heads, expected):
    tables, order = fourier_axes(grid, num_bands=16) if len(grid) > 1 else ((), None)
    content = jax.ShapeDtypeStruct((1, *grid, num_content), jnp.float32)
    tokens = Tokens(content=content, positions=tables, order=order)
    sizes = {"num_qk_channels": 256, "num_v_channels": 256}
    assert is_cheaper(tokens, num_queries=num_queries, num_heads=heads, **sizes) is expected


def test_the_dense_oracle_is_not_the_structured_form():
    """The oracle would prove nothing if it were."""
    arguments, tokens = problem((6, 7), 3)
    moved = dataclasses.replace(tokens(arguments["content"], arguments["table"]), order=None)
    assert not np.allclose(dense(arguments, lambda *_: moved), dense(arguments, tokens))
