import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import (
    LabelHead,
    LabelInputAdapter,
    MultimodalHeads,
    MultimodalInputAdapter,
    VideoHead,
    WaveformHead,
    WaveformInputAdapter,
)
from perceiver_jax.adapters.multimodal import filled_up
from perceiver_jax.core.tokens import Tokens

SOUND = {"num_samples": 12, "samples_per_patch": 2, "num_frequency_bands": 1}
NUM_TOKENS = {"audio": 6, "label": 1, "speech": 6}
FEATURES = {"num_features": 3}


def inputs(batch=2):
    rng = np.random.default_rng(0)
    return {
        "speech": rng.normal(size=(batch, 12, 1)),
        "label": rng.integers(7, size=batch),
        "audio": rng.normal(size=(batch, 12, 1)),
    }


def adapter(random_model, **fields):
    def build():
        adapters = {
            "speech": WaveformInputAdapter(**SOUND),
            "label": LabelInputAdapter(num_classes=7),
            "audio": WaveformInputAdapter(**SOUND),
        }
        return MultimodalInputAdapter(adapters, **fields, rngs=nnx.Rngs(0))

    return random_model(build)


def part(dense, name):
    """The tokens of a modality."""
    start = sum(n for other, n in NUM_TOKENS.items() if other < name)
    return np.asarray(dense)[:, start : start + NUM_TOKENS[name]]


def test_modalities_stand_in_the_order_of_their_names(float64, random_model):
    model, given = adapter(random_model), inputs()
    tokens = model(given)
    assert tokens.dense().shape == (2, 13, 9)
    assert model.num_input_channels == 7 + 2
    for name in ("audio", "speech"):
        np.testing.assert_array_equal(
            part(tokens.dense(), name)[..., :2].ravel(), given[name].ravel()
        )
    np.testing.assert_array_equal(
        part(tokens.dense(), "label")[:, 0, :7], np.eye(7)[given["label"]]
    )


def test_learned_values_fill_channels_up(float64, random_model):
    model = adapter(random_model, min_padding_size=3)
    dense = model(inputs()).dense()
    for name, width in (("audio", 5), ("label", 7), ("speech", 5)):
        padding = np.asarray(model.modality[name].padding[...])
        assert padding.shape == (1, 10 - width)
        wanted = np.broadcast_to(padding, (2, NUM_TOKENS[name], 10 - width))
        np.testing.assert_array_equal(part(dense, name)[..., width:], wanted)


@pytest.mark.parametrize("missing", [{"speech": None}, {}], ids=["None", "not there"])
def test_what_is_not_given_is_hidden(float64, random_model, missing):
    model, given = adapter(random_model), inputs()
    del given["speech"]
    dense = model(given | missing).dense()
    token = np.asarray(model.modality["speech"].mask_token[...])
    np.testing.assert_array_equal(part(dense, "speech"), np.tile(token, (2, 6, 1)))
    np.testing.assert_array_equal(part(dense, "audio"), part(model(inputs()).dense(), "audio"))


@pytest.mark.parametrize("key", [None, jax.random.key(0)], ids=["inference", "training"])
def test_a_modality_of_mask_rate_one_has_no_influence(float64, random_model, key):
    model = adapter(random_model, mask_rates={"audio": 1.0})

    def total(audio):
        return jnp.sin(model(inputs() | {"audio": audio}, key=key).dense()).sum()

    assert not np.asarray(jax.grad(total)(jnp.asarray(inputs()["audio"]))).any()
    hidden = model(inputs() | {"audio": None}, key=key).dense()
    np.testing.assert_array_equal(model(inputs(), key=key).dense(), hidden)


def test_training_hides_tokens_at_their_rate(float64, random_model):
    model = adapter(random_model, mask_rates={"audio": 0.25})
    given = inputs(batch=500)
    plain, masked = (np.asarray(model(given, key=k).dense()) for k in (None, jax.random.key(0)))
    token = np.asarray(model.modality["audio"].mask_token[...])
    hidden = (part(masked, "audio") == token[None]).all(-1)
    assert 0.2 < hidden.mean() < 0.3
    np.testing.assert_array_equal(part(masked, "audio")[~hidden], part(plain, "audio")[~hidden])
    for name in ("label", "speech"):
        np.testing.assert_array_equal(part(masked, name), part(plain, name))
    other = np.asarray(model(given, key=jax.random.key(1)).dense())
    assert not np.array_equal(masked, other)


