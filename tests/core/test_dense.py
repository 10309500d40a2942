import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.dense import attend
from perceiver_jax.core.tape import Tape

B, N, M, H, K, V = 2, 3, 5, 2, 4, 6
MASK_SHAPES = [None, *itertools.product((B, 1), (H, 1), (N, 1), (M,))]


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def draw_qkv():
    return draw(B, N, H, K), draw(B, M, H, K), draw(B, M, H, V)


def draw_mask(shape):
    """Random, with a row that forbids everything and one that allows everything."""
    if shape is None:
        return None
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[-1, -1, -1] = True
    mask[0, 0, 0] = False
    return jnp.asarray(mask)


def by_formula(q, k, v, mask, masked_rows):
    """Attention query by query and head by head, over the allowed keys only."""
    q, k, v = (np.asarray(x) for x in (q, k, v))
    allowed = np.ones((B, H, N, M), bool) if mask is None else np.broadcast_to(mask, (B, H, N, M))
    result = np.zeros((B, N, H, V))
    for b, n, h in np.ndindex(B, N, H):
        keys = np.flatnonzero(allowed[b, h, n])
        if len(keys):
            scores = np.exp([q[b, n, h] @ k[b, m, h] / np.sqrt(K) for m in keys])
            result[b, n, h] = scores / scores.sum() @ v[b, keys, h]
        elif masked_rows == "uniform":
            result[b, n, h] = v[b, :, h].mean(0)
    return result.reshape(B, N, H * V)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
@pytest.mark.parametrize("mask_shape", MASK_SHAPES)
def test_attend_is_the_softmax_formula_under_every_mask_shape(float64, mask_shape, masked_rows):
    q, k, v = draw_qkv()
    mask = draw_mask(mask_shape)
    got = attend(q, k, v, mask, masked_rows=masked_rows)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, by_formula(q, k, v, mask, masked_rows), atol=1e-14)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
def test_gradients_of_a_row_that_may_attend_to_nothing_are_finite(float64, masked_rows):
    q, k, v = draw_qkv()
    mask = jnp.zeros((1, 1, 1, M), bool)
    grads = jax.grad(
        lambda q, k, v: jnp.square(attend(q, k, v, mask, masked_rows=masked_rows)).sum(),
        argnums=(0, 1, 2),
    )(q, k, v)
    for grad in grads:
        assert jnp.isfinite(grad).all()
    np.testing.assert_array_equal(grads[0], 0.0)
    np.testing.assert_array_equal(grads[1], 0.0)
    assert (jnp.abs(grads[2]).max() > 0) == (masked_rows == "uniform")


def inverted_by_formula(q, k, v, mask):
    """Queries compete for each key; then every query takes a weighted mean of what it won."""
    q, k, v = (np.asarray(x) for x in (q, k, v))
    allowed = np.ones((B, H, N, M), bool) if mask is None else np.broadcast_to(mask, (B, H, N, M))
    won = np.zeros((B, H, N, M))
    for b, h, m in np.ndindex(B, H, M):
        queries = np.flatnonzero(allowed[b, h, :, m])
        scores = np.exp([q[b, n, h] @ k[b, m, h] / np.sqrt(K) for n in queries])
        won[b, h, queries, m] = scores / scores.sum()
    result = np.zeros((B, N, H, V))
    for b, n, h in np.ndindex(B, N, H):
        if won[b, h, n].any():
            result[b, n, h] = won[b, h, n] / won[b, h, n].sum() @ v[b, :, h]
    return result.reshape(B, N, H * V)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
@pytest.mark.parametrize("mask_shape", MASK_SHAPES)
def test_inverted_attention_is_its_formula_under_every_mask_shape(float64, mask_shape, masked_rows):
    q, k, v = draw_qkv()
    mask = draw_mask(mask_shape)
    got = attend(q, k, v, mask, masked_rows=masked_rows, inverted=True)
    np.testing.assert_allclose(got, inverted_by_formula(q, k, v, mask), atol=1e-14)


def test_inverted_attention_to_nothing_is_zero_and_so_are_its_gradients(float64):
    q, k, v = draw_qkv()
    mask = jnp.ones((B, 1, 1, M), bool).at[0].set(False)

    def loss(q, k, v):
        return jnp.square(attend(q, k, v, mask, masked_rows="uniform", inverted=True)).sum()

    np.testing.assert_array_equal(attend(q, k, v, mask, inverted=True)[0], 0.0)
    for grad in jax.grad(loss, argnums=(0, 1, 2))(q, k, v):
        np.testing.assert_array_equal(grad[0], 0.0)
        assert jnp.isfinite(grad).all() and (grad[1] != 0).any()


