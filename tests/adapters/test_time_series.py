import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models
from perceiver_jax.adapters import TimeSeriesConfig, TimeSeriesInputAdapter
from perceiver_jax.config import ConfigError, choice_to_dict, from_dict
from perceiver_jax.core.position import fourier_features
from perceiver_jax.models import ClassificationDecoderConfig, Classifier, PerceiverConfig

FIELDS = {"num_channels": 3, "duration": 10.0, "num_frequency_bands": 2, "max_resolution": 8.0}


def series(batch=2, steps=5, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "values": rng.normal(size=(batch, steps, channels)).astype(np.float32),
        "times": np.sort(rng.uniform(0, 10, (batch, steps))).astype(np.float32),
    }


def tiny(**fields):
    return PerceiverConfig(
        encoder=TimeSeriesConfig(
            **(FIELDS | fields),
            num_cross_attention_heads=1,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=1,
        ),
        decoder=ClassificationDecoderConfig(
            num_classes=4, num_output_query_channels=8, num_cross_attention_heads=1
        ),
        num_latents=4,
        num_latent_channels=8,
    )


def test_a_token_is_the_values_of_a_step_and_the_features_of_its_time(float64):
    adapter, inputs = TimeSeriesInputAdapter(**FIELDS), series()
    inputs = {name: array.astype(np.float64) for name, array in inputs.items()}
    dense = adapter(inputs).dense()
    assert dense.shape == (2, 5, adapter.num_input_channels) and dense.shape[-1] == 3 + 1 + 4
    np.testing.assert_array_equal(dense[..., :3], inputs["values"])
    positions = inputs["times"][..., None] / 10.0 * 2 - 1
    want = fourier_features(positions, num_bands=2, max_resolution=[8.0])
    np.testing.assert_allclose(dense[..., 3:], want, atol=1e-12)


def test_times_from_0_to_the_duration_become_positions_from_minus_1_to_1():
    adapter = TimeSeriesInputAdapter(**FIELDS)
    inputs = series(1, 3) | {"times": np.array([[0.0, 5.0, 10.0]], np.float32)}
    np.testing.assert_allclose(adapter(inputs).dense()[0, :, 3], [-1, 0, 1])


def test_without_bands_the_time_itself_is_left():
    adapter = TimeSeriesInputAdapter(**(FIELDS | {"num_frequency_bands": 0}))
    assert adapter.num_input_channels == adapter(series()).dense().shape[-1] == 4


def test_missing_values_are_0_and_told_where_that_is_asked_for():
    inputs = series()
    inputs["values"][1, 2, 0] = np.nan
    plain = TimeSeriesInputAdapter(**FIELDS)(inputs).dense()
    assert plain[1, 2, 0] == 0 and np.isfinite(plain).all()
    adapter = TimeSeriesInputAdapter(**FIELDS, missing_indicators=True)
    dense = np.asarray(adapter(inputs).dense())
    assert dense.shape[-1] == adapter.num_input_channels == 3 + 3 + 5
    told = np.zeros((2, 5, 3))
    told[1, 2, 0] = 1
    np.testing.assert_array_equal(dense[..., 3:6], told)
    np.testing.assert_array_equal(np.delete(dense, [3, 4, 5], axis=-1), plain)


def test_times_keep_their_precision_beside_values_of_half_of_it():
    inputs = series()
    narrow = inputs | {"values": jnp.asarray(inputs["values"], jnp.bfloat16)}
    adapter = TimeSeriesInputAdapter(**FIELDS)
    dense = adapter(narrow).dense()
    assert dense.dtype == jnp.float32
    np.testing.assert_array_equal(dense[..., 3:], adapter(inputs).dense()[..., 3:])


def test_padding_and_the_order_of_the_steps_change_nothing(random_model):
    model = random_model(lambda: models.build(tiny(), nnx.Rngs(0).params()))
    inputs = series()
    want = model(inputs)
    order = [3, 0, 4, 1, 2]
    mixed = {name: array[:, order] for name, array in inputs.items()}
    padded = {
        name: np.concatenate([array, np.full_like(array[:, :2], 7.0)], axis=1)
        for name, array in mixed.items()
    }
    mask = np.array([[True] * 5 + [False] * 2] * 2)
    np.testing.assert_allclose(model(padded, mask), want, rtol=1e-5, atol=1e-5)
    assert np.abs(model(padded) - want).max() > 1e-3


def test_times_beyond_the_duration_are_told(random_model):
    model = random_model(lambda: models.build(tiny(), nnx.Rngs(0).params()))
    late = series()
    late["times"][1, 2] = 400.0
    with pytest.warns(
        UserWarning, match="to 400, where 0 to 10 is expected; .* duration=10 in the"
    ):
        model(late)
    mask = np.ones((2, 5), bool)
    mask[1, 2] = False
    model(late, mask)


def test_times_matter(random_model):
    model = random_model(lambda: models.build(tiny(), nnx.Rngs(0).params()))
    inputs = series()
    later = inputs | {"times": inputs["times"] * np.float32(0.9)}
    assert np.abs(model(later) - model(inputs)).max() > 1e-3


def test_a_config_makes_a_classifier_and_comes_back_from_its_tree():
    config = tiny(missing_indicators=True)
    assert models.model_class(config) is Classifier
    tree = choice_to_dict(config)
    assert tree["encoder"]["kind"] == "TimeSeriesConfig"
    assert from_dict(PerceiverConfig, {k: v for k, v in tree.items() if k != "kind"}) == config


@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 5, 3), np.float32), r"not as ndarray of shape \(2, 5, 3\)"),
        ({"values": np.zeros((2, 5, 3))}, r"not as \{'values'\}"),
        (series(channels=4), r"takes \[batch, steps, 3\]; num_channels of its config"),
        (series() | {"times": np.zeros((2, 4), np.float32)}, r"one time per step, \(2, 5\)"),
        (series() | {"times": np.zeros((2, 5), int)}, "times are of type int"),
    ],
)
def test_other_inputs_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        TimeSeriesInputAdapter(**FIELDS)(inputs)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"duration": 0.0}, "duration=0.0 must be finite and above 0"),
        ({"duration": float("inf")}, "duration=inf"),
        ({"max_resolution": 1.0}, "max_resolution=1.0 must be finite and 2 or more"),
        ({"num_channels": 0}, "num_channels=0 is too small"),
        ({"num_frequency_bands": -1}, "num_frequency_bands=-1 is too small"),
    ],
)
def test_configs_that_cannot_be_are_refused(fields, message):
    tree = choice_to_dict(TimeSeriesConfig(**FIELDS)) | fields
    with pytest.raises(ConfigError, match=message):
        from_dict(TimeSeriesConfig, tree)