def test_modalities_are_hidden_independently(float64, random_model):
    model = adapter(random_model, mask_rates={"audio": 0.5, "speech": 0.5})
    dense = np.asarray(model(inputs(batch=50), key=jax.random.key(0)).dense())
    hidden = [
        (part(dense, name) == np.asarray(model.modality[name].mask_token[...])[None]).all(-1)
        for name in ("audio", "speech")
    ]
    assert not np.array_equal(*hidden)


def test_the_mask_of_tokens_is_passed_on(random_model):
    mask = np.random.default_rng(0).random((2, 13)) < 0.5
    np.testing.assert_array_equal(adapter(random_model)(inputs(), mask).mask, mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"smell": np.zeros((2, 3))},
            r"\['smell'\] name no modality; there are \['audio', 'label'",
        ),
        ({"label": np.zeros(3, int)}, "different numbers of examples"),
        (dict.fromkeys(NUM_TOKENS), "nothing to look at"),
        ({"audio": np.zeros((2, 11, 1))}, "waveforms of shape"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(random_model, change, message):
    with pytest.raises(ValueError, match=message):
        adapter(random_model)(inputs() | change)


@pytest.mark.parametrize(
    ("rates", "message"),
    [({"smell": 0.5}, "name no modality"), ({"audio": 1.5}, r"1.5 is not in \[0, 1\]")],
)
def test_mask_rates_that_make_no_sense_are_refused(random_model, rates, message):
    with pytest.raises(ValueError, match=message):
        adapter(random_model, mask_rates=rates)


def output_adapter(random_model, **fields):
    def build():
        rngs = nnx.Rngs(0)
        heads = {
            "image": VideoHead(
                video_shape=(2, 2, 3, 3), num_frequency_bands=1, rngs=rngs, **FEATURES
            ),
            "audio": WaveformHead(**SOUND, **FEATURES, rngs=rngs),
            "label": LabelHead(num_classes=7, num_query_channels=4, **FEATURES, rngs=rngs),
        }
        return MultimodalHeads(heads, **FEATURES, **fields, rngs=rngs)

    return random_model(build)


@pytest.mark.parametrize("name", ["audio", "image", "label"])
def test_queries_are_those_of_the_head_filled_up(float64, random_model, name):
    model = output_adapter(random_model)
    assert model.names == ["audio", "image", "label"]
    assert model.num_output_query_channels == 9 + 2
    own, queries = model.modality[name].head.queries(), model.queries(name)
    assert queries.grid == own.grid and queries.num_channels == 11
    dense = np.asarray(queries.dense())
    np.testing.assert_array_equal(dense[..., : own.num_channels], own.dense())
    padding = np.asarray(model.modality[name].padding[...])
    np.testing.assert_array_equal(
        dense[0, :, own.num_channels :], np.tile(padding, (own.num_tokens, 1))
    )


def test_answers_go_through_the_shared_layer_and_the_head(float64, random_model):
    model = output_adapter(random_model)
    answers = jnp.asarray(np.random.default_rng(1).normal(size=(2, 12, 11)))
    got = model.finish("image")(answers)
    np.testing.assert_allclose(got, model.modality["image"].head.linear(model.linear(answers)))
    assert model.whole("image", got).shape == (2, 2, 2, 3, 3)


@pytest.mark.parametrize("ordered", [False, True])
def test_filling_up_keeps_a_grid_and_what_it_holds(float64, ordered):
    rng = np.random.default_rng(0)
    tokens = Tokens(
        content=jnp.asarray(rng.normal(size=(1, 2, 3, 2))),
        positions=(rng.normal(size=(2, 2)), rng.normal(size=(3, 2))),
        order=(2, 0, 3, 1) if ordered else None,
    )
    padding = jnp.asarray(rng.normal(size=(1, 3)))
    filled = filled_up(tokens, padding)
    assert filled.grid == (2, 3) and filled.content.shape == tokens.content.shape
    wanted = np.concatenate([tokens.dense()[0], np.tile(padding, (6, 1))], axis=1)
    np.testing.assert_array_equal(filled.dense()[0], wanted)


def test_gradients_reach_the_values_that_fill_up(float64, random_model):
    model = output_adapter(random_model)

    def total(model, name):
        return jnp.square(model.queries(name).dense()).sum()

    for name in model.names:
        gradient = jax.grad(total)(model, name).modality[name].padding[...]
        num_queries = model.queries(name).num_tokens
        np.testing.assert_allclose(
            gradient, 2 * num_queries * model.modality[name].padding[...], rtol=1e-12
        )
