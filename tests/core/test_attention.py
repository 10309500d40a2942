import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core.attention import AttentionConfig, MultiHeadAttention, attend
from perceiver_jax.core.linear import InitConfig
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


def test_queries_of_batch_one_are_projected_once_and_never_repeated(random_model, equations):
    attention = random_model(builder())
    jaxpr = jax.make_jaxpr(lambda m, q, x: m(q, x))(attention, draw(1, N, 8), draw(7, M, 6))
    shapes = [var.aval.shape for e in equations(jaxpr) for var in e.outvars]
    # Queries, before or after the heads are split, have N rows of 8 or of 4 channels each. The
    # attended values have them too, but only after the softmax.
    names = [e.primitive.name for e in equations(jaxpr)]
    before_softmax = shapes[: names.index("exp")]
    assert (1, N, 8) in before_softmax
    repeated = [s for s in before_softmax if 7 in s and N in s and s[-1] in (4, 8)]
    assert not repeated


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


def builder(**fields):
    config = AttentionConfig(**({"num_heads": 2} | fields))
    return lambda: MultiHeadAttention(
        config, num_query_channels=8, num_input_channels=6, rngs=nnx.Rngs(0)
    )


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_heads_are_consecutive_channels_of_the_projections(float64, random_model, num_heads):
    fields = {"num_qk_channels": 12, "num_v_channels": 4, "num_output_channels": 5}
    attention = random_model(builder(num_heads=num_heads, **fields))
    queries, inputs, mask = draw(B, N, 8), draw(B, M, 6), draw_mask((B, 1, 1, M))
    got = attention(queries, inputs, mask)

    def project(layer, x):
        return np.asarray(x) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])

    heads = [
        np.split(project(layer, x), num_heads, axis=-1)
        for layer, x in (
            (attention.query, queries),
            (attention.key, inputs),
            (attention.value, inputs),
        )
    ]
    each = [attend(*(x[:, :, None] for x in head), mask) for head in zip(*heads, strict=True)]
    np.testing.assert_allclose(got, project(attention.output, np.concatenate(each, -1)), atol=1e-12)


@pytest.mark.parametrize(
    "field, path",
    [
        ("q_bias", "query/bias"),
        ("k_bias", "key/bias"),
        ("v_bias", "value/bias"),
        ("out_bias", "output/bias"),
    ],
)
def test_each_bias_field_removes_its_bias(shapes, field, path):
    everything = set(shapes(builder()))
    assert len(everything) == 8
    assert everything - set(shapes(builder(**{field: False}))) == {path}


@pytest.mark.parametrize(
    "fields, qk, v, output",
    [
        ({}, 8, 8, 8),
        ({"num_qk_channels": 4}, 4, 4, 8),
        ({"num_qk_channels": 4, "num_v_channels": 10}, 4, 10, 8),
        ({"num_v_channels": 6, "num_output_channels": 3}, 8, 6, 3),
    ],
)
def test_channels_default_from_queries_to_qk_to_v(shapes, fields, qk, v, output):
    found = shapes(builder(**fields))
    assert {path: shape for path, shape in found.items() if path.endswith("kernel")} == {
        "query/kernel": (8, qk),
        "key/kernel": (6, qk),
        "value/kernel": (6, v),
        "output/kernel": (v, output),
    }


@pytest.mark.parametrize("name", ["num_qk_channels", "num_v_channels"])
def test_channels_that_heads_do_not_divide_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}=9 cannot be split over num_heads=2; choose"):
        builder(**{"num_qk_channels": 8, "num_v_channels": 8, name: 9})()


def test_query_mask_zeroes_the_result_before_the_output_projection(random_model, call):
    attention = random_model(builder())
    queries, inputs = draw(B, N, 8), draw(B, M, 6)
    query_mask = np.asarray([[True, False, True], [False, True, True]])
    got = np.asarray(call(attention, queries, inputs, query_mask=query_mask))
    whole = np.asarray(call(attention, queries, inputs))
    np.testing.assert_allclose(got[query_mask], whole[query_mask], rtol=1e-5)
    bias = np.asarray(attention.output.bias[...])
    np.testing.assert_array_equal(got[~query_mask], [bias, bias])


def test_each_call_says_whether_it_is_inverted(float64, random_model):
    attention = random_model(builder())
    queries, inputs, maps = draw(B, N, 8), draw(B, M, 6), {}
    for inverted in (False, True):
        tape = Tape(attention_maps=maps).at(str(inverted))
        attention(queries, inputs, inverted=inverted, tape=tape)
    assert not np.allclose(maps["True"], maps["False"])
    np.testing.assert_allclose(maps["True"].sum(-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
def test_the_config_says_what_a_fully_masked_query_gets(random_model, call, masked_rows):
    attention = random_model(builder(masked_rows=masked_rows))
    queries, inputs = draw(1, 1, 8), draw(1, M, 6)
    got = call(attention, queries, inputs, jnp.zeros((1, 1, 1, M), bool))[0, 0]
    if masked_rows == "zero":
        want = attention.output.bias[...]
    else:
        want = attention.output(attention.value(inputs)[0].mean(0))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_config_s_dropout_needs_a_key(random_model, call):
    queries, inputs, key = draw(B, N, 8), draw(B, M, 6), jax.random.key(0)
    attention, dropping = (random_model(builder(dropout=rate)) for rate in (0.0, 0.5))
    plain = call(attention, queries, inputs)
    np.testing.assert_array_equal(call(dropping, queries, inputs), plain)
    np.testing.assert_array_equal(call(attention, queries, inputs, key=key), plain)
    assert (call(dropping, queries, inputs, key=key) != plain).any()


def test_compute_dtype_is_that_of_all_products_but_not_of_parameters(random_model, equations):
    attention = random_model(builder(compute_dtype="bfloat16"))
    jaxpr = jax.make_jaxpr(lambda m, q, x: m(q, x))(attention, draw(B, N, 8), draw(B, M, 6))
    products = [e for e in equations(jaxpr) if e.primitive.name == "dot_general"]
    assert len(products) == 6
    assert {var.aval.dtype.name for e in products for var in e.invars} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves(attention)} == {"float32"}


def test_the_init_config_reaches_all_projections():
    attention = builder(init=InitConfig(method="normal", scale=0.0))()
    for layer in (attention.query, attention.key, attention.value, attention.output):
        np.testing.assert_array_equal(layer.kernel[...], 0.0)
