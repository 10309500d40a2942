"""Queries that are coordinates, asked block by block of latents that were projected once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import CoordinateQueryAdapter, PointCloudConfig
from perceiver_jax.core import decoder as core_decoder
from perceiver_jax.core.position import fourier_features
from perceiver_jax.models import (
    ModalityPerceiverIO,
    PerceiverConfig,
    QueryDecoderConfig,
    model_class,
)

HEADS = {"num_cross_attention_heads": 1}
CONFIG = PerceiverConfig(
    encoder=PointCloudConfig(
        num_frequency_bands=2,
        max_resolution=8.0,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=1,
        **HEADS,
    ),
    decoder=QueryDecoderConfig(
        num_output_query_channels=6,
        num_outputs=1,
        num_coordinates=3,
        num_coordinate_bands=2,
        max_coordinate_resolution=8.0,
        **HEADS,
    ),
    num_latents=4,
    num_latent_channels=8,
)
RNG = np.random.default_rng(0)
CLOUDS, POINTS = RNG.uniform(-1, 1, (2, 7, 3)), RNG.uniform(-1, 1, (50, 3))


@pytest.fixture
def model(float64, random_model):
    return random_model(lambda: ModalityPerceiverIO(CONFIG, rngs=nnx.Rngs(0)))


def adapter(**fields):
    sizes = {"num_coordinates": 2, "num_frequency_bands": 3, "max_resolution": 8.0}
    return CoordinateQueryAdapter(**(sizes | fields), num_output_query_channels=5, rngs=nnx.Rngs(0))


def test_queries_are_projected_fourier_features(float64, random_model):
    made = random_model(lambda: adapter(max_resolution=(8.0, 4.0)))
    coordinates = POINTS[None, :, :2]
    features = fourier_features(coordinates, num_bands=3, max_resolution=(8.0, 4.0))
    wanted = made.linear(jnp.asarray(features))
    np.testing.assert_allclose(made(jnp.asarray(coordinates)), wanted, rtol=1e-9, atol=1e-12)


def test_a_config_makes_the_model_and_every_query_gets_its_own_answer(model):
    assert model_class(CONFIG) is ModalityPerceiverIO
    clouds, points = jnp.asarray(CLOUDS), jnp.asarray(POINTS)
    answers = model(clouds, queries=points)
    assert answers.shape == (2, 50, 1)
    np.testing.assert_allclose(model(clouds, queries=points[7:9]), answers[:, 7:9], rtol=1e-10)
    queries = model.decoder.query_adapter(points[None])
    plain = model.decoder.output_adapter(
        model.decoder.cross_attention(queries, model.encode(clouds))
    )
    np.testing.assert_allclose(answers, plain, rtol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_latents_are_projected_once_and_asked_in_chunks(model, monkeypatch, masked):
    clouds, points = jnp.asarray(CLOUDS), jnp.asarray(POINTS)
    mask = jnp.arange(50)[None] < jnp.array([[50], [30]]) if masked else None
    wanted = model(clouds, queries=points, query_mask=mask)
    monkeypatch.setattr(core_decoder, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(core_decoder, "LEAST_QUERIES", 8)
    embedded = []
    embed = CoordinateQueryAdapter.__call__
    monkeypatch.setattr(
        CoordinateQueryAdapter,
        "__call__",
        lambda self, x: embedded.append(x.shape[1]) or embed(self, x),
    )
    ask = jax.jit(lambda model, prepared, *chunk: model.decoder.ask(prepared, *chunk))
    prepared = jax.jit(lambda model, x: model.decoder.prepare(model.encode(x)))(model, clouds)
    chunks = [
        ask(model, prepared, points[i : i + 25], None if mask is None else mask[:, i : i + 25])
        for i in (0, 25)
    ]
    np.testing.assert_allclose(jnp.concatenate(chunks, axis=1), wanted, rtol=1e-10)
    assert embedded and max(embedded) <= 8


def test_gradients_in_blocks_are_those_of_all_at_once(model, monkeypatch):
    def loss(model, points):
        return jnp.square(model(jnp.asarray(CLOUDS), queries=points)).sum()

    gradients = jax.grad(loss, argnums=(0, 1))
    wanted = gradients(model, jnp.asarray(POINTS))
    monkeypatch.setattr(core_decoder, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(core_decoder, "LEAST_QUERIES", 8)
    got = gradients(model, jnp.asarray(POINTS))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"num_coordinates": 0}, "num_coordinates=0"),
        ({"max_resolution": (8.0,)}, "one for each"),
        ({"max_resolution": 0.0}, "above 0 and finite"),
    ],
)
def test_what_cannot_be_asked_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        adapter(**fields)


def test_coordinates_beyond_the_cube_are_told_also_where_blocks_of_them_are_asked(model):
    far = np.array([[0.0, 0.0, 30.0]])
    with pytest.warns(UserWarning, match="coordinates go from 0 to 30, where -1 to 1 is expected"):
        model(CLOUDS, queries=far)
    prepared = model.decoder.prepare(model.encode(CLOUDS))
    with pytest.warns(UserWarning, match="scale them as those of training were"):
        model.decoder.ask(prepared, far)


def test_queries_of_other_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"takes \[O, 3\] or \[B, O, 3\]"):
        model(jnp.asarray(CLOUDS), queries=jnp.zeros((5, 6)))


def test_predictions_of_all_answers_together_cannot_be_asked_in_chunks(model):
    from perceiver_jax.adapters import ClassificationOutputAdapter

    model.decoder.output_adapter = ClassificationOutputAdapter(
        num_classes=2, num_output_query_channels=6, rngs=nnx.Rngs(0)
    )
    prepared = model.decoder.prepare(jnp.zeros((1, 4, 8)))
    with pytest.raises(ValueError, match="cannot be asked chunk by chunk"):
        model.decoder.ask(prepared, jnp.zeros((1, 3)))


def test_a_model_that_is_given_no_coordinates_says_what_it_takes(model):
    with pytest.raises(ValueError, match="CoordinateQueryAdapter.*pass it as queries="):
        model(jnp.asarray(CLOUDS))
