import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.mlp import MLP, MLPConfig, activate

X = np.linspace(-4.0, 4.0, 82)


def erf_gelu(x):
    return np.asarray([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


@pytest.mark.parametrize(
    "activation, formula",
    [
        ("gelu", erf_gelu),
        (
            "gelu_tanh",
            lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        ),
        ("relu", lambda x: np.where(x > 0, x, 0.0)),
        ("squared_relu", lambda x: np.where(x > 0, x, 0.0) ** 2),
        # The first half are values, the second half gates.
        ("geglu", lambda x: x[:41] * erf_gelu(x[41:])),
        ("swiglu", lambda x: x[:41] * x[41:] / (1 + np.exp(-x[41:]))),
    ],
)
def test_activations_are_their_formulas(float64, activation, formula):
    np.testing.assert_allclose(activate(jnp.asarray(X), activation), formula(X), atol=1e-14)


def test_the_two_gelus_are_told_apart(float64):
    difference = jnp.abs(activate(jnp.asarray(X), "gelu") - activate(jnp.asarray(X), "gelu_tanh"))
    assert 1e-4 < difference.max() < 1e-3


def builder(**fields):
    return lambda: MLP(MLPConfig(**fields), num_channels=4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("widening_factor", [1, 3])
@pytest.mark.parametrize("activation", ["gelu", "geglu"])
def test_the_hidden_layer_is_widened_and_doubled_for_gates(shapes, widening_factor, activation):
    found = shapes(builder(widening_factor=widening_factor, activation=activation))
    gates = 2 if activation == "geglu" else 1
    assert found == {
        "hidden/kernel": (4, gates * widening_factor * 4),
        "hidden/bias": (gates * widening_factor * 4,),
        "output/kernel": (widening_factor * 4, 4),
        "output/bias": (4,),
    }


def test_without_bias_there_are_only_kernels(shapes):
    assert set(shapes(builder(bias=False))) == {"hidden/kernel", "output/kernel"}


@pytest.mark.parametrize("activation", ["gelu", "geglu", "squared_relu"])
def test_the_mlp_is_linear_activation_linear(float64, random_model, activation):
    mlp = random_model(builder(widening_factor=2, activation=activation))
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    hidden = x @ np.asarray(mlp.hidden.kernel[...]) + np.asarray(mlp.hidden.bias[...])
    active = np.asarray(activate(jnp.asarray(hidden), activation))
    want = active @ np.asarray(mlp.output.kernel[...]) + np.asarray(mlp.output.bias[...])
    np.testing.assert_allclose(mlp(jnp.asarray(x)), want, atol=1e-14)


def test_the_compute_dtype_is_that_of_both_products(random_model, equations):
    mlp = random_model(builder(compute_dtype="bfloat16"))
    jaxpr = jax.make_jaxpr(lambda m, x: m(x))(mlp, jnp.zeros((2, 4)))
    products = [e for e in equations(jaxpr) if e.primitive.name == "dot_general"]
    assert len(products) == 2
    assert {var.aval.dtype.name for e in products for var in e.invars} == {"bfloat16"}


def test_the_init_config_reaches_both_layers():
    mlp = builder(init=InitConfig(method="normal", scale=0.0))()
    np.testing.assert_array_equal(mlp.hidden.kernel[...], 0.0)
    np.testing.assert_array_equal(mlp.output.kernel[...], 0.0)


def test_hidden_and_output_channels_may_be_any(float64, random_model, shapes):
    def build():
        config = MLPConfig(num_hidden_channels=5, activation="swiglu", widening_factor=3)
        return MLP(config, num_channels=4, num_output_channels=7, rngs=nnx.Rngs(0))

    found = shapes(build)
    assert found["hidden/kernel"] == (4, 10) and found["output/kernel"] == (5, 7)
    assert random_model(build)(jnp.ones((2, 4))).shape == (2, 7)
