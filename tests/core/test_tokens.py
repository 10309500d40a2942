import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core.position import fourier_axes
from perceiver_jax.core.tokens import Tokens

GRIDS = [(5,), (3, 4), (2, 3, 4)]
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_dense_puts_each_axis_table_at_every_grid_point(grid, ordered):
    tables = tuple(draw(size, 2 + axis) for axis, size in enumerate(grid))
    num_columns = sum(table.shape[1] for table in tables)
    order = tuple(int(i) for i in RNG.permutation(num_columns)) if ordered else None
    content = draw(2, *grid, 3)
    tokens = Tokens(content=jnp.asarray(content), positions=tables, order=order)

    meshes = np.meshgrid(*(np.arange(size) for size in grid), indexing="ij")
    features = np.concatenate([t[mesh] for t, mesh in zip(tables, meshes, strict=True)], -1)
    features = features[..., list(order)] if ordered else features
    features = np.broadcast_to(features, (2, *features.shape))
    want = np.concatenate([content, features], -1).reshape(2, -1, 3 + num_columns)

    assert tokens.grid == grid and tokens.num_tokens == np.prod(grid)
    np.testing.assert_array_equal(jax.jit(Tokens.dense)(tokens), want)


@pytest.mark.parametrize("channel_order", ["deepmind", "lucidrains"])
def test_tables_are_rounded_once_and_stay_precise_beside_bfloat16_content(channel_order):
    tables, order = fourier_axes((3, 4), num_bands=2, channel_order=channel_order)
    for dtype in (jnp.float32, jnp.bfloat16):
        tokens = Tokens(content=jnp.zeros((1, 3, 4, 1), dtype), positions=tables, order=order)
        assert tokens.dense().dtype == jnp.float32
        got = tokens.dense()[0, 2 * 4 + 1, 1:]
        want = np.concatenate([tables[0][2], tables[1][1]])[list(order)]
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_without_positions_the_content_is_flattened_row_by_row():
    content = draw(2, 3, 4, 5)
    tokens = Tokens(content=jnp.asarray(content))
    assert tokens.dense_positions() is None
    np.testing.assert_array_equal(tokens.dense()[:, 4 * 2 + 3], content[:, 2, 3])
    np.testing.assert_array_equal(tokens.dense(), content.reshape(2, 12, 5))


@pytest.mark.parametrize("sizes", [(3,), (4, 3), (3, 5), (3, 4, 2)])
def test_tables_that_do_not_fit_the_grid_are_refused(sizes):
    tokens = Tokens(content=jnp.zeros((1, 3, 4, 2)), positions=tuple(draw(s, 2) for s in sizes))
    with pytest.raises(ValueError, match="do not fit a content grid of"):
        tokens.dense()


def test_tokens_pass_through_compiled_functions():
    tables, order = fourier_axes((3, 4), num_bands=2)
    tokens = Tokens(
        content=jnp.zeros((2, 3, 4, 1)),
        positions=tables,
        order=order,
        mask=jnp.ones((2, 12), bool),
    )
    back = jax.jit(lambda t: t)(tokens)
    assert back.order == order and back.mask.shape == (2, 12) and len(back.positions) == 2


def some_tokens(num_content, *, batch=2, masked=False, ordered=True):
    grid = (3, 4)
    tables, order = fourier_axes(grid, num_bands=2)
    mask = jnp.asarray(RNG.random((batch, 12)) < 0.5) if masked else None
    content = jnp.asarray(draw(batch, *grid, num_content))
    order = order if ordered else None
    return Tokens(content=content, positions=tables, order=order, mask=mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_content", [0, 3])
@pytest.mark.parametrize("ordered", [False, True])
def test_some_tokens_are_rows_of_the_dense_ones(num_content, masked, ordered):
    tokens = some_tokens(num_content, masked=masked, ordered=ordered)
    indices = np.array([[11, 0, 5], [5, 5, 7]])
    some = jax.jit(Tokens.at)(tokens, indices)
    wanted = np.take_along_axis(np.asarray(tokens.dense()), indices[..., None], 1)
    assert some.num_tokens == 3 and some.num_channels == tokens.num_channels
    np.testing.assert_array_equal(some.dense(), wanted)
    if masked:
        wanted = np.take_along_axis(np.asarray(tokens.mask), indices, 1)
        np.testing.assert_array_equal(some.mask, wanted)
    else:
        assert some.mask is None


@pytest.mark.parametrize(("batch", "num_sets"), [(1, 2), (2, 1), (1, 1)])
def test_one_example_or_one_set_of_indices_stands_for_all(batch, num_sets):
    tokens = some_tokens(2, batch=batch, masked=True)
    indices = np.array([[3, 1], [9, 2]])[:num_sets]
    some = tokens.at(indices)
    both = max(batch, num_sets)
    assert some.dense().shape == (both, 2, tokens.num_channels) and some.mask.shape == (both, 2)
    for i in range(both):
        chosen = indices[i % num_sets]
        np.testing.assert_array_equal(some.dense()[i], tokens.dense()[i % batch][chosen])
        np.testing.assert_array_equal(some.mask[i], tokens.mask[i % batch][chosen])


def test_some_tokens_without_positions_are_some_of_the_content():
    content = draw(2, 3, 4, 5)
    some = Tokens(content=jnp.asarray(content)).at(np.array([[7, 2]]))
    np.testing.assert_array_equal(some.content, content.reshape(2, 12, 5)[:, [7, 2]])


def test_tokens_may_be_nothing_but_their_place():
    tokens = some_tokens(0, batch=1)
    assert tokens.num_channels == 10 and tokens.num_tokens == 12
    np.testing.assert_array_equal(tokens.dense()[0], tokens.dense_positions())
    indices = np.array([4, 11, 0])
    np.testing.assert_array_equal(tokens.positions_at(indices), tokens.dense()[0, indices])
