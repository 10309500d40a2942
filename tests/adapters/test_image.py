import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import (
    ConvImageInputAdapter,
    ImageInputAdapter,
    LearnedImageInputAdapter,
    PatchImageInputAdapter,
)
from perceiver_jax.adapters.image import space_to_depth
from perceiver_jax.core.linear import InitConfig
from perceiver_jax.core.position import fourier_features, linear_positions

SHAPE = (8, 12, 3)
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


def pixels(**fields):
    options = {"image_shape": SHAPE, "num_frequency_bands": 2} | fields
    return lambda: ImageInputAdapter(**options)


def patches(**fields):
    options = {"image_shape": SHAPE, "num_frequency_bands": 2, "patch_size": 4} | fields
    return lambda: PatchImageInputAdapter(**options, rngs=nnx.Rngs(0))


def conv(**fields):
    options = {"image_shape": SHAPE, "num_frequency_bands": 2, "num_channels": 5} | fields
    return lambda: ConvImageInputAdapter(**options, rngs=nnx.Rngs(0))


def learned(**fields):
    channels = {
        "num_channels": 5,
        "num_position_channels": 7,
        "num_projected_position_channels": 6,
    }
    options = {"image_shape": SHAPE} | channels | fields
    return lambda: LearnedImageInputAdapter(**options, rngs=nnx.Rngs(0))


BUILDERS = [
    (pixels(), (8, 12), 3 + 10),
    (pixels(num_frequency_bands=0), (8, 12), 3),
    (patches(), (2, 3), 4 * 4 * 3 + 10),
    (patches(num_patch_channels=5), (2, 3), 5 + 10),
    (patches(patch_size=2, num_frequency_bands=0), (4, 6), 2 * 2 * 3),
    (conv(), (2, 3), 5 + 10),
    (conv(num_layers=2, batch_norm=False), (1, 1), 5 + 10),
    (conv(num_frequency_bands=0), (2, 3), 5),
    (learned(), (96,), 5 + 6),
]


@pytest.mark.parametrize("build, grid, num_channels", BUILDERS)
def test_the_channels_announced_are_those_of_the_dense_tokens(
    random_model, build, grid, num_channels
):
    adapter = random_model(build)
    mask = jnp.ones((2, int(np.prod(grid))), bool)
    tokens = jax.eval_shape(lambda a, x, m: a(x, m), adapter, IMAGES, mask)
    dense = jax.eval_shape(lambda t: t.dense(), tokens)
    assert tokens.grid == grid and tokens.mask.shape == mask.shape
    assert dense.shape == (2, np.prod(grid), num_channels)
    assert adapter.num_input_channels == num_channels


@pytest.mark.parametrize("build", [pixels(), patches(), conv(), learned()])
@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 12, 8, 3), (8, 12, 3), (2, 8, 12, 1)])
def test_images_of_another_shape_are_refused_with_the_one_wanted(random_model, build, shape):
    adapter = random_model(build)
    message = r"do not fit this model, which takes \[batch, 8, 12, 3\] \(height, width, channels"
    with pytest.raises(ValueError, match=message):
        adapter(np.zeros(shape, np.float32))


@pytest.mark.parametrize("build", [pixels(), patches(), conv(), learned()])
def test_images_of_integers_are_refused(random_model, build):
    with pytest.raises(ValueError, match="uint8 are not normalised; convert them to float"):
        random_model(build)(np.zeros((2, *SHAPE), np.uint8))


def test_a_single_image_lacks_the_axis_of_the_batch(random_model):
    with pytest.raises(ValueError, match=r"a single image is a batch of one: image\[None\]"):
        random_model(pixels())(np.zeros(SHAPE, np.float32))


@pytest.mark.parametrize("build", [pixels(), patches(), conv(), learned()])
def test_raw_colours_are_told(random_model, build):
    adapter = random_model(build)
    raw = np.full((2, *SHAPE), 255.0, np.float32)
    raw[0, 0, 0, 0] = 0.0
    with pytest.warns(UserWarning, match="images from 0 to 255 are hardly normalised; bring them"):
        adapter(raw)
    jax.jit(adapter)(raw)


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 0), (8.0, 12, 1), (1, 8, 12, 3)])
def test_a_shape_that_is_none_of_an_image_is_refused(shape):
    with pytest.raises(ValueError, match="image_shape.* is not valid; it takes"):
        ImageInputAdapter(image_shape=shape, num_frequency_bands=2)


def position(row, column, grid, resolution=None):
    """The features of one grid cell, rows before columns, in DeepMind's order."""
    at = np.asarray([linear_positions(grid[0])[row], linear_positions(grid[1])[column]])
    return fourier_features(at, num_bands=2, max_resolution=resolution or grid)


@pytest.mark.parametrize("resolution", [None, (20.0, 30.0)])
def test_a_pixel_is_its_colours_and_the_features_of_its_row_and_column(random_model, resolution):
    tokens = random_model(pixels(max_resolution=resolution))(IMAGES).dense()
    for row, column in itertools.product(range(8), range(12)):
        got = np.asarray(tokens[:, row * 12 + column])
        np.testing.assert_array_equal(got[:, :3], IMAGES[:, row, column])
        want = position(row, column, (8, 12), resolution)
        np.testing.assert_allclose(got[:, 3:], [want, want], atol=1e-6)


