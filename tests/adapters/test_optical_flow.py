import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import OpticalFlowInputAdapter, OpticalFlowOutputAdapter
from perceiver_jax.adapters.optical_flow import flow_patches

SHAPE = (5, 6)


def frames(batch=2, dtype="float64"):
    return np.random.default_rng(0).normal(size=(batch, 2, *SHAPE, 3)).astype(dtype)


def adapter(random_model, **fields):
    options = {"num_patch_hidden_channels": 4, "num_frequency_bands": 2} | fields
    return random_model(
        lambda: OpticalFlowInputAdapter(image_shape=SHAPE, **options, rngs=nnx.Rngs(0))
    )


def test_patches_are_neighbourhoods_row_by_row(float64):
    x = frames()
    patches = np.asarray(flow_patches(x)).reshape(2, 2, *SHAPE, 3, 3, 3)
    np.testing.assert_array_equal(patches[:, :, :, :, 1, 1], x)
    np.testing.assert_array_equal(patches[:, :, 1:, 1:, 0, 0], x[:, :, :-1, :-1])
    assert not patches[:, :, 0, :, 0].any() and not patches[:, :, :, -1, :, 2].any()


def test_content_is_the_projection_of_the_patches_of_both_frames(float64, random_model):
    x, model = frames(), adapter(random_model)
    tokens = model(x)
    patches = jnp.moveaxis(flow_patches(x), 1, 3).reshape(2, *SHAPE, 54)
    np.testing.assert_allclose(tokens.content, model.projection(patches), rtol=1e-12)
    assert tokens.num_channels == model.num_input_channels == 4 + 2 * 5
    assert tokens.num_tokens == 30


def test_frequencies_are_those_of_the_frame_unless_said(float64, random_model):
    usual = adapter(random_model)(frames())
    same = adapter(random_model, max_resolution=SHAPE)(frames())
    other = adapter(random_model, max_resolution=(10, 12))(frames())
    np.testing.assert_array_equal(usual.positions[0], same.positions[0])
    assert not np.allclose(usual.positions[0], other.positions[0])


def test_the_projection_computes_in_bfloat16_where_asked(random_model):
    model = adapter(random_model, compute_dtype="bfloat16")
    assert model(frames(dtype="float32")).content.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 2, 6, 5, 3), "float32", r"\[batch, 2, 5, 6, 3\]"),
        ((1, 1, 5, 6, 3), "float32", "two frames"),
        ((2, 5, 6, 3), "float32", r"frames of shape \(2, 5, 6, 3\)"),
        ((1, 2, 5, 6, 3), "uint8", "not normalised"),
    ],
)
def test_other_frames_are_refused(random_model, shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        adapter(random_model)(np.zeros(shape, dtype))


def test_answers_are_pixels(float64, random_model):
    model = random_model(
        lambda: OpticalFlowOutputAdapter(
            num_output_query_channels=3, rescale_factor=50.0, flow_scale=10.0, rngs=nnx.Rngs(0)
        )
    )
    answers = np.random.default_rng(1).normal(size=(2, 7, 3))
    kernel, bias = (np.asarray(x[...]) for x in (model.linear.kernel, model.linear.bias))
    wanted = (answers @ kernel + bias) / 50.0 * 10.0
    np.testing.assert_allclose(model(answers), wanted, rtol=1e-12)


def test_tokens_are_the_queries_also_of_masked_pixels(random_model):
    tokens = adapter(random_model)(frames(), np.zeros((2, 30), bool))
    output = OpticalFlowOutputAdapter(num_output_query_channels=14, rngs=nnx.Rngs(0))
    queries = output.make_queries(tokens)
    np.testing.assert_array_equal(queries.dense(), tokens.dense())
    assert tokens.mask is not None and queries.mask is None
