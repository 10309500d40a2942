import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import params
from perceiver_jax.adapters.conv_stem import BatchNorm, ConvStem, stem_grid
from perceiver_jax.core.linear import InitConfig


def stem_builder(**fields):
    options = {"num_image_channels": 2, "num_channels": 3, "init": InitConfig()} | fields
    return lambda: ConvStem(**options, rngs=nnx.Rngs(0))


def same(length, size, stride):
    """SAME padding, whose odd pixel is at the end."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def symmetric(length, size, stride):
    """The padding of the PyTorch port: of the convolution, not of the pool."""
    return (3, 3) if size == 7 else (0, 0)


def windows(x, size, stride, fill, padding):
    """[h, w, size, size, c] windows."""
    pads = [padding(length, size, stride) for length in x.shape[:2]]
    x = np.pad(x, [*pads, (0, 0)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(0, 1))
    return np.moveaxis(view[::stride, ::stride], 2, -1)


@pytest.mark.parametrize(
    "padding, height, width",
    [(same, 8, 8), (same, 7, 9), (same, 6, 5), (same, 1, 4)]
    + [(symmetric, 8, 8), (symmetric, 7, 9), (symmetric, 16, 5)],
)
def test_a_layer_is_convolution_relu_and_pooling(random_model, padding, height, width):
    name = padding.__name__
    stem = random_model(stem_builder(batch_norm=False, padding=name))
    kernel = np.asarray(stem.layer[0].conv.kernel[...])
    # A bright image and its negative: whatever a kernel sums to, one of them meets the relu.
    image = np.random.default_rng(0).normal(2.0, 1.0, (height, width, 2)).astype(np.float32)
    images = np.stack([image, -image])
    convolved = [
        np.einsum("hwijc,ijcd->hwd", windows(x, 7, 2, 0.0, padding), kernel) for x in images
    ]
    want = [windows(np.maximum(x, 0.0), 3, 2, -np.inf, padding).max((2, 3)) for x in convolved]
    got = stem(jnp.asarray(images), training=False)
    assert got.shape == (2, *stem_grid((height, width), name), 3)
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    "padding, sizes, cells",
    [("same", (224, 225, 4, 1), (56, 57, 1, 1)), ("symmetric", (224, 225, 8, 5), (55, 56, 1, 1))],
)
def test_the_grid_of_a_stem(padding, sizes, cells):
    assert [stem_grid((size, size), padding)[0] for size in sizes] == list(cells)


def test_images_of_which_nothing_is_left_are_refused():
    with pytest.raises(ValueError, match="'symmetric' leaves nothing of images of 16×4"):
        stem_grid((16, 4), "symmetric")


@pytest.mark.parametrize("padding, grid", [("same", (3, 2)), ("symmetric", (2, 1))])
def test_two_layers_divide_by_sixteen(random_model, padding, grid):
    stem = random_model(stem_builder(num_layers=2, padding=padding))
    out = jax.eval_shape(lambda s: s(jnp.zeros((2, 40, 23, 2)), training=False), stem)
    assert out.shape == (2, *stem_grid((40, 23), padding, 2), 3)
    assert stem_grid((40, 23), padding, 2) == grid


def test_without_batch_norm_there_are_no_statistics():
    plain = params.skeleton(stem_builder(batch_norm=False))
    assert set(plain.params) == {"layer/0/conv/kernel"} and not plain.stats
    normed = params.skeleton(stem_builder())
    assert set(normed.params) - set(plain.params) == {"layer/0/norm/scale", "layer/0/norm/bias"}
    assert set(normed.stats) == {f"layer/0/norm/{name}" for name in ("mean", "var", "count")}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


def test_training_normalises_by_the_batch_over_all_axes_but_the_last(random_model):
    norm = random_model(lambda: BatchNorm(3))
    x = draw(0, 4, 5, 6, 3)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    scale, bias = np.asarray(norm.scale[...]), np.asarray(norm.bias[...])
    want = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(norm(jnp.asarray(x), training=True), want, atol=1e-4)


def test_a_constant_channel_becomes_the_bias_whatever_rounding_says(random_model):
    norm = random_model(lambda: BatchNorm(50))
    x = jnp.broadcast_to(jnp.linspace(100.0, 10_000.0, 50), (4, 7, 50))
    out = norm(x, training=True)
    assert jnp.isfinite(out).all()
    assert (norm.var[...] >= 0).all()


def test_inference_normalises_by_the_stored_statistics_and_leaves_them(random_model):
    norm = random_model(lambda: BatchNorm(3))
    before = params.flatten(norm)[1]
    x = draw(0, 4, 5, 6, 3)
    mean, var = np.asarray(before["mean"]), np.asarray(before["var"])
    scale, bias = np.asarray(norm.scale[...]), np.asarray(norm.bias[...])
    want = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(norm(jnp.asarray(x), training=False), want, atol=1e-4)
    for path, value in params.flatten(norm)[1].items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_running_statistics_are_debiased_averages_of_every_step(decay):
    norm = BatchNorm(3, decay=decay)
    means, variances = [], []
    for step in range(1, 5):
        x = draw(step, 4, 5, 3) * step
        norm(jnp.asarray(x), training=True)
        means.append(x.mean((0, 1)))
        variances.append(x.var((0, 1)))
        weights = (1 - decay) * decay ** np.arange(step - 1, -1, -1)
        weights /= 1 - decay**step
        stats = params.flatten(norm)[1]
        assert stats["count"] == step
        np.testing.assert_allclose(stats["mean"], weights @ means, rtol=1e-4)
        np.testing.assert_allclose(stats["var"], weights @ variances, rtol=1e-4)


def test_new_statistics_of_a_compiled_step_are_read_off_its_model():
    skeleton = params.skeleton(stem_builder())
    trained, stats = params.flatten(stem_builder()())

    traces = []

    @jax.jit
    def step(trained, stats, x):
        traces.append(1)
        model = skeleton.bind(trained, stats)
        model(x, training=True)
        return params.flatten(model)[1]

    x = jnp.asarray(draw(0, 2, 8, 8, 2))
    once = step(trained, stats, x)
    assert once["layer/0/norm/count"] == 1
    twice = step(trained, once, x)
    assert twice["layer/0/norm/count"] == 2
    np.testing.assert_allclose(twice["layer/0/norm/mean"], once["layer/0/norm/mean"], rtol=1e-5)
    assert len(traces) == 1


def test_statistics_are_those_of_the_whole_batch_on_several_devices(on_eight_devices):
    """Each of the eight devices sees another mean; all normalise by the mean of means."""
    printed = on_eight_devices(
        """
        import jax, jax.numpy as jnp
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from perceiver_jax.adapters.conv_stem import BatchNorm

        @jax.jit
        def step(norm, x):
            return norm(x, training=True), norm

        x = jnp.arange(16.0).reshape(16, 1) * jnp.ones((1, 2))
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
        assert len(sharded.sharding.device_set) == 8
        (want, one), (got, eight) = step(BatchNorm(2), x), step(BatchNorm(2), sharded)
        print(float(jnp.abs(got - want).max()), float(one.mean[0]), float(eight.mean[0]))
        """
    )
    difference, one, eight = map(float, printed.split())
    assert difference < 1e-5
    assert one == pytest.approx(7.5) and eight == pytest.approx(7.5)
