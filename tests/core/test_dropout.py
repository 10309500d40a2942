import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.dropout import drop_inputs, drop_latents, dropout, split

KEY = jax.random.key(0)


def test_no_key_splits_into_no_keys():
    assert split(None, 3) == [None, None, None]
    first, second = split(KEY, 2)
    assert (jax.random.key_data(first) != jax.random.key_data(second)).any()


@pytest.mark.parametrize("rate, key", [(0.5, None), (0.0, KEY)])
def test_without_key_or_rate_everything_comes_back_untouched(rate, key):
    x = jnp.arange(12.0).reshape(1, 3, 4)
    mask = jnp.ones((1, 3), bool)
    assert dropout(x, rate, key) is x
    assert drop_inputs(mask, (1, 3), rate, key) is mask
    assert drop_inputs(None, (1, 3), rate, key) is None
    assert drop_latents(x, rate, key) is x


@pytest.mark.parametrize("rate", [0.1, 0.75])
def test_dropout_zeroes_the_fraction_and_keeps_the_mean(rate):
    x = dropout(jnp.ones((100, 400)), rate, KEY)
    kept = x[x != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-6)
    assert abs(1 - kept.size / x.size - rate) < 0.01


def test_dropout_does_not_change_the_type():
    assert dropout(jnp.ones(4, jnp.bfloat16), 0.5, KEY).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "rate, num_tokens, num_kept", [(0.5, 10, 5), (0.25, 10, 7), (0.9, 4, 1), (0.99, 10, 1)]
)
def test_drop_inputs_keeps_the_promised_number_of_each_row(rate, num_tokens, num_kept):
    mask = drop_inputs(None, (20, num_tokens), rate, KEY)
    assert mask.shape == (20, num_tokens) and mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(-1), num_kept)
    assert len(np.unique(np.asarray(mask), axis=0)) > 1


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_drop_inputs_counts_and_keeps_only_valid_tokens(rate):
    num_valid = np.asarray([0, 1, 2, 5, 8, 10])
    valid = jnp.asarray(np.arange(10)[None] < num_valid[:, None])
    valid = jnp.asarray(np.random.default_rng(0).permuted(np.asarray(valid), axis=1))
    mask = drop_inputs(valid, (6, 10), rate, KEY)
    assert not (mask & ~valid).any()
    np.testing.assert_array_equal(mask.sum(-1), np.ceil(num_valid * (1 - rate)))


def test_drop_inputs_hides_every_token_equally_often():
    mask = drop_inputs(None, (4000, 6), 0.5, KEY)
    np.testing.assert_allclose(mask.mean(0), 0.5, atol=0.04)


@pytest.mark.parametrize("rate, num_kept", [(0.5, 4), (0.3, 5), (0.95, 1)])
def test_drop_latents_keeps_the_promised_number_the_same_for_all_examples(rate, num_kept):
    latents = jnp.arange(3 * 8 * 2.0).reshape(3, 8, 2)
    kept = np.asarray(drop_latents(latents, rate, KEY))
    assert kept.shape == (3, num_kept, 2)
    # Latent i of example b is [16 b + 2 i, 16 b + 2 i + 1].
    np.testing.assert_array_equal(kept[..., 1], kept[..., 0] + 1)
    where = [[(k - 16 * b) // 2 for k in kept[b, :, 0]] for b in range(3)]
    assert where[0] == where[1] == where[2]
    assert len(set(where[0])) == num_kept
    others = [drop_latents(latents, rate, jax.random.key(i)) for i in range(1, 5)]
    assert any((other != kept).any() for other in others)
