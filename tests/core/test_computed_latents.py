"""Latents chosen among the tokens: by their order, or far from each other."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core import PerceiverEncoder, Tokens
from perceiver_jax.core.computed_latents import LatentsFromTokens, _evenly, farthest_points

POINTS = np.random.default_rng(0).normal(size=(2, 9, 3))


def farthest_by_hand(points, num_chosen):
    chosen = [0]
    while len(chosen) < num_chosen:
        distances = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1)
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    return chosen


def test_each_point_is_as_far_as_can_be_from_those_before(float64):
    got = farthest_points(jnp.asarray(POINTS), 5)
    np.testing.assert_array_equal(got, [farthest_by_hand(points, 5) for points in POINTS])


def test_all_points_are_chosen_once(float64):
    doubled = jnp.asarray(np.concatenate([POINTS, POINTS], axis=1))
    got = np.sort(np.asarray(farthest_points(doubled, 18)), axis=1)
    np.testing.assert_array_equal(got, [range(18)] * 2)


def test_padding_is_chosen_last(float64):
    mask = jnp.asarray([[False, True, True, False, True, True, True, False, True]] * 2)
    got = np.asarray(farthest_points(jnp.asarray(POINTS), 7, mask))
    there = np.flatnonzero(mask[0])
    for row, points in zip(got, POINTS[:, there], strict=True):
        np.testing.assert_array_equal(row[:6], there[farthest_by_hand(points, 6)])
        assert not mask[0, row[6]]


def adapter(**fields):
    return lambda: LatentsFromTokens(
        num_latents=4, num_input_channels=3, num_latent_channels=8, rngs=nnx.Rngs(0), **fields
    )


def test_even_latents_are_projected_tokens_at_even_distances(float64, random_model):
    make = random_model(adapter())
    tokens = Tokens(content=jnp.asarray(POINTS), times=jnp.arange(9.0)[None])
    latents = make(tokens)
    places = np.array([0, 2, 4, 6])
    np.testing.assert_allclose(latents.content, make.linear(tokens.content[:, places]), rtol=1e-12)
    np.testing.assert_array_equal(latents.times, [places] * 2)


def test_even_latents_leave_padding_out_as_long_as_there_are_elements(float64, random_model):
    mask = np.zeros((2, 9), bool)
    mask[0, [1, 2, 3, 5, 6, 7, 8]] = True
    mask[1, [4, 8]] = True
    tokens = Tokens(
        content=jnp.asarray(POINTS), mask=jnp.asarray(mask), times=jnp.arange(9.0)[None]
    )
    latents = random_model(adapter())(tokens)
    np.testing.assert_array_equal(latents.times[0], [1, 2, 5, 7])
    np.testing.assert_array_equal(latents.times[1, :2], [4, 8])
    np.testing.assert_array_equal(latents.mask, [[True] * 4, [True, True, False, False]])


@pytest.mark.parametrize("choice", ["even", "farthest"])
def test_an_encoder_starts_from_them_whatever_padding_there_is(float64, random_model, choice):
    class Given(nnx.Module):
        num_input_channels = 3

        def __call__(self, inputs, input_mask=None, *, key=None):
            return Tokens(content=inputs, mask=input_mask)

    model = random_model(
        lambda: PerceiverEncoder(
            input_adapter=Given(),
            num_latents=None,
            num_latent_channels=8,
            latent_adapter=adapter(choice=choice)(),
            num_cross_attention_heads=1,
            num_self_attention_heads=2,
            num_self_attention_layers_per_block=1,
            rngs=nnx.Rngs(0),
        )
    )
    inputs = jnp.asarray(POINTS)
    wanted = model(inputs, latents=model.latent_adapter(Tokens(content=inputs)))
    np.testing.assert_allclose(model(inputs), wanted, rtol=1e-12)
    padded = jnp.concatenate([inputs, inputs[:, :2]], axis=1)
    mask = jnp.arange(11)[None] < jnp.array([[9], [9]])
    np.testing.assert_allclose(model(padded, mask), wanted, rtol=1e-10)


def test_what_cannot_be_chosen_is_said(random_model):
    make = random_model(adapter())
    with pytest.raises(ValueError, match="4 latents cannot be chosen from 3 tokens"):
        make(Tokens(content=jnp.zeros((1, 3, 3))))
    packed = Tokens(content=jnp.zeros((1, 9, 3)), segments=jnp.zeros((1, 9), int))
    with pytest.raises(ValueError, match="several packed examples"):
        make(packed)
    with pytest.raises(ValueError, match="num_coordinates=4"):
        adapter(choice="farthest", num_coordinates=4)()
    with pytest.raises(ValueError, match="give one of the two"):
        PerceiverEncoder(
            input_adapter=make,
            num_latents=2,
            num_latent_channels=8,
            latent_adapter=make,
            rngs=nnx.Rngs(0),
        )


@pytest.mark.parametrize("masked", [False, True])
def test_places_among_millions_of_tokens_do_not_overflow(masked):
    num_tokens, num_chosen = 5_000_000, 512
    mask = jnp.ones((1, num_tokens), bool) if masked else None
    tokens = Tokens(content=jnp.zeros((1, num_tokens, 1), jnp.int8), mask=mask)
    wanted = np.arange(num_chosen, dtype=np.int64) * num_tokens // num_chosen
    np.testing.assert_array_equal(_evenly(tokens, num_chosen)[0], wanted)


def test_a_choice_that_there_is_not_is_refused():
    sizes = {"num_latents": 2, "num_input_channels": 3, "num_latent_channels": 4}
    with pytest.raises(ValueError, match="choice='fps' is none of 'even', 'farthest'"):
        LatentsFromTokens(**sizes, choice="fps", rngs=nnx.Rngs(0))


def test_tokens_of_other_channels_are_refused():
    sizes = {"num_latents": 2, "num_input_channels": 3, "num_latent_channels": 4}
    with pytest.raises(ValueError, match="tokens of 5 channels, .* num_input_channels=3; give the"):
        LatentsFromTokens(**sizes, rngs=nnx.Rngs(0))(Tokens(content=jnp.zeros((1, 6, 5))))
