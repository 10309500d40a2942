import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core.initial_queries import InitialQueries
from perceiver_jax.core.perceiver_ar_config import PerceiverARConfig


@pytest.fixture
def make(float64, random_model):
    def make(**fields):
        sizes = {"num_channels": 4, "num_heads": 2, "max_latents": 5, "num_input_channels": 6}
        config = PerceiverARConfig(**(sizes | {"cross_attention_keys": "inputs"} | fields))
        return random_model(lambda: InitialQueries(config, rngs=nnx.Rngs(0)))

    return make


@pytest.fixture
def content():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6)))


def affine(layer, x):
    return x @ layer.kernel[...] + layer.bias[...][None, None]


def test_inputs_are_latents(make, content):
    make = make(initial_queries="inputs", num_input_channels=4)
    assert make(content) is content and not jax.tree.leaves(nnx.state(make))


def test_linear(make, content):
    queries = make(initial_queries="linear")
    np.testing.assert_allclose(queries(content), affine(queries.linear, content))


def test_mlp_follows_the_linear_layer(make, content):
    queries = make(initial_queries="mlp", num_query_mlp_layers=2)
    wanted = affine(queries.linear, content)
    for layer in queries.layer:
        wanted = np.maximum(affine(layer, wanted), 0.0) ** 2
    np.testing.assert_allclose(queries(content), wanted)
    assert len(queries.layer) == 2


def test_learned_queries_are_those_of_the_last_positions(make, content):
    queries = make(initial_queries="learned")
    assert queries.queries.shape == (5, 4)
    np.testing.assert_array_equal(queries(content), jnp.stack([queries.queries[2:]] * 2))


def test_a_shared_query_is_that_of_every_position(make, content):
    queries = make(initial_queries="learned_shared")
    assert queries.queries.shape == (1, 4)
    assert (queries(content) == queries.queries[...][None]).all()


def test_several_latents_of_a_position_differ_by_an_embedding(make, content):
    queries = make(initial_queries="linear", num_latents_per_position=2)
    got, once = queries(content), affine(queries.linear, content)
    assert got.shape == (2, 6, 4)
    for i in range(2):
        np.testing.assert_allclose(got[:, i::2], once + queries.latent_embedding[i][None, None])