def test_the_channel_order_of_positions_is_a_choice(random_model):
    deepmind = np.asarray(random_model(pixels())(IMAGES).dense())
    lucidrains = np.asarray(random_model(pixels(channel_order="lucidrains"))(IMAGES).dense())
    # Per axis: sines, cosines, coordinate.
    order = [2, 3, 6, 7, 0, 4, 5, 8, 9, 1]
    np.testing.assert_array_equal(lucidrains[..., 3:], deepmind[..., 3:][..., order])


def test_patch_channels_are_row_column_colour():
    got = np.asarray(space_to_depth(jnp.asarray(IMAGES), 4))
    for row, column in itertools.product(range(2), range(3)):
        numbers = [
            IMAGES[:, 4 * row + i, 4 * column + j, colour]
            for i in range(4)
            for j in range(4)
            for colour in range(3)
        ]
        np.testing.assert_array_equal(got[:, row, column], np.stack(numbers, -1))


def test_a_patch_is_its_pixels_or_their_projection_and_its_position(random_model):
    content = np.asarray(space_to_depth(jnp.asarray(IMAGES), 4)).reshape(2, 6, 48)
    plain = np.asarray(random_model(patches())(IMAGES).dense())
    np.testing.assert_array_equal(plain[..., :48], content)
    np.testing.assert_allclose(plain[0, 5, 48:], position(1, 2, (2, 3)), atol=1e-6)
    adapter = random_model(patches(num_patch_channels=5))
    projected = np.asarray(adapter(IMAGES).dense())
    kernel, bias = (
        np.asarray(p[...]) for p in (adapter.projection.kernel, adapter.projection.bias)
    )
    np.testing.assert_allclose(projected[..., :5], content @ kernel + bias, atol=1e-4)
    np.testing.assert_array_equal(projected[..., 5:], plain[..., 48:])


def test_patches_that_do_not_tile_the_image_are_refused():
    with pytest.raises(ValueError, match="patch_size=5 does not divide the image of 8×12"):
        patches(patch_size=5)()


def test_a_patch_as_large_as_the_image_makes_one_token(random_model):
    image = IMAGES[:, :, :8]
    build = patches(image_shape=(8, 8, 3), patch_size=8, num_frequency_bands=0)
    np.testing.assert_array_equal(random_model(build)(image).dense(), image.reshape(2, 1, -1))


def test_stem_cells_carry_positions_of_the_output_grid(random_model):
    adapter = random_model(conv())
    tokens = adapter(IMAGES)
    stem = adapter.stem(jnp.asarray(IMAGES), training=False)
    np.testing.assert_array_equal(tokens.content, stem)
    got = tokens.dense_positions()[1 * 3 + 2]
    np.testing.assert_allclose(got, position(1, 2, (2, 3)), atol=1e-6)


def test_a_key_means_training_for_batch_norms(random_model):
    adapter = random_model(conv())
    before = int(adapter.stem.layer[0].norm.count[...])
    inference = adapter(IMAGES).content
    assert int(adapter.stem.layer[0].norm.count[...]) == before
    training = adapter(IMAGES, key=jax.random.key(0)).content
    assert int(adapter.stem.layer[0].norm.count[...]) == before + 1
    assert not np.allclose(training, inference)


def test_a_projected_pixel_is_its_projected_colours_and_its_projected_position(random_model):
    adapter = random_model(learned())

    def project(layer, x):
        return np.asarray(x) @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])

    assert adapter.positions.shape == (96, 7)
    positions = project(adapter.position_projection, adapter.positions[...])
    want = np.concatenate(
        [
            project(adapter.projection, IMAGES.reshape(2, 96, 3)),
            np.broadcast_to(positions, (2, *positions.shape)),
        ],
        -1,
    )
    np.testing.assert_allclose(adapter(IMAGES).dense(), want, atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        patches(num_patch_channels=5, init=InitConfig(scale=0.0)),
        conv(init=InitConfig(scale=0.0)),
        learned(init=InitConfig(scale=0.0)),
    ],
)
def test_the_init_config_is_that_of_every_kernel_and_table(build):
    drawn = [x for x in jax.tree.leaves(build()) if x.ndim > 1]
    assert drawn
    for array in drawn:
        np.testing.assert_array_equal(array, 0.0)


@pytest.mark.parametrize("builder", [patches, conv, learned])
def test_the_compute_type_is_that_of_the_products(random_model, equations, builder):
    fields = {"num_patch_channels": 5} if builder is patches else {}
    adapter = random_model(builder(compute_dtype="bfloat16", **fields))
    products = [
        e
        for e in equations(jax.make_jaxpr(lambda a, x: a(x).dense())(adapter, IMAGES))
        if e.primitive.name in ("dot_general", "conv_general_dilated")
    ]
    assert products
    assert {var.aval.dtype.name for e in products for var in e.invars} == {"bfloat16"}


def test_no_position_table_of_the_whole_grid_is_made_before_dense(random_model):
    tokens = random_model(pixels(image_shape=(64, 64, 1), num_frequency_bands=16))(
        np.zeros((1, 64, 64, 1), np.float32)
    )
    assert [table.shape for table in tokens.positions] == [(64, 33), (64, 33)]
