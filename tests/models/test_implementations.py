"""Whole models in every form of attention against the definition, `implementation="plain"`."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.core import attention, folded, self_attention, structured
from perceiver_jax.models import (
    ArrayEncoderConfig,
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    QueryDecoderConfig,
)

KEY = jax.random.key(0)
CLASSES = ClassificationDecoderConfig(
    num_classes=5, num_output_query_channels=8, num_cross_attention_heads=1
)
QUERIES = QueryDecoderConfig(num_output_query_channels=6, num_cross_attention_heads=2)
POOLED = MeanPoolDecoderConfig(num_classes=5)
REPEATED = {
    "num_cross_attention_layers": 4,
    "num_self_attention_blocks": 4,
    "first_cross_attention_layer_shared": True,
}


def image(decoder=CLASSES, **fields):
    return ImageEncoderConfig(image_shape=(16, 24, 3), num_frequency_bands=2, **fields), decoder


def array(num_axes, decoder=POOLED, **fields):
    encoder = ArrayEncoderConfig(
        num_input_channels=3, num_axes=num_axes, num_frequency_bands=2, **fields
    )
    return encoder, decoder


CASES = {
    "pixels": (image(), (16, 24)),
    "patches": (image(preprocessing="patches", patch_size=2), (16, 24)),
    "stem": (image(preprocessing="conv", num_preprocessing_channels=4), (16, 24)),
    "learned": (image(preprocessing="conv1x1", num_preprocessing_channels=4), (16, 24)),
    "repeated": (image(**REPEATED), (16, 24)),
    "inverted": (image(**REPEATED, inverted_cross_attention=(1,)), (16, 24)),
    "remat": (image(**REPEATED, remat=True), (16, 24)),
    "pooled": (image(POOLED, **REPEATED, qkv_bias=False), (16, 24)),
    "series": (array(1), (70,)),
    "plane": (array(2, max_frequency=10.0), (5, 20)),
    "volume": (array(3), (3, 4, 18)),
    "queries": (array(2, QUERIES), (5, 20)),
}


def config(halves, implementation, **fields):
    encoder, decoder = halves
    small = {
        "num_cross_attention_heads": 2,
        "num_cross_attention_qk_channels": 32,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 2,
        "implementation": implementation,
    }
    if not isinstance(decoder, MeanPoolDecoderConfig):
        decoder = dataclasses.replace(decoder, implementation=implementation)
    return PerceiverConfig(
        encoder=dataclasses.replace(encoder, **(small | fields)),
        decoder=decoder,
        num_latents=4,
        num_latent_channels=8,
    )


@contextlib.contextmanager
def every_form(monkeypatch):
    """Takes each form wherever it is possible, worthwhile or not."""
    with monkeypatch.context() as patched:
        patched.setattr(structured, "is_cheaper", lambda *_, **__: True)
        patched.setattr(folded, "is_cheaper", lambda *_, num_queries, **__: num_queries == 1)
        patched.setattr(attention, "worthwhile", lambda *_: True)
        patched.setattr(self_attention, "prefers_loop", lambda *_: True)
        yield


def inputs_of(grid, dtype=None):
    rng = np.random.default_rng(0)
    mask = rng.random((2, int(np.prod(grid)))) < 0.8
    return jnp.asarray(rng.normal(size=(2, *grid, 3)), dtype), jnp.asarray(mask)


def outputs(model, inputs, mask):
    """Predictions, and their gradients in parameters and inputs."""
    options = {}
    if isinstance(model.config.decoder, QueryDecoderConfig):
        queries = np.random.default_rng(1).normal(size=(2, 7, 6))
        options["queries"] = jnp.asarray(queries, inputs.dtype)

    def value(model, inputs):
        result = model(inputs, mask, **options)
        return jnp.sin(3 * result).sum(), result

    # The statistics of batch norms count steps in integers.
    gradients, result = jax.jit(jax.grad(value, (0, 1), has_aux=True, allow_int=True))(
        model, inputs
    )
    return [x for x in jax.tree.leaves((gradients, result)) if x.dtype == result.dtype]


@pytest.mark.parametrize("name", CASES)
def test_every_form_gives_results_and_gradients_of_the_definition(
    float64, random_model, monkeypatch, name
):
    halves, grid = CASES[name]
    inputs, mask = inputs_of(grid)
    mask = mask[:, : {"patches": 8 * 12, "stem": 4 * 6}.get(name)]
    plain = random_model(lambda: models.build(config(halves, "plain"), KEY))
    wanted = outputs(plain, inputs, mask)
    taken = []
    real = attention.attend_to_tokens
    monkeypatch.setattr(
        attention, "attend_to_tokens", lambda *a, **k: taken.append(1) or real(*a, **k)
    )
    with every_form(monkeypatch):
        auto = random_model(lambda: models.build(config(halves, "auto"), KEY))
        got = outputs(auto, inputs, mask)
        assert taken
    for a, b in zip(got, wanted, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("name", ["pixels", "stem", "learned", "patches", "pooled", "queries"])
def test_a_plain_model_can_be_differentiated_forwards(random_model, name):
    halves, grid = CASES[name]
    model = random_model(lambda: models.build(config(halves, "plain"), KEY))
    inputs, _ = inputs_of(grid, jnp.float32)
    options = {"queries": jnp.ones((2, 7, 6))} if name == "queries" else {}

    def predict(x):
        return model(x, **options)

    tangent = jax.jvp(predict, (inputs,), (jnp.ones_like(inputs),))[1]
    assert np.isfinite(tangent).all() and np.abs(tangent).max() > 0


@pytest.mark.parametrize("name", ["pixels", "repeated", "volume"])
def test_float32_is_within_5e_6_of_the_scale(random_model, monkeypatch, name):
    halves, grid = CASES[name]
    inputs, mask = inputs_of(grid, jnp.float32)

    def predictions(implementation):
        model = random_model(lambda: models.build(config(halves, implementation), KEY))
        return jax.jit(lambda model, inputs: model(inputs, mask))(model, inputs)

    wanted = predictions("plain")
    with every_form(monkeypatch):
        got = predictions("auto")
    np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-6 * np.abs(wanted).max())


def test_bfloat16_is_within_its_own_rounding(random_model, monkeypatch):
    halves, grid = CASES["pixels"]
    inputs, mask = inputs_of(grid, jnp.float32)

    def predictions(implementation, compute_dtype):
        fields = {"implementation": implementation, "compute_dtype": compute_dtype}
        model = random_model(lambda: models.build(config(halves, **fields), KEY))
        return np.asarray(model(inputs, mask), np.float64)

    exact = predictions("plain", "float32")
    rounding = np.abs(predictions("plain", "bfloat16") - exact).max()
    with every_form(monkeypatch):
        difference = np.abs(predictions("auto", "bfloat16") - exact).max()
    assert 0 < difference < 2 * rounding


@pytest.mark.parametrize("taken, dropout, input_dropout", [(False, 0.1, 0.0), (True, 0.0, 0.1)])
def test_dropout_of_weights_takes_the_dense_form_and_other_dropout_does_not(
    random_model, monkeypatch, taken, dropout, input_dropout
):
    halves, grid = CASES["pixels"]
    fields = {"dropout": dropout, "input_dropout": input_dropout, "residual_dropout": 0.1}
    model = random_model(lambda: models.build(config(halves, "auto", **fields), KEY))
    calls = []
    real = attention.attend_to_tokens
    monkeypatch.setattr(
        attention, "attend_to_tokens", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    inputs, _ = inputs_of(grid, jnp.float32)
    with every_form(monkeypatch):
        assert np.isfinite(model(inputs, key=KEY)).all()
    assert bool(calls) is taken


def test_several_devices_compute_what_one_does(on_eight_devices):
    code = """
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec
        from perceiver_jax import models, params
        from perceiver_jax.core import structured
        from perceiver_jax.train import parallel
        from perceiver_jax.train.parallel import ParallelConfig
        from tests.models.test_implementations import CASES, config

        jax.config.update("jax_enable_x64", True)
        structured.is_cheaper = lambda *_, **__: True
        mesh = parallel.make_mesh(ParallelConfig())
        images = np.random.default_rng(0).normal(size=(8, 16, 24, 3))

        def gradient(model, images):
            return jax.grad(lambda model: jnp.sin(model(images)).sum())(model)

        def made(implementation):
            skeleton = models.skeleton(config(CASES["repeated"][0], implementation))
            rng = np.random.default_rng(1)
            return skeleton.bind({k: jnp.asarray(rng.normal(size=x.shape) / 4)
                                  for k, x in skeleton.params.items()})

        wanted = jax.jit(gradient)(made("plain"), images)
        divided = jax.device_put(images, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
        assert divided.addressable_shards[0].data.shape[0] == 1
        model = jax.device_put(made("auto"), NamedSharding(mesh, PartitionSpec()))
        compiled = jax.jit(gradient).lower(model, divided).compile()
        got = compiled(model, divided)
        print(max(float(jnp.abs(np.asarray(a) - np.asarray(b)).max())
                  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)))
    """
    assert float(on_eight_devices(code).splitlines()[-1]) < 1e-10
