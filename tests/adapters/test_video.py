import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import VideoHead, VideoInputAdapter

SHAPE = (2, 4, 6, 3)
OPTIONS = {"video_shape": SHAPE, "num_frequency_bands": 2}


def videos(dtype="float64"):
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(dtype)


def test_a_token_is_a_patch_row_by_row_and_its_place(float64):
    adapter = VideoInputAdapter(**OPTIONS, patch_size=2)
    x, tokens = videos(), VideoInputAdapter(**OPTIONS, patch_size=2)(videos())
    assert tokens.grid == (2, 2, 3) and tokens.num_tokens == adapter.num_tokens == 12
    assert tokens.num_channels == adapter.num_input_channels == 12 + 15
    np.testing.assert_array_equal(tokens.content[:, 1, 0, 2], x[:, 1, 0:2, 4:6].reshape(2, -1))
    coordinates = np.asarray(tokens.dense())[0, :, 12:15].reshape(2, 2, 3, 3)
    np.testing.assert_allclose(coordinates[1, 0, 2], [1, -1, 1])
    np.testing.assert_allclose(coordinates[0, 1, 1], [-1, 1, 0])


def test_frequencies_are_those_of_the_grid_of_patches_unless_said(float64):
    usual, same, other = (
        VideoInputAdapter(**OPTIONS, patch_size=2, max_resolution=resolution)(videos()).positions
        for resolution in (None, (2, 2, 3), (2, 2, 9))
    )
    for a, b in zip(usual, same, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(usual[1], other[1])
    assert not np.allclose(usual[2], other[2])


@pytest.mark.parametrize("patch_size", [4, 3, 0])
def test_patches_must_tile_a_frame(patch_size):
    with pytest.raises(ValueError, match=f"patch_size={patch_size} does not divide frames of 4×6"):
        VideoInputAdapter(**OPTIONS, patch_size=patch_size)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 3, 4, 6, 3), "float32", r"\[batch, 2, 4, 6, 3\]"),
        ((2, 4, 6, 3), "float32", r"videos of shape \(2, 4, 6, 3\)"),
        ((1, *SHAPE), "uint8", "not normalised"),
    ],
)
def test_other_videos_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        VideoInputAdapter(**OPTIONS, patch_size=2)(np.zeros(shape, dtype))


def head(random_model, **fields):
    return random_model(lambda: VideoHead(num_features=5, rngs=nnx.Rngs(0), **(OPTIONS | fields)))


def test_there_is_a_query_for_every_pixel_nothing_but_its_place(float64, random_model):
    queries = head(random_model).queries()
    pixels = VideoInputAdapter(**OPTIONS, patch_size=1)(videos())
    assert queries.grid == SHAPE[:-1] and queries.content.shape[-1] == 0
    np.testing.assert_array_equal(queries.dense()[0], pixels.dense()[0, :, 3:])


def test_half_open_queries_end_a_step_before_the_end(float64, random_model):
    queries = head(random_model, ends="half_open").queries()
    coordinates = np.asarray(queries.dense())[0, :, :3].reshape(*SHAPE)
    np.testing.assert_allclose(coordinates[1, 1, 3], [0, -0.5, 0], atol=1e-12)
    assert coordinates.max() < 1


def test_answers_are_pixels(float64, random_model):
    model = head(random_model)
    answers = np.random.default_rng(1).normal(size=(2, 2 * 4 * 6, 5))
    whole = np.asarray(model.whole(model(answers)))
    kernel, bias = (np.asarray(x[...]) for x in (model.linear.kernel, model.linear.bias))
    assert whole.shape == (2, *SHAPE)
    np.testing.assert_allclose(whole[1, 1, 2, 3], answers[1, 24 + 12 + 3] @ kernel + bias)
