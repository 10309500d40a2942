import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.errors import UserError
from perceiver_jax.sampling import GREEDY, Sampling, among, suppressed

PROBABILITIES = np.array([[0.4, 0.1, 0.3, 0.05, 0.15], [0.2, 0.2, 0.25, 0.3, 0.05]])
LOGITS = jnp.log(jnp.asarray(PROBABILITIES))


def kept(**fields):
    return np.isfinite(np.asarray(Sampling(**fields).restricted(LOGITS))).tolist()


def test_greedy_takes_the_most_probable():
    assert GREEDY(LOGITS, jax.random.key(0)).tolist() == [0, 3]


@pytest.mark.parametrize(
    "fields, wanted",
    [
        ({"top_k": 1}, [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]),
        ({"top_k": 2}, [[1, 0, 1, 0, 0], [0, 0, 1, 1, 0]]),
        ({"top_k": 9}, [[1] * 5] * 2),
        ({"top_p": 0.35}, [[1, 0, 0, 0, 0], [0, 0, 1, 1, 0]]),
        ({"top_p": 0.65}, [[1, 0, 1, 0, 0], [1, 1, 1, 1, 0]]),
        ({"top_p": 1.0}, [[1] * 5] * 2),
        ({"top_k": 3, "top_p": 0.7}, [[1, 0, 1, 0, 0], None]),
    ],
)
def test_the_better_tokens_are_kept(fields, wanted):
    for got, want in zip(kept(**fields), wanted, strict=True):
        assert want is None or got == [bool(x) for x in want]


def test_temperature_divides_logits_before_the_cut():
    sampling = Sampling(temperature=2.0, top_p=0.5)
    flat = np.sqrt(PROBABILITIES[0]) / np.sqrt(PROBABILITIES[0]).sum()
    assert flat[0] < 0.5 <= flat[0] + flat[2]
    difference = sampling.restricted(LOGITS)[0, 0] - sampling.restricted(LOGITS)[0, 2]
    np.testing.assert_allclose(difference, (LOGITS[0, 0] - LOGITS[0, 2]) / 2, rtol=1e-6)
    assert np.isfinite(sampling.restricted(LOGITS)[0]).sum() == 2


def test_a_temperature_near_zero_is_greedy():
    drawn = Sampling(temperature=1e-42)(LOGITS.astype(jnp.float32), jax.random.key(0))
    assert drawn.tolist() == [0, 3]


def test_draws_follow_the_probabilities_that_are_left():
    sampling = Sampling(top_k=2)
    drawn = sampling(jnp.repeat(LOGITS[:1], 20_000, axis=0), jax.random.key(0))
    frequencies = np.bincount(drawn, minlength=5) / 20_000
    np.testing.assert_allclose(frequencies, [4 / 7, 0, 3 / 7, 0, 0], atol=0.02)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": None},
        {"temperature": "1"},
        {"temperature": True},
        {"top_k": 0},
        {"top_k": 2.5},
        {"top_k": "5"},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": "0.9"},
    ],
)
def test_values_that_mean_nothing_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(UserError, match=f"{name}={value!r} .*(give|must be|not in)"):
        Sampling(**fields)


def test_numbers_of_numpy_are_numbers():
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int64(2), top_p=np.float64(0.9))
    assert hash(sampling) == hash(Sampling(temperature=0.5, top_k=2, top_p=0.9))


def test_suppressed_tokens_have_no_probability_and_the_others_share_it():
    p = jax.nn.softmax(suppressed(LOGITS, [0, 3]))
    np.testing.assert_allclose(p[0], [0, 0.1 / 0.55, 0.3 / 0.55, 0, 0.15 / 0.55], rtol=1e-6)
    assert suppressed(LOGITS, []) is LOGITS


def test_tokens_are_found_among_some():
    tokens = jnp.asarray([[1, 2], [3, 1]])
    assert among(tokens, (1, 3)).tolist() == [[True, False], [True, True]]
    assert not among(tokens, ()).any()
