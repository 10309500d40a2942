import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import GivenQueriesOutputAdapter
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.tokens import Tokens

ANSWERS = np.random.default_rng(0).normal(size=(2, 3, 6))


def builder(**fields):
    return lambda: GivenQueriesOutputAdapter(
        num_output_query_channels=6, rngs=nnx.Rngs(0), **fields
    )


def test_answers_go_through_a_linear_layer(float64, random_model):
    adapter = random_model(builder(num_outputs=5))
    assert adapter.num_output_query_channels == 6
    want = ANSWERS @ np.asarray(adapter.linear.kernel[...]) + np.asarray(adapter.linear.bias[...])
    np.testing.assert_allclose(adapter(jnp.asarray(ANSWERS)), want, rtol=1e-12)


def test_without_a_number_of_outputs_answers_are_handed_out_as_they_are(shapes):
    assert shapes(builder()) == {}
    np.testing.assert_array_equal(builder()()(ANSWERS), ANSWERS)


def test_queries_are_asked_for_with_their_channels():
    with pytest.raises(ValueError, match=r"pass queries=\[O, 6\] or \[B, O, 6\] at the call, or"):
        builder()().make_queries(Tokens(content=jnp.zeros((2, 3, 4))))


def test_the_init_config_is_that_of_the_kernel():
    adapter = builder(num_outputs=5, init=InitConfig(method="normal", scale=0.0))()
    np.testing.assert_array_equal(adapter.linear.kernel[...], 0.0)
