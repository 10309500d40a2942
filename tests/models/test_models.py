import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models, params
from perceiver_jax.config import ConfigError
from perceiver_jax.models import (
    ImageClassifier,
    MeanPoolDecoderConfig,
    PerceiverConfig,
    PooledImageClassifier,
)

KEY = jax.random.key(0)
POOLED = MeanPoolDecoderConfig(num_classes=5)


def test_the_decoder_decides_which_model_is_built(tiny_config):
    assert isinstance(models.build(tiny_config(), KEY), ImageClassifier)
    assert isinstance(models.build(tiny_config(POOLED), KEY), PooledImageClassifier)


def test_halves_that_no_model_has_are_refused_with_those_that_are(tiny_config):
    config = PerceiverConfig(
        encoder=tiny_config().encoder,
        decoder=models.QueryDecoderConfig(num_output_query_channels=8),
        num_latents=4,
        num_latent_channels=8,
    )
    message = "no model has ImageEncoderConfig . QueryDecoderConfig; .* . MeanPoolDecoderConfig"
    with pytest.raises(ValueError, match=message):
        models.build(config, KEY)


@pytest.mark.parametrize("config", ["mnist", None, POOLED])
def test_what_is_no_config_of_a_model_is_refused(config):
    with pytest.raises(ValueError, match="is no config of a model; give a PerceiverConfig, a Cau"):
        models.build(config, KEY)


def test_the_key_decides_the_initial_values_and_nothing_else(tiny_config):
    init = jax.jit(lambda key: params.flatten(models.build(tiny_config(), key))[0])
    one, same, other = init(KEY), init(KEY), init(jax.random.key(1))
    assert set(one) == set(other)
    for path, value in one.items():
        np.testing.assert_array_equal(value, same[path])
    assert (one["encoder/latents"] != other["encoder/latents"]).all()


def test_initial_values_are_those_that_flax_draws_from_the_key(tiny_config):
    config = tiny_config(preprocessing="conv", num_preprocessing_channels=3, init_method="uniform")
    ours = jax.jit(lambda: params.flatten(models.build(config, KEY))[0])()
    flax = jax.jit(lambda: params.flatten(ImageClassifier(config, rngs=nnx.Rngs(KEY)))[0])()
    assert list(ours) == list(flax)
    for path, value in ours.items():
        np.testing.assert_array_equal(value, flax[path], err_msg=path)


def test_the_work_of_a_skeleton_is_proportional_to_the_number_of_layers(tiny_config):
    def num_calls(num_layers):
        calls = 0

        def count(*_):
            nonlocal calls
            calls += 1

        config = tiny_config(num_self_attention_layers_per_block=num_layers)
        sys.setprofile(count)
        try:
            models.skeleton(config)
        finally:
            sys.setprofile(None)
        return calls

    num_calls(1)
    one, three, five = num_calls(4), num_calls(12), num_calls(20)
    assert five - three == pytest.approx(three - one, rel=0.1)


def test_the_skeleton_is_that_of_the_built_model(tiny_config):
    config = tiny_config(preprocessing="conv", num_preprocessing_channels=3)
    skeleton = models.skeleton(config)
    for shapes, arrays in zip(
        (skeleton.params, skeleton.stats), params.flatten(models.build(config, KEY)), strict=True
    ):
        assert arrays
        assert {path: (x.shape, x.dtype) for path, x in shapes.items()} == {
            path: (x.shape, x.dtype) for path, x in arrays.items()
        }


def test_the_skeleton_of_a_config_that_cannot_be_built_names_the_config(tiny_config):
    with pytest.raises(ConfigError, match="config.model: .*num_qk_channels=.*num_heads=3"):
        models.skeleton(tiny_config(num_self_attention_heads=3))


PREPROCESSING = [
    {},
    {"init_method": "uniform"},
    {"preprocessing": "patches", "patch_size": 4, "num_preprocessing_channels": 3},
    {"preprocessing": "conv", "num_preprocessing_channels": 3, "init_method": "variance_scaling"},
    {
        "preprocessing": "conv1x1",
        "num_preprocessing_channels": 3,
        "num_position_channels": 4,
    },
]


@pytest.mark.parametrize("fields", PREPROCESSING)
def test_parameters_are_strongly_typed_float32(tiny_config, fields):
    """A weakly typed parameter has a training step traced again after the first update."""
    trained, stats = jax.jit(
        lambda: params.flatten(models.build(tiny_config(POOLED, **fields), KEY))
    )()
    assert trained
    for path, value in trained.items():
        assert value.dtype == jnp.float32 and not value.weak_type, path
    for path, value in stats.items():
        assert value.dtype == (jnp.int32 if path.endswith("count") else jnp.float32), path
        assert not value.weak_type, path


def constants(jaxpr, equations):
    """Elements of all arrays that a program holds as constants, inner programs included."""
    sizes = [np.size(c) for c in jaxpr.consts]
    for equation in equations(jaxpr):
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "consts")
        ):
            sizes += [np.size(c) for c in getattr(inner, "consts", ())]
        sizes += [np.size(v.val) for v in equation.invars if hasattr(v, "val")]
    return sum(sizes)


@pytest.mark.parametrize("fields", PREPROCESSING)
def test_no_program_holds_more_than_one_table_per_axis(
    random_model, equations, tiny_config, fields
):
    size, num_bands = 64, 16
    config = tiny_config(image_shape=(size, size, 1), num_frequency_bands=num_bands, **fields)
    model = random_model(lambda: models.build(config, KEY))
    jaxpr = jax.make_jaxpr(lambda m, x: m(x))(model, jnp.zeros((1, size, size, 1)))
    found = constants(jaxpr, equations)
    # Beside the tables: indices of channels, and zeros and ones.
    assert found <= 2 * size * (1 + 2 * num_bands) + 500
    if not fields:
        assert found >= 2 * size * (1 + 2 * num_bands)


def test_equal_configs_make_models_that_share_a_compiled_program(tiny_config, random_model):
    for fields in PREPROCESSING:
        one, other = (
            jax.tree.structure(random_model(lambda: models.build(tiny_config(**fields), KEY)))  # noqa: B023
            for _ in range(2)
        )
        assert one == other


@pytest.mark.parametrize("key", [0, nnx.Rngs(0)])
def test_a_model_is_built_with_a_random_key(tiny_config, key):
    with pytest.raises(ValueError, match=r"no random key; give jax.random.key\(0\)"):
        models.build(tiny_config(), key)


def test_heads_that_do_not_divide_are_said_to_be_of_a_part(tiny_config):
    config = tiny_config()
    encoder = dataclasses.replace(config.encoder, num_self_attention_heads=7)
    with pytest.raises(ValueError, match="self-attention of the encoder: num_qk_channels"):
        models.build(dataclasses.replace(config, encoder=encoder), KEY)
    decoder = dataclasses.replace(config.decoder, num_cross_attention_heads=7)
    with pytest.raises(ValueError, match="cross-attention of the decoder: num_qk_channels"):
        models.build(dataclasses.replace(config, decoder=decoder), KEY)
