import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core import blocks
from perceiver_jax.core.blockwise import attend_blockwise, worthwhile
from perceiver_jax.core.dense import attend

B, N, M, H, K, V = 2, 7, 11, 2, 4, 6
MASK_SHAPES = [None, *itertools.product((B, 1), (H, 1), (N, 1), (M,))]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of four queries and four keys, so that small arrays have several."""
    monkeypatch.setattr(blocks, "MIN_BLOCK", 2)
    monkeypatch.setattr(blocks, "MAX_BLOCK", 4)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng((seed, *shape)).normal(size=shape))


def draw_qkv(batch=B, num_queries=N, num_keys=M):
    return (
        draw(batch, num_queries, H, K),
        draw(batch, num_keys, H, K),
        draw(batch, num_keys, H, V, seed=1),
    )


def draw_mask(shape):
    """Random, with a row that forbids everything and one that allows everything."""
    if shape is None:
        return None
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[-1, -1, -1] = True
    mask[0, 0, 0] = False
    return jnp.asarray(mask)


def dense(q, k, v, mask=None, *, causal=False, masked_rows="zero"):
    """`attend` with the causal mask written out."""
    if causal:
        num_queries, num_keys = q.shape[1], k.shape[1]
        past = jnp.tri(num_queries, num_keys, num_keys - num_queries, dtype=bool)[None, None]
        mask = past if mask is None else mask & past
    return attend(q, k, v, mask, masked_rows=masked_rows)


def with_gradients(attention, q, k, v, mask=None, **options):
    """The result and the gradients of q, k and v for a random gradient of the result."""

    @jax.jit
    def run(q, k, v, mask):
        result, pull = jax.vjp(lambda *qkv: attention(*qkv, mask, **options), q, k, v)
        weights = jnp.cos(jnp.arange(result.size, dtype=result.dtype)).reshape(result.shape)
        return result, *pull(weights)

    return run(q, k, v, mask)


def assert_equal_to_dense(q, k, v, mask=None, atol=1e-12, **options):
    got = with_gradients(attend_blockwise, q, k, v, mask, **options)
    want = with_gradients(dense, q, k, v, mask, **options)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours.astype(float), theirs.astype(float), atol=atol, rtol=atol, strict=True
        )


@pytest.mark.parametrize("mask_shape", MASK_SHAPES)
def test_result_and_gradients_are_those_of_attend(float64, mask_shape):
    mask = draw_mask(mask_shape)
    assert_equal_to_dense(*draw_qkv(), mask, causal=True, masked_rows="uniform")


@pytest.mark.parametrize("causal, masked_rows", [(False, "uniform"), (True, "zero")])
def test_queries_that_may_attend_to_nothing(float64, causal, masked_rows):
    """The first keys are masked, so that under causality the first queries see nothing either."""
    mask = (jnp.arange(M) > M - N + 2)[None, None, None] & draw_mask((B, 1, N, M))
    assert_equal_to_dense(*draw_qkv(), mask, causal=causal, masked_rows=masked_rows)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_queries, num_keys", [(1, 1), (1, 9), (4, 8), (5, 5), (3, 18)])
def test_sizes_need_not_be_multiples_of_blocks(float64, num_queries, num_keys, causal):
    q, k, v = draw_qkv(1, num_queries, num_keys)
    assert_equal_to_dense(q, k, v, causal=causal)


@pytest.mark.parametrize("batches", [(1, B, B, B), (B, 1, 1, B), (1, 1, 1, B), (1, 1, 1, 1)])
def test_operands_of_batch_one_meet_every_example(float64, batches):
    mask = draw_mask((B, 1, 1, M))
    operands = zip((*draw_qkv(), mask), batches, strict=True)
    assert_equal_to_dense(*(x[:batch] for x, batch in operands))


def test_under_vmap(float64):
    q, k, v = (jnp.stack([x, x[:, ::-1] * 2, -x]) for x in draw_qkv())
    mask = jnp.stack([draw_mask((B, 1, N, M))] * 3)
    got, want = (
        jax.vmap(lambda *x, f=f: with_gradients(f, *x, causal=True))(q, k, v, mask)
        for f in (attend_blockwise, dense)
    )
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_under_checkpoint_in_a_differentiated_scan(float64):
    def loss(attention, q, k, v):
        @jax.checkpoint
        def step(q, _):
            result = attention(q, k, v, causal=True).reshape(B, N, H, V)[..., :K]
            return q + jnp.sin(result), None

        return jnp.square(jax.lax.scan(step, q, length=3)[0]).sum()

    got, want = (
        jax.jit(jax.grad(lambda *x, f=f: loss(f, *x), argnums=(0, 1, 2)))(*draw_qkv())
        for f in (attend_blockwise, dense)
    )
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_bfloat16_has_its_own_rounding_only():
    q, k, v = (x.astype(jnp.bfloat16) for x in draw_qkv())
    assert_equal_to_dense(q, k, v, draw_mask((B, 1, N, M)), atol=0.05, causal=True)


def test_scores_of_any_size_neither_overflow_nor_vanish(float64):
    """In blocks of growing, and of falling, scores."""
    q, k, v = draw_qkv()
    ramp = 1e4 * jnp.arange(M)[None, :, None, None]
    for keys in (k + ramp, k - ramp):
        assert_equal_to_dense(jnp.abs(q), keys, v, atol=1e-10, causal=True)


def test_keys_after_a_block_of_queries_are_not_computed():
    q, k, v = draw_qkv(num_queries=8, num_keys=12)
    result = attend_blockwise(q, k, v.at[:, -1].set(jnp.nan), causal=True)
    assert jnp.isfinite(result[:, :4]).all()
    assert jnp.isnan(result[:, -1]).all()


def test_causal_queries_must_not_outnumber_keys():
    with pytest.raises(ValueError, match="causal attention of 7 queries to 5 keys"):
        attend_blockwise(*draw_qkv(num_keys=5), causal=True)


def test_no_array_has_both_all_queries_and_all_keys(equations):
    num_queries, num_keys = 40, 60
    q, k, v = draw_qkv(1, num_queries, num_keys)
    mask = draw_mask((1, 1, 1, num_keys))
    jaxpr = jax.make_jaxpr(
        lambda *x: with_gradients(attend_blockwise, *x, causal=True, masked_rows="uniform")
    )(q, k, v, mask)
    largest = max(var.aval.size for e in equations(jaxpr) for var in e.outvars)
    assert largest == v.size


def test_of_what_grows_with_keys_only_their_gradients_are_kept(monkeypatch):
    monkeypatch.undo()  # blocks as they are
    bytes_per_key = 2 * 2 * 16 * 4  # gradients of a key and a value, which parts put together

    def temporaries(num_keys):
        shape = jax.ShapeDtypeStruct
        q, k = shape((1, 64, 2, 16), jnp.float32), shape((1, num_keys, 2, 16), jnp.float32)
        grad = jax.grad(lambda *x: attend_blockwise(*x, causal=True).sum(), argnums=(0, 1, 2))
        compiled = jax.jit(grad).lower(q, k, k).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    grown = temporaries(2**14) - temporaries(2**12)
    assert 0 <= grown <= bytes_per_key * (2**14 - 2**12)
    monkeypatch.setattr(blocks, "num_parts", lambda: 1)
    assert temporaries(2**14) == temporaries(2**12) < 2**20


def test_worthwhile_is_a_matter_of_shapes(monkeypatch):
    monkeypatch.undo()  # blocks as they are

    def decide(num_queries, num_keys, channels=64, heads=8):
        q = jax.ShapeDtypeStruct((1, num_queries, heads, channels), jnp.float32)
        k = jax.ShapeDtypeStruct((1, num_keys, heads, channels), jnp.float32)
        return worthwhile(q, k)

    assert decide(512, 4096)
    assert decide(512, 128)
    assert not decide(64, 128)
    assert not decide(1, 131072)
    assert not decide(32, 50176, channels=128)
    assert not decide(32, 32, channels=16, heads=512)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
def test_a_query_that_is_not_a_number_stays_so(masked_rows):
    q, k, v = draw_qkv()
    mask = jnp.ones((1, 1, 1, k.shape[1]), bool)
    result = attend_blockwise(q.at[:, 0].set(jnp.nan), k, v, mask, masked_rows=masked_rows)
    assert jnp.isnan(result[:, 0]).all() and jnp.isfinite(result[:, 1:]).all()
