import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.relations import followed_by, relate
from perceiver_jax.core.rotary_time import RotaryTimeConfig
from perceiver_jax.core.tokens import Tokens


def tokens(num, *, batch=1, channels=2, **fields):
    return Tokens(content=jnp.ones((batch, num, channels)), **fields)


def test_tokens_of_which_nothing_is_said_all_attend():
    assert relate(tokens(3), tokens(4)) == (None, None)


def test_attention_goes_to_elements_of_the_same_segment_and_never_to_padding():
    queries = tokens(3, segments=jnp.array([[0, 1, 7]]), mask=jnp.array([[True, False, True]]))
    inputs = tokens(
        4, segments=jnp.array([[0, 1, 1, 0]]), mask=jnp.array([[True, True, False, True]])
    )
    wanted = [[True, False, False, True], [False, True, False, False], [False] * 4]
    np.testing.assert_array_equal(relate(queries, inputs).mask, np.array(wanted)[None, None])


def test_a_mask_alone_is_the_same_for_all_queries():
    mask = jnp.array([[True, False]])
    assert relate(tokens(3), tokens(2, mask=mask)).mask.shape == (1, 1, 1, 2)


def test_moments_turn_only_where_that_is_asked_for():
    timed = tokens(2, times=jnp.array([[0.0, 1.0]]))
    assert relate(timed, timed).rotation is None
    rotary = RotaryTimeConfig(num_channels=4, min_period=1.0, max_period=2.0, values=True)
    rotation = relate(tokens(1, times=jnp.array([[0.5]])), timed, rotary).rotation
    np.testing.assert_allclose(rotation.angles[0, 1], [2 * np.pi, np.pi], rtol=1e-6)
    np.testing.assert_allclose(rotation.of_queries(1).angles[0, 0], [np.pi, np.pi / 2], rtol=1e-6)
    assert rotation.values and rotation.of_queries(1).values


@pytest.mark.parametrize(
    "queries, inputs, said",
    [
        ({"segments": 3}, {}, "its inputs have none"),
        ({}, {"segments": 4}, "its queries have none"),
        ({"times": 3}, {}, "its inputs have no moments"),
        ({}, {"times": 4}, "its queries have no moments"),
        ({"times": 5}, {"times": 4}, r"times of shape \(1, 5\) does not fit queries"),
        ({"times": 3}, {"times": 4, "mask": 3}, r"mask of shape \(1, 3\) does not fit inputs"),
    ],
)
def test_what_does_not_go_together_is_said(queries, inputs, said):
    made = (
        tokens(num, **{name: jnp.zeros((1, size), bool) for name, size in fields.items()})
        for num, fields in ((3, queries), (4, inputs))
    )
    with pytest.raises(ValueError, match=said):
        relate(*made, RotaryTimeConfig(num_channels=2))


def test_one_after_the_other_repeats_a_batch_of_one_and_fills_masks():
    first = tokens(2, batch=3, mask=jnp.zeros((3, 2), bool), times=jnp.zeros((1, 2)))
    second = tokens(1, times=jnp.ones((1, 1)))
    both = followed_by(first, second)
    assert both.content.shape == (3, 3, 2)
    np.testing.assert_array_equal(both.mask, [[False, False, True]] * 3)
    np.testing.assert_array_equal(both.times, [[0, 0, 1]] * 3)
    assert both.segments is None


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"times": jnp.zeros((1, 1))}, "only one has times"),
        ({"segments": jnp.zeros((1, 1), int)}, "only one has segments"),
        ({"channels": 3}, "of 2 and of 3 channels"),
    ],
)
def test_tokens_that_differ_in_kind_cannot_be_put_together(fields, said):
    with pytest.raises(ValueError, match=said):
        followed_by(tokens(2), tokens(1, **fields))


def test_content_for_all_may_have_moments_for_each():
    times = jnp.asarray(np.arange(6.0).reshape(2, 3))
    one = tokens(3, times=times)
    chosen = one.at(jnp.array([[0, 2]]))
    np.testing.assert_array_equal(chosen.times, [[0, 2], [3, 5]])
    both = followed_by(one, tokens(1, times=jnp.ones((1, 1))))
    np.testing.assert_array_equal(both.times, [[0, 1, 2, 1], [3, 4, 5, 1]])
    assert both.content.shape == (2, 4, 2)
