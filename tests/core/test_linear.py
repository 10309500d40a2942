import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core.linear import InitConfig, LayerNorm, RMSNorm, linear, make_norm

FAN_IN, FAN_OUT = 400, 300
# Deviation of a unit normal truncated at 2. Kernels are rescaled by it, so that their own is the
# one asked for; tables are not (haiku's `VarianceScaling` and `TruncatedNormal`).
TRUNCATED = 0.87962566
TRUNCATED_AT = 2 / TRUNCATED


def draw(initial, shape):
    return np.asarray(initial(jax.random.key(0), shape, jnp.float32))


@pytest.mark.parametrize(
    "config, std, largest",
    [
        (InitConfig(), 0.02, None),
        (InitConfig(scale=0.1), 0.1, None),
        (InitConfig(method="variance_scaling"), FAN_IN**-0.5, TRUNCATED_AT * FAN_IN**-0.5),
        (
            InitConfig(method="variance_scaling", scale=4.0),
            2 * FAN_IN**-0.5,
            2 * TRUNCATED_AT * FAN_IN**-0.5,
        ),
        (InitConfig(method="uniform"), (3 * FAN_IN) ** -0.5, FAN_IN**-0.5),
    ],
)
def test_kernels_start_with_the_recipe_s_deviation_and_range(config, std, largest):
    kernel = draw(config.kernel(), (FAN_IN, FAN_OUT))
    assert abs(kernel.std() / std - 1) < 0.02
    assert abs(kernel.mean()) < 0.02 * std
    if largest is None:
        assert np.abs(kernel).max() > 3.5 * std
    else:
        assert 0.98 * largest < np.abs(kernel).max() <= largest * (1 + 1e-6)


def test_the_fan_in_of_a_convolution_counts_its_window():
    kernel = draw(InitConfig(method="uniform").kernel(), (5, 8, FAN_IN // 40, FAN_OUT))
    assert 0.98 * FAN_IN**-0.5 < np.abs(kernel).max() <= FAN_IN**-0.5 * (1 + 1e-6)


@pytest.mark.parametrize("method", ["normal", "variance_scaling"])
def test_biases_start_at_zero(method):
    np.testing.assert_array_equal(draw(InitConfig(method=method).bias(FAN_IN), (50,)), 0.0)


def test_uniform_biases_have_the_range_of_their_kernel():
    bias = draw(InitConfig(method="uniform").bias(FAN_IN), (5000,))
    assert 0.99 * FAN_IN**-0.5 < bias.max() <= FAN_IN**-0.5
    assert -(FAN_IN**-0.5) <= bias.min() < -0.99 * FAN_IN**-0.5


@pytest.mark.parametrize(
    "config, scale, std",
    [
        (InitConfig(), None, 0.02),
        (InitConfig(scale=0.1), None, 0.1),
        (InitConfig(scale=0.1), 0.3, 0.3),
        (InitConfig(method="variance_scaling"), None, 0.02),
        (InitConfig(method="variance_scaling", scale=9.0), None, 0.02),
        (InitConfig(method="variance_scaling"), 0.3, 0.3),
        (InitConfig(method="uniform"), None, 1.0),
        (InitConfig(method="uniform"), 0.02, 0.02),
    ],
)
def test_tables_start_with_the_recipe_s_deviation_unless_given_one(config, scale, std):
    table = draw(config.table(scale), (300, 300))
    is_truncated = config.method == "variance_scaling"
    assert abs(table.std() / std - (TRUNCATED if is_truncated else 1)) < 0.02
    assert (np.abs(table).max() <= 2 * std * (1 + 1e-6)) == is_truncated


def test_a_scale_of_the_uniform_recipe_is_refused():
    with pytest.raises(
        ValueError, match="init_scale=0.1 has no meaning with init_method='uniform'"
    ):
        InitConfig(method="uniform", scale=0.1)


def test_linear_is_x_times_kernel_plus_bias_in_the_type_of_its_operands(float64, random_model):
    layer = random_model(lambda: linear(3, 4, init=InitConfig(), rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(2, 5, 3))
    assert layer.kernel.shape == (3, 4)
    got = layer(jnp.asarray(x))
    assert got.dtype == jnp.float64
    want = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(got, want, atol=1e-14)


def test_bfloat16_is_a_choice_of_the_product_not_of_the_parameters(random_model):
    layer = random_model(
        lambda: linear(3, 4, init=InitConfig(), compute_dtype="bfloat16", rngs=nnx.Rngs(0))
    )
    assert layer(jnp.ones((2, 3))).dtype == jnp.bfloat16
    assert layer.kernel.dtype == layer.bias.dtype == jnp.float32


@pytest.mark.parametrize("implementation", ["auto", "plain"])
@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_layer_norm_is_the_formula_with_its_epsilon(float64, random_model, epsilon, implementation):
    norm = random_model(
        lambda: LayerNorm(6, epsilon=epsilon, implementation=implementation, rngs=nnx.Rngs(0))
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 6))
    centred = x - x.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    want = want * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])
    np.testing.assert_allclose(norm(jnp.asarray(x)), want, atol=1e-14)


@pytest.mark.parametrize("implementation", ["auto", "plain"])
def test_layer_norm_survives_a_mean_much_larger_than_the_deviation(implementation):
    x = 3000 + np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    norm = LayerNorm(64, epsilon=1e-5, implementation=implementation, rngs=nnx.Rngs(0))
    exact = x.astype(np.float64) - x.astype(np.float64).mean(-1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x)), exact, atol=2e-3)


@pytest.mark.parametrize("implementation", ["auto", "plain"])
def test_layer_norm_statistics_are_float32_for_bfloat16_inputs(equations, implementation):
    norm = LayerNorm(64, epsilon=1e-5, implementation=implementation, rngs=nnx.Rngs(0))
    jaxpr = jax.make_jaxpr(norm)(jnp.ones((4, 64), jnp.bfloat16))
    sums = [e for e in equations(jaxpr) if e.primitive.name == "reduce_sum"]
    assert sums
    assert {var.aval.dtype.name for e in sums for var in e.outvars} == {"float32"}


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_rms_norm_is_the_formula_with_its_epsilon(float64, random_model, epsilon):
    x = np.random.default_rng(0).normal(3.0, 2.0, (5, 7))
    norm = random_model(lambda: RMSNorm(7, epsilon=epsilon, rngs=nnx.Rngs(0)))
    wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * np.asarray(norm.scale[...])
    np.testing.assert_allclose(norm(jnp.asarray(x)), wanted, rtol=1e-12)


def test_rms_norm_statistics_are_float32_for_bfloat16_inputs(random_model):
    """Squares of which bfloat16 would lose the smaller ones."""
    norm = random_model(lambda: RMSNorm(4096, epsilon=1e-6, rngs=nnx.Rngs(0)))
    x = jnp.ones((1, 4096), jnp.bfloat16)
    wanted = np.asarray(norm.scale[...])
    np.testing.assert_allclose(np.asarray(norm(x), np.float32)[0], wanted, rtol=1e-2)


def test_the_kind_of_norm_is_a_choice():
    sizes = {"epsilon": 1e-5, "rngs": nnx.Rngs(0)}
    assert isinstance(make_norm("rms_norm", 4, **sizes), RMSNorm)
    assert isinstance(make_norm("layer_norm", 4, **sizes), LayerNorm)
