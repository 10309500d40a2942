import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.core import fused
from perceiver_jax.core.dense import attend
from perceiver_jax.core.fused import attend_fused, cuda_capability, fused_possible

B, N, M, H, K = 2, 4, 6, 2, 8
MASK_SHAPES = [None, (1, 1, 1, M), (B, 1, 1, M), (1, H, N, M), (B, 1, N, M), (B, H, N, M)]
AMPERE, HOPPER = (8, 0), (9, 0)


@pytest.fixture
def on_any_device(monkeypatch):
    """What is asked of the kernel, computed without it."""
    monkeypatch.setattr(fused, "IMPLEMENTATION", "xla")


def draw(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng((seed, *shape)).normal(size=shape), dtype)


def draw_qkv(num_queries=N, num_keys=M, channels=K, dtype=jnp.float32):
    return (
        draw(B, num_queries, H, channels, dtype=dtype),
        draw(B, num_keys, H, channels, dtype=dtype),
        draw(B, num_keys, H, channels, seed=1, dtype=dtype),
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


def assert_equal_to_dense(q, k, v, mask=None, atol=2e-6, **options):
    def with_gradients(attention):
        def loss(q, k, v):
            result = attention(q, k, v, mask, **options)
            return jnp.square(result.astype(jnp.float32)).sum(), result

        grads, result = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
        return result, *grads

    for ours, theirs in zip(with_gradients(attend_fused), with_gradients(dense), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            ours.astype(float), theirs.astype(float), atol=atol, rtol=atol, strict=True
        )


@pytest.mark.parametrize("causal, masked_rows", [(False, "zero"), (True, "uniform")])
@pytest.mark.parametrize("mask_shape", MASK_SHAPES)
def test_the_kernel_is_asked_for_what_attend_defines(
    on_any_device, mask_shape, causal, masked_rows
):
    mask = draw_mask(mask_shape)
    assert_equal_to_dense(*draw_qkv(), mask, causal=causal, masked_rows=masked_rows)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
def test_queries_whose_past_is_masked_see_nothing(on_any_device, masked_rows):
    mask = (jnp.arange(M) > M - N + 1)[None, None, None]
    assert_equal_to_dense(*draw_qkv(), mask, causal=True, masked_rows=masked_rows)


@pytest.mark.parametrize("batches", [(1, B, B, B), (B, 1, 1, B), (1, 1, 1, B), (1, 1, 1, 1)])
def test_operands_of_batch_one_meet_every_example(on_any_device, batches):
    mask = draw_mask((B, 1, 1, M))
    operands = zip((*draw_qkv(), mask), batches, strict=True)
    assert_equal_to_dense(*(x[:batch] for x, batch in operands))


@pytest.mark.parametrize("num_queries, by_kernel", [(M, True), (N, False)])
def test_the_kernel_is_causal_itself_where_queries_are_as_many_as_keys(
    on_any_device, monkeypatch, num_queries, by_kernel
):
    calls, original = [], jax.nn.dot_product_attention

    def record(*args, **options):
        calls.append(options)
        return original(*args, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    assert_equal_to_dense(*draw_qkv(num_queries), causal=True)
    assert calls[0]["is_causal"] == by_kernel == (calls[0]["mask"] is None)


def test_causal_queries_must_not_outnumber_keys():
    with pytest.raises(ValueError, match="causal attention of 8 queries to 6 keys"):
        attend_fused(*draw_qkv(num_queries=8), causal=True)


def possible(
    capability=HOPPER, num_queries=512, num_keys=4096, qk=64, v=64, dtype=jnp.bfloat16, q_dtype=None
):
    return fused_possible(
        jax.ShapeDtypeStruct((1, num_queries, 8, qk), q_dtype or dtype),
        jax.ShapeDtypeStruct((4, num_keys, 8, qk), dtype),
        jax.ShapeDtypeStruct((4, num_keys, 8, v), dtype),
        capability,
    )


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"dtype": jnp.float16},
        {"capability": AMPERE, "qk": 128, "v": 128},
        {"capability": HOPPER, "qk": 256, "v": 256},
        {"capability": (10, 0)},
        {"num_queries": 2, "num_keys": 2},
    ],
)
def test_possible(case):
    assert possible(**case)


@pytest.mark.parametrize(
    "case",
    [
        {"capability": None},
        {"capability": (7, 5)},
        {"dtype": jnp.float32},
        {"q_dtype": jnp.float32},
        {"q_dtype": jnp.float16},
        {"qk": 32, "v": 160},
        {"qk": 261, "v": 261},
        {"qk": 36, "v": 36},
        {"capability": AMPERE, "qk": 136, "v": 136},
        {"capability": HOPPER, "qk": 264, "v": 264},
        {"num_queries": 1},
        {"num_keys": 785},
    ],
)
def test_not_possible(case):
    assert not possible(**case)


def test_capability_is_that_of_the_device(monkeypatch):
    class Device:
        compute_capability = "12.1"

        class client:
            platform_version = "PJRT C API\ncuda 13000"

    monkeypatch.setattr(jax, "local_devices", lambda: [Device])
    assert cuda_capability() == (12, 1)
    Device.client.platform_version = "PJRT C API\nrocm 70000"
    assert cuda_capability() is None


@pytest.mark.gpu
@pytest.mark.parametrize("causal, masked_rows", [(False, "zero"), (True, "uniform")])
@pytest.mark.parametrize("mask_shape", [None, (B, 1, 1, 256), (B, H, 64, 256)])
def test_the_kernel_equals_attend_to_its_own_rounding(mask_shape, causal, masked_rows):
    q, k, v = draw_qkv(64, 256, 64, jnp.bfloat16)
    assert fused_possible(q, k, v, cuda_capability())
    mask = draw_mask(mask_shape)
    assert_equal_to_dense(q, k, v, mask, atol=0.03, causal=causal, masked_rows=masked_rows)
