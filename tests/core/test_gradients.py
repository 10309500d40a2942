import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core import gradients
from perceiver_jax.core.linear import InitConfig, LayerNorm, linear
from perceiver_jax.core.mlp import activate

DIMENSIONS = (((2,), (0,)), ((), ()))


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def loss(product):
    return lambda x, kernel: jnp.sin(product(x, kernel, DIMENSIONS)).sum()


@pytest.mark.parametrize("num_out", [2, 5])
def test_the_gradient_is_jax_s_own(float64, num_out):
    x, kernel = draw(2, 3, 4), draw(4, num_out)
    wanted = jax.grad(loss(jax.lax.dot_general), (0, 1))(x, kernel)
    for transform in (lambda f: f, jax.jit, jax.checkpoint):
        got = jax.grad(transform(loss(gradients.project)), (0, 1))(x, kernel)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_gradients_of_each_example(float64):
    x, kernel = draw(6, 2, 3, 4), draw(4, 5)

    def each(product):
        return jax.vmap(jax.grad(loss(product), 1), (0, None))(x, kernel)

    np.testing.assert_allclose(each(gradients.project), each(jax.lax.dot_general), rtol=1e-12)


@pytest.mark.parametrize("epsilon", [1e-5, 0.5])
def test_the_gradient_of_a_layer_norm_is_jax_s_own(float64, random_model, epsilon):
    def norm(implementation):
        return random_model(
            lambda: LayerNorm(6, epsilon=epsilon, implementation=implementation, rngs=nnx.Rngs(0))
        )

    def gradient(norm, x):
        return jax.grad(lambda norm, x: jnp.sin(norm(x)).sum(), (0, 1))(norm, x)

    x = draw(2, 3, 6)
    assert_close(gradient(norm("auto"), x), gradient(norm("plain"), x))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "geglu"])
def test_the_gradient_of_a_gelu_is_jax_s_own(float64, activation):
    def gradient(implementation):
        return jax.grad(lambda x: jnp.sin(activate(x, activation, implementation)).sum())

    x = 5 * draw(40, 6)
    assert_close(gradient("auto")(x), gradient("plain")(x))


def assert_close(got, wanted):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


def test_what_a_layer_norm_and_a_gelu_keep_is_their_input():
    norm = LayerNorm(6, epsilon=1e-5, implementation="auto", rngs=nnx.Rngs(0))
    for function in (norm, lambda x: activate(x, "gelu", "auto")):
        _, backward = jax.vjp(function, jnp.ones((4, 6)))
        kept = [leaf for leaf in jax.tree.leaves(backward) if leaf.shape == (4, 6)]
        assert len(kept) == 1


def kernel_gradient_operands(product, equations, num_out=5):
    """Which argument stands left in the product that makes the gradient of the kernel."""
    x, kernel = jnp.zeros((2, 3, 4)), jnp.zeros((4, num_out))
    jaxpr = jax.make_jaxpr(jax.grad(lambda k: product(x, k, DIMENSIONS).sum()))(kernel)
    (shapes,) = [
        tuple(v.aval.shape for v in e.invars)
        for e in equations(jaxpr)
        if e.primitive.name == "dot_general"
        and e.outvars[0].aval.shape in ((4, num_out), (num_out, 4))
    ]
    return shapes[0]


def test_on_cpu_the_inputs_stand_left_unless_they_are_wider(equations):
    assert jax.default_backend() == "cpu"
    assert kernel_gradient_operands(gradients.project, equations) == (2, 3, 4)
    assert kernel_gradient_operands(gradients.project, equations, num_out=2) == (2, 3, 2)
    assert kernel_gradient_operands(jax.lax.dot_general, equations) == (2, 3, 5)


def test_elsewhere_it_is_jax_s_product(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = jnp.ones((2, 3, 4)), jnp.ones((4, 5))
    jaxpr = str(jax.make_jaxpr(lambda x, k: gradients.project(x, k, DIMENSIONS))(x, kernel))
    assert "custom_vjp" not in jaxpr
    assert not loops(jnp.zeros(100), 10)


def loops(x, num_parameters):
    found = []
    jax.make_jaxpr(lambda x: found.append(gradients.prefers_loop(x, num_parameters)))(x)
    return found[0]


def test_compiled_code_loops_where_activations_outnumber_parameters():
    assert loops(jnp.zeros(100), 10) and not loops(jnp.zeros(10), 100)
    assert not gradients.prefers_loop(jnp.zeros(100), 10)


def test_the_plain_implementation_can_be_differentiated_forwards(random_model):
    def tangent(implementation):
        layer = random_model(
            lambda: linear(4, 5, init=InitConfig(), implementation=implementation, rngs=nnx.Rngs(0))
        )
        return jax.jvp(layer, (jnp.ones((1, 4)),), (jnp.ones((1, 4)),))[1]

    assert tangent("plain").shape == (1, 5)
    with pytest.raises(TypeError, match="forward-mode"):
        tangent("auto")
