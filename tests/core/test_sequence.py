import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.sequence import EmbeddedSequence, draw_inputs, drop_prefix, hide_inputs

KEY = jax.random.key(1)
B, M, LATENTS = 2, 12, 3


@pytest.fixture
def sequence():
    content = jnp.arange(B * M).reshape(B, M, 1)
    mask = jnp.arange(M)[None] > jnp.asarray([[1], [3]])
    return EmbeddedSequence(content=content, positions=10 * jnp.arange(M)[None], mask=mask)


def belongs_together(sequence, some, places):
    np.testing.assert_array_equal(some.content[:, :, 0], places + jnp.asarray([[0], [M]]))
    np.testing.assert_array_equal(some.positions, 10 * places)
    np.testing.assert_array_equal(some.mask, np.take_along_axis(sequence.mask, places, axis=1))


def test_so_many_of_the_prefix_are_kept_in_order_and_all_latents(sequence):
    some = drop_prefix(sequence, LATENTS, 0.5, KEY)
    places = np.asarray(some.positions) // 10
    assert places.shape == (B, 5 + LATENTS) and (np.diff(places, axis=1) > 0).all()
    assert (places[:, -LATENTS:] == np.arange(M - LATENTS, M)).all()
    assert places[0].tolist() != places[1].tolist() and some.places is None
    belongs_together(sequence, some, places)


def test_so_many_of_all_inputs_are_kept_in_order(sequence):
    some = draw_inputs(sequence, 5, KEY)
    assert some.places.shape == (B, 5) and (np.diff(some.places, axis=1) > 0).all()
    drawn = [draw_inputs(sequence, 5, key).places for key in jax.random.split(KEY, 50)]
    assert set(np.unique(np.stack(drawn)).tolist()) == set(range(M))
    belongs_together(sequence, some, some.places)


def test_hidden_inputs_are_masked_and_padding_stays_so(sequence):
    some = hide_inputs(sequence, 0.5, KEY)
    assert not (some.mask & ~sequence.mask).any()
    assert 0 < int(some.mask.sum()) < int(sequence.mask.sum())
    without = hide_inputs(dataclasses.replace(sequence, mask=None), 0.5, KEY)
    np.testing.assert_array_equal(without.mask & sequence.mask, some.mask)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda sequence, key: drop_prefix(sequence, LATENTS, 0.5, key),
        lambda sequence, key: draw_inputs(sequence, 5, key),
        lambda sequence, key: hide_inputs(sequence, 0.5, key),
    ],
)
def test_nothing_is_left_out_in_inference(sequence, reduce):
    assert reduce(sequence, None) is sequence
    assert reduce(sequence, KEY) is not sequence


def test_nothing_is_left_out_where_nothing_is_asked(sequence):
    assert drop_prefix(sequence, LATENTS, 0.1, KEY) is sequence
    assert draw_inputs(sequence, None, KEY) is sequence
    assert draw_inputs(sequence, M, KEY) is sequence
    assert hide_inputs(sequence, 0.0, KEY) is sequence