def test_a_key_that_no_query_wins_is_not_divided_by_zero():
    """One of two queries loses every key by so much that its weights underflow."""
    q = jnp.asarray([[0.0], [1000.0]]).reshape(1, 2, 1, 1)
    k = jnp.ones((1, M, 1, 1))
    got = attend(q, k, k, inverted=True)
    np.testing.assert_array_equal(got.ravel(), [0.0, 1.0])


@pytest.mark.parametrize("batch_of_q, batch_of_kv", [(1, B), (B, 1), (1, 1)])
def test_operands_of_batch_one_meet_every_example(float64, batch_of_q, batch_of_kv):
    q, k, v = draw_qkv()
    q, k, v = q[:batch_of_q], k[:batch_of_kv], v[:batch_of_kv]
    got = attend(q, k, v)
    assert len(got) == max(batch_of_q, batch_of_kv)
    whole = [jnp.broadcast_to(x, (B, *x.shape[1:])) for x in (q, k, v)]
    np.testing.assert_allclose(
        jnp.broadcast_to(got, (B, N, H * V)), by_formula(*whole, None, "zero"), atol=1e-14
    )


@pytest.mark.parametrize("inputs, inside", [("bfloat16", "float32"), ("float64", "float64")])
def test_the_softmax_runs_in_at_least_float32(float64, equations, inputs, inside):
    q, k, v = (x.astype(inputs) for x in draw_qkv())
    mask = draw_mask((B, 1, 1, M))
    jaxpr = jax.make_jaxpr(lambda *a: attend(*a, dropout_rate=0.5, key=jax.random.key(0)))(
        q, k, v, mask
    )
    softmax = [e for e in equations(jaxpr) if e.primitive.name in ("exp", "reduce_max", "div")]
    assert {"exp", "div"} <= {e.primitive.name for e in softmax}
    assert {var.aval.dtype.name for e in softmax for var in e.outvars} == {inside}
    assert [a.dtype.name for a in jaxpr.out_avals] == [inputs]


def test_bfloat16_loses_precision_in_operands_only():
    """Logits near 90 a fifth apart, which bfloat16 cannot tell apart."""
    maps = {}
    q = jnp.full((1, 1, 1, 2), 1.0, jnp.bfloat16)
    k = jnp.asarray([[128.0, 0.0], [128.0, 0.25]], jnp.bfloat16).reshape(1, 2, 1, 2)
    attend(q, k, k, tape=Tape(attention_maps=maps).at("layer"))
    want = jax.nn.softmax(jnp.asarray([128.0, 128.25]) / np.sqrt(2))
    np.testing.assert_allclose(maps["layer"].ravel(), want, rtol=1e-4)


def test_dropout_zeroes_its_fraction_of_the_weights_and_scales_the_rest():
    num_keys, rate = 400, 0.3
    q, k = jnp.zeros((1, 50, 1, 1)), jnp.zeros((1, num_keys, 1, 1))
    values = jnp.eye(num_keys)[None, :, None, :]
    weights = attend(q, k, values, dropout_rate=rate, key=jax.random.key(0))
    kept = weights[weights != 0]
    np.testing.assert_allclose(kept, 1 / num_keys / (1 - rate), rtol=1e-5)
    assert abs(1 - kept.size / weights.size - rate) < 0.01
    other = attend(q, k, values, dropout_rate=rate, key=jax.random.key(1))
    assert (weights != other).any()


def test_without_key_or_rate_there_is_no_dropout():
    q, k, v = draw_qkv()
    want = attend(q, k, v)
    np.testing.assert_array_equal(attend(q, k, v, dropout_rate=0.5), want)
    np.testing.assert_array_equal(attend(q, k, v, key=jax.random.key(0)), want)


def test_the_tape_gets_the_weights_before_dropout(float64):
    q, k, v = draw_qkv()
    mask = draw_mask((B, 1, N, M))
    maps = {}
    tape = Tape(attention_maps=maps).at("layer")
    attend(q, k, v, mask, dropout_rate=0.5, key=jax.random.key(0), tape=tape)
    weights = maps["layer"]
    assert weights.shape == (B, H, N, M)
    rows = jnp.broadcast_to(mask.any(-1), (B, H, N))
    np.testing.assert_allclose(weights.sum(-1), rows, atol=1e-14)
