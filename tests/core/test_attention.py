import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core.attention import MultiHeadAttention
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.dense import attend
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.tape import Tape
from perceiver_jax.core.tokens import Tokens

B, N, M, H, K, V = 2, 3, 5, 2, 4, 6


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def draw_mask(shape):
    """Random, with a row that forbids everything and one that allows everything."""
    if shape is None:
        return None
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[-1, -1, -1] = True
    mask[0, 0, 0] = False
    return jnp.asarray(mask)


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


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("out_bias", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2])
def test_answers_have_the_type_of_the_call_however_they_are_made(
    random_model, num_heads, out_bias, compute_dtype
):
    fields = {"num_heads": num_heads, "out_bias": out_bias, "compute_dtype": compute_dtype}
    attention = random_model(builder(**fields))
    queries, inputs = draw(B, N, 8), draw(B, M, 6)
    wanted = attention(queries, inputs)
    assert wanted.dtype == compute_dtype
    asked = attention.asked(inputs)
    assert asked.projected == (num_heads == 1)
    for answer in (
        attention.answer(queries, asked),
        attention.answer_tokens(Tokens(content=queries), None, asked),
    ):
        assert answer.dtype == compute_dtype
        np.testing.assert_allclose(*(np.asarray(x, float) for x in (answer, wanted)), atol=0.05)


def test_the_init_config_reaches_all_projections():
    attention = builder(init=InitConfig(method="normal", scale=0.0))()
    for layer in (attention.query, attention.key, attention.value, attention.output):
        np.testing.assert_array_equal(layer.kernel[...], 0.0)


@pytest.mark.parametrize("num_kv_heads", [1, 2])
def test_heads_that_share_keys_equal_heads_with_copies_of_them(
    float64, random_model, shapes, num_kv_heads
):
    few = builder(num_heads=4, num_kv_heads=num_kv_heads)
    assert shapes(few)["key/kernel"] == (6, 2 * num_kv_heads)
    attention, whole = random_model(few), random_model(builder(num_heads=4))
    for name in ("query", "output"):
        setattr(whole, name, getattr(attention, name))
    for name in ("key", "value"):
        for part in ("kernel", "bias"):
            x = getattr(getattr(attention, name), part)[...]
            copies = jnp.repeat(
                x.reshape(*x.shape[:-1], num_kv_heads, 2), 4 // num_kv_heads, axis=-2
            )
            getattr(getattr(whole, name), part)[...] = copies.reshape(*x.shape[:-1], 8)
    queries, inputs = draw(B, N, 8), draw(B, M, 6)
    mask = draw_mask((B, 1, N, M))
    wanted = whole(queries, inputs, mask)
    np.testing.assert_allclose(attention(queries, inputs, mask), wanted, rtol=1e-12)
    asked = attention.answer(queries, attention.asked(inputs), mask)
    np.testing.assert_allclose(asked, wanted, rtol=1e-12)


def test_heads_that_do_not_share_evenly_are_refused():
    with pytest.raises(ValueError, match="num_kv_heads=3 does not divide num_heads=4"):
        builder(num_heads=4, num_kv_heads=3)()


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("num_queries", [1, N], ids=["few queries", "more queries"])
def test_each_head_s_queries_and_keys_are_normed(float64, random_model, norm, num_queries):
    attention = random_model(builder(qk_norm=True, norm=norm))
    assert attention.query_norm.scale.shape == attention.key_norm.scale.shape == (4,)
    queries, inputs = draw(B, num_queries, 8), draw(B, M, 6)

    def heads(x):
        return x.reshape(*x.shape[:2], 2, 4)

    wanted = attention.output(
        attend(
            attention.query_norm(heads(attention.query(queries))),
            attention.key_norm(heads(attention.key(inputs))),
            heads(attention.value(inputs)),
        )
    )
    np.testing.assert_allclose(attention(queries, inputs), wanted, rtol=1e-12)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_normed_heads_keep_the_compute_dtype(random_model, norm):
    attention = random_model(builder(qk_norm=True, norm=norm, compute_dtype="bfloat16"))
    x = jnp.ones((1, 3, 8)), jnp.ones((1, 3, 6))
    arrays = (attention.queries(x[0]), *attention.keys_values(x[1]))
    assert {array.dtype for array in arrays} == {jnp.dtype("bfloat16")}
