import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import WaveformConfig, WaveformHead, WaveformInputAdapter
from perceiver_jax.core.position import fourier_features

OPTIONS = {"num_samples": 12, "samples_per_patch": 4, "num_frequency_bands": 2}


def waveforms(num_channels=1, dtype="float64"):
    return np.random.default_rng(0).normal(size=(2, 12, num_channels)).astype(dtype)


@pytest.mark.parametrize("num_channels", [1, 2])
def test_a_token_is_a_stretch_of_samples_and_its_time(float64, num_channels):
    adapter = WaveformInputAdapter(num_channels=num_channels, **OPTIONS)
    x = waveforms(num_channels)
    dense = np.asarray(adapter(x).dense())
    width = 4 * num_channels
    assert dense.shape == (2, adapter.num_tokens, adapter.num_input_channels) == (2, 3, width + 5)
    np.testing.assert_array_equal(dense[:, 1, :width], x[:, 4:8].reshape(2, -1))
    times = fourier_features(np.array([[-1.0], [0.0], [1.0]]), num_bands=2, max_resolution=[12])
    np.testing.assert_allclose(dense[0, :, width:], times, rtol=1e-12)


def test_frequencies_are_those_of_the_samples_unless_said(float64):
    usual, same, other = (
        WaveformInputAdapter(**OPTIONS, max_resolution=resolution)(waveforms()).positions[0]
        for resolution in (None, 12, 3)
    )
    np.testing.assert_array_equal(usual, same)
    assert not np.allclose(usual, other)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 11, 1), "float32", r"\[batch, 12, 1\]"),
        ((2, 12, 2), "float32", r"waveforms of shape \(2, 12, 2\)"),
        ((2, 12), "float32", "do not fit this model"),
        ((2, 12, 1), "int16", "not normalised"),
    ],
)
def test_other_waveforms_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        WaveformInputAdapter(**OPTIONS)(np.zeros(shape, dtype))


@pytest.mark.parametrize("samples_per_patch", [5, 0])
def test_stretches_must_tile_the_waveform(samples_per_patch):
    with pytest.raises(ValueError, match=f"samples_per_patch={samples_per_patch} does not divide"):
        WaveformInputAdapter(**(OPTIONS | {"samples_per_patch": samples_per_patch}))


def test_the_config_makes_the_published_480_tokens_of_128_samples():
    adapter = WaveformConfig().input_adapter(rngs=nnx.Rngs(0))
    assert (adapter.num_tokens, adapter.samples_per_patch, adapter.shape) == (480, 128, (61_440, 1))
    assert adapter.num_input_channels == 128 + 1 + 2 * 64


def test_the_config_makes_the_adapter_that_it_describes():
    options = {"num_channels": 2, "max_resolution": 5.0}
    adapter = WaveformConfig(**OPTIONS, **options).input_adapter(rngs=nnx.Rngs(0))
    assert (adapter.shape, adapter.num_frequency_bands, adapter.max_resolution) == ((12, 2), 2, 5.0)
    assert WaveformConfig(**OPTIONS).input_adapter(rngs=nnx.Rngs(0)).max_resolution == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples_per_patch": 5}, "samples_per_patch=5 does not divide"),
        ({"max_resolution": 0.0}, "max_resolution=0.0 must be above 0"),
        ({"max_resolution": float("inf")}, "max_resolution=inf must be above 0 and finite"),
        ({"max_resolution": float("nan")}, "max_resolution=nan must be above 0 and finite"),
        ({"num_channels": 0}, "num_channels=0 is too small"),
        ({"num_self_attention_heads": 0}, "num_self_attention_heads=0 is too small"),
    ],
)
def test_configs_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        WaveformConfig(**(OPTIONS | fields))


def head(random_model, **fields):
    return random_model(
        lambda: WaveformHead(num_features=6, rngs=nnx.Rngs(0), **(OPTIONS | fields))
    )


def test_queries_are_nothing_but_the_times_of_the_tokens(float64, random_model):
    queries = head(random_model).queries()
    tokens = WaveformInputAdapter(**OPTIONS)(waveforms())
    assert queries.content.shape == (1, 3, 0)
    np.testing.assert_array_equal(queries.dense()[0], tokens.dense()[0, :, 4:])


def test_half_open_queries_end_a_step_before_the_end(float64, random_model):
    queries = head(random_model, ends="half_open").queries()
    np.testing.assert_allclose(queries.dense()[0, :, 0], [-1, -1 / 3, 1 / 3], rtol=1e-12)


def test_answers_are_stretches_one_after_the_other(float64, random_model):
    model = head(random_model, num_channels=2)
    answers = np.random.default_rng(1).normal(size=(2, 3, 6))
    whole = np.asarray(model.whole(model(answers)))
    kernel, bias = (np.asarray(x[...]) for x in (model.linear.kernel, model.linear.bias))
    assert whole.shape == (2, 12, 2)
    np.testing.assert_allclose(whole[1, 4:8].ravel(), answers[1, 1] @ kernel + bias, rtol=1e-12)
