import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import PointCloudConfig, PointCloudInputAdapter
from perceiver_jax.core.position import fourier_features
from perceiver_jax.models import ClassificationDecoderConfig, Classifier, PerceiverConfig

CONFIG = PerceiverConfig(
    encoder=PointCloudConfig(
        num_channels=6,
        num_frequency_bands=3,
        max_resolution=8.0,
        num_cross_attention_heads=1,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=1,
        init_method="variance_scaling",
        latent_init_scale=1.0,
    ),
    decoder=ClassificationDecoderConfig(
        num_classes=4,
        num_output_query_channels=16,
        num_cross_attention_heads=1,
        init_method="variance_scaling",
    ),
    num_latents=4,
    num_latent_channels=16,
)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("num_channels", [3, 4, 6])
def test_a_point_is_its_other_channels_and_the_features_of_its_coordinates(num_channels):
    adapter = PointCloudInputAdapter(
        num_channels=num_channels, num_frequency_bands=5, max_resolution=20.0
    )
    clouds = draw(2, 7, num_channels)
    dense = np.asarray(adapter(clouds).dense())
    assert dense.shape == (2, 7, adapter.num_input_channels)
    np.testing.assert_array_equal(dense[..., : num_channels - 3], clouds[..., 3:])
    want = fourier_features(clouds[..., :3], num_bands=5, max_resolution=(20.0,) * 3)
    np.testing.assert_allclose(dense[..., num_channels - 3 :], want, atol=1e-5)


def test_the_paper_makes_387_channels_of_a_point():
    adapter = PointCloudConfig().input_adapter(rngs=nnx.Rngs(0))
    assert adapter.num_input_channels == 3 * (1 + 2 * 64)
    assert adapter(draw(1, 5, 3)).dense().shape == (1, 5, 387)


def test_positions_of_bfloat16_clouds_are_in_float32():
    adapter = PointCloudInputAdapter(num_channels=4, num_frequency_bands=2, max_resolution=4.0)
    assert adapter(jnp.zeros((1, 2, 4), jnp.bfloat16)).dense().dtype == jnp.float32


def test_a_model_does_not_care_for_order_nor_for_what_the_mask_hides():
    model = Classifier(CONFIG, rngs=nnx.Rngs(0))
    cloud = draw(1, 9, 6)
    want = model(cloud)
    assert want.shape == (1, 4)
    np.testing.assert_allclose(model(cloud[:, ::-1]), want, atol=1e-5)
    padded = np.concatenate([cloud, draw(1, 3, 6, seed=1)], axis=1)
    mask = np.arange(12)[None] < 9
    np.testing.assert_allclose(model(padded, mask), want, atol=1e-5)
    assert np.abs(model(padded) - want).max() > 1e-4


def test_points_beyond_the_cube_are_told_where_there_are_points():
    model = Classifier(CONFIG, rngs=nnx.Rngs(0))
    cloud = draw(1, 9, 6)
    cloud[0, 4, 1], cloud[0, 5, 4] = 20.0, 90.0
    with pytest.warns(UserWarning, match="coordinates go from .* to 20, where -1 to 1 is expected"):
        model(cloud)
    model(cloud, np.arange(9)[None] < 4)
    jax.jit(model)(cloud)


def test_the_logits_depend_on_coordinates_and_on_other_channels():
    model = Classifier(CONFIG, rngs=nnx.Rngs(0))
    gradient = jax.grad(lambda x: model(x).sum())(jnp.asarray(draw(1, 9, 6)))
    assert np.abs(gradient[..., :3]).max() > 0 and np.abs(gradient[..., 3:]).max() > 0


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 5, 4), np.float32), r"\(2, 5, 4\) do not fit .* \[batch, points, 3\]"),
        (np.zeros((5, 3), np.float32), r"\(5, 3\) do not fit"),
        (np.zeros((2, 5, 3), np.int32), "type int32 are no coordinates"),
    ],
)
def test_other_inputs_are_refused(inputs, message):
    adapter = PointCloudConfig().input_adapter(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=message):
        adapter(inputs)


def test_a_mask_of_another_shape_is_refused():
    adapter = PointCloudConfig().input_adapter(rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"input_mask of shape \(2, 4\) .* \(2, 5\)"):
        adapter(draw(2, 5, 3), np.ones((2, 4), bool))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_channels", 2), ("num_frequency_bands", 0), ("max_resolution", 0.0)],
)
def test_a_value_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        dataclasses.replace(CONFIG.encoder, **{field: value})
