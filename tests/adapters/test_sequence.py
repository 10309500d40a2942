import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.adapters import LinearLogits, SequenceEmbedding, TiedLogits
from perceiver_jax.core.linear import InitConfig

IDS = jnp.asarray([[3, 0, 2], [1, 1, 4]])
POSITIONS = jnp.asarray([[[0, 3], [1, 0], [2, 2]], [[5, 1], [4, 1], [0, 0]]])


def embedding(**fields):
    sizes = {"vocab_size": 5, "max_seq_len": 6, "num_input_channels": 8}
    return SequenceEmbedding(**(sizes | {"init": InitConfig()} | fields), rngs=nnx.Rngs(0))


def test_rows_of_all_tables_are_added():
    adapter = embedding(position_shape=(6, 4))
    first, second = (table[...] for table in adapter.position_embedding)
    got = adapter.embed(IDS, POSITIONS)
    for b, m in np.ndindex(2, 3):
        i, j = POSITIONS[b, m]
        wanted = adapter.token_embedding[IDS[b, m]] + first[i] + second[j]
        np.testing.assert_allclose(got[b, m], wanted, rtol=1e-6)


def test_what_is_outside_of_its_table_is_nan_under_jit():
    adapter = embedding()
    ids, positions = np.array([[1, 5, 1]]), np.array([[[0], [0], [6]]])
    content = np.asarray(jax.jit(adapter.embed)(ids, positions))
    np.testing.assert_array_equal(np.isnan(content).all(-1), [[False, True, True]])


def test_ids_outside_of_the_vocabulary_are_refused_but_for_padding():
    ids = np.array([[0, 5]])
    with pytest.raises(ValueError, match="token ids from 0 to 5 are not all in 0 to 4"):
        embedding().embed(ids, np.zeros((1, 2, 1), int))
    mask = np.array([[True, False]])
    places = np.zeros((1, 2, 1), int)
    padded = embedding().embed(ids, places, mask)
    np.testing.assert_array_equal(padded, embedding().embed(np.zeros((1, 2), int), places))


def test_positions_of_padding_may_be_anything():
    mask = np.array([[False, True, True]])
    got = embedding().checked_positions(jnp.array([[-1, 0, 1]]), 1, 3, mask)
    np.testing.assert_array_equal(got[:, :, 0], [[0, 0, 1]])
    rows = embedding().checked_positions(jnp.array([[-1, 0, 1]]), 2, 3, np.repeat(mask, 2, 0))
    assert rows.shape == (2, 3, 1)
    with pytest.raises(ValueError, match="positions from -1 to 1 are not all in 0 to 5"):
        embedding().checked_positions(jnp.array([[-1, 0, 1]]), 1, 3, ~mask | mask)


def test_without_tables_positions_do_not_matter():
    adapter = embedding(abs_pos_emb=False)
    got = adapter.embed(IDS, POSITIONS[:, :, :1])
    np.testing.assert_array_equal(got, adapter.token_embedding[...][IDS])


@pytest.mark.parametrize("trained", [True, False])
def test_no_gradient_reaches_a_fixed_table(trained):
    adapter = embedding(train_positions=trained)
    gradient = jax.grad(lambda m: jnp.square(m.embed(IDS, POSITIONS[:, :, :1])).sum())(adapter)
    assert jnp.any(gradient.position_embedding[0][...] != 0) == trained
    assert jnp.any(gradient.token_embedding[...] != 0)


def test_sinusoidal_tables():
    (table,) = (t[...] for t in embedding(position_table="sinusoidal").position_embedding)
    wavelengths = 10_000 ** (np.arange(4) / 3)
    angles = np.arange(6)[:, None] / wavelengths
    wanted = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(table, wanted, atol=1e-6)


def test_fourier_tables():
    (table,) = (t[...] for t in embedding(position_table="fourier").position_embedding)
    angles = np.pi * np.linspace(-1, 1, 6)[:, None] * np.linspace(1, 3, 4)
    wanted = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(table, wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["sinusoidal", "fourier"])
def test_an_odd_channel_is_left_at_zero(kind):
    adapter = embedding(position_table=kind, num_input_channels=9)
    assert not adapter.position_embedding[0][...][:, -1].any()


def test_sines_need_channels():
    with pytest.raises(ValueError, match="3 channels are too few for sinusoidal positions"):
        embedding(position_table="sinusoidal", num_input_channels=3)


@pytest.mark.parametrize(
    "shape, positions, message",
    [
        (
            (6, 4),
            np.zeros((2, 3), int),
            r"\(2, 3, 1\) do not go with 2 rows.* has 2; give",
        ),
        ((6,), np.zeros((2, 4), int), r"\(2, 4, 1\) do not go with 2 rows of 3 tokens"),
        ((6,), np.zeros(3, int), r"positions of shape \(3,\)"),
        ((6,), np.zeros((3, 3), int), r"give \[2 or 1, 3, 1\]"),
        ((6,), np.zeros((2, 3)), "float.* cannot choose rows of a table"),
        ((6,), np.full((2, 3), 6), "positions from 6 to 6 are not all in 0 to 5"),
        ((6, 4), np.full((2, 3, 2), 4), "0 to 3; the model's table 1 has a row"),
    ],
)
def test_positions_that_do_not_go_with_tokens_are_refused(shape, positions, message):
    with pytest.raises(ValueError, match=message):
        embedding(position_shape=shape).checked_positions(jnp.asarray(positions), 2, 3)


def test_positions_that_turn_may_be_real():
    adapter = embedding(abs_pos_emb=False)
    assert adapter.checked_positions(jnp.zeros((1, 3)), 2, 3).shape == (1, 3, 1)


def test_counting_tells_one_position_alone():
    embedding().check_counted()
    with pytest.raises(ValueError, match="2 positions, which counting does not tell"):
        embedding(position_shape=(6, 4)).check_counted()


@pytest.mark.parametrize("bias", [True, False])
def test_tied_logits_are_products_with_the_table(bias):
    latents, table = jnp.ones((1, 2, 8)), jnp.arange(40.0).reshape(5, 8)
    logits = TiedLogits(vocab_size=5, bias=bias)
    np.testing.assert_allclose(logits(latents, embedding=table)[0, 1], table.sum(1))
    assert hasattr(logits, "bias") == bias


@pytest.mark.parametrize("zero", [True, False])
def test_a_layer_of_its_own_may_start_at_zero(zero):
    options = {"vocab_size": 5, "num_channels": 8, "bias": True, "zero": zero}
    logits = LinearLogits(**options, init=InitConfig(), rngs=nnx.Rngs(0))
    assert not jnp.any(logits(jnp.ones((1, 2, 8)))) == zero
