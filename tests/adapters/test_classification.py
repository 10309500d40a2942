import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import ClassificationOutputAdapter
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.tokens import Tokens

TOKENS = Tokens(content=jnp.zeros((2, 3, 4)))


def builder(**fields):
    options = {"num_classes": 5, "num_output_query_channels": 6} | fields
    return lambda: ClassificationOutputAdapter(**options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("num_output_queries", [1, 3])
def test_trainable_queries_are_a_parameter(random_model, shapes, num_output_queries):
    build = builder(num_output_queries=num_output_queries)
    assert shapes(build)["queries"] == (num_output_queries, 6)
    adapter = random_model(build)
    assert adapter.num_output_query_channels == 6
    np.testing.assert_array_equal(adapter.make_queries(TOKENS), adapter.queries[...])


def test_zero_queries_are_a_constant_and_no_parameter(random_model, shapes):
    build = builder(output_queries="zeros", num_output_queries=2)
    assert set(shapes(build)) == {"linear/kernel", "linear/bias"}
    np.testing.assert_array_equal(random_model(build).make_queries(TOKENS), np.zeros((2, 6)))


@pytest.mark.parametrize(
    "content, queries", [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_zero_queries_start_a_skip_of_at_least_float32(float64, random_model, content, queries):
    tokens = Tokens(content=jnp.zeros((2, 3, 4), content))
    adapter = random_model(builder(output_queries="zeros"))
    assert adapter.make_queries(tokens).dtype == queries


def test_given_queries_are_asked_for_with_their_shape(random_model, shapes):
    build = builder(output_queries="given", num_output_queries=2)
    assert set(shapes(build)) == {"linear/kernel", "linear/bias"}
    with pytest.raises(ValueError, match=r"pass queries=\[2, 6\] or \[B, 2, 6\] at the call"):
        random_model(build).make_queries(TOKENS)


def test_answers_become_logits_by_a_linear_layer(float64, random_model):
    adapter = random_model(builder(num_output_queries=3))
    answers = np.random.default_rng(0).normal(size=(2, 3, 6))
    want = answers @ np.asarray(adapter.linear.kernel[...]) + np.asarray(adapter.linear.bias[...])
    np.testing.assert_allclose(adapter(jnp.asarray(answers)), want, rtol=1e-12)
    np.testing.assert_allclose(adapter(jnp.asarray(answers[:, :1])), want[:, 0], rtol=1e-12)


def test_the_init_config_is_that_of_queries_and_kernel():
    adapter = builder(init=InitConfig(method="normal", scale=0.0))()
    np.testing.assert_array_equal(adapter.queries[...], 0.0)
    np.testing.assert_array_equal(adapter.linear.kernel[...], 0.0)


def test_logits_are_float32_beside_answers_in_bfloat16(random_model):
    adapter = random_model(builder())
    assert adapter(jnp.zeros((2, 1, 6), jnp.bfloat16)).dtype == jnp.float32
    assert adapter.make_queries(TOKENS).dtype == jnp.float32
