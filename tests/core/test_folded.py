import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from perceiver_jax.core.dense import attend
from perceiver_jax.core.folded import attend_folded, is_cheaper

B, N, M, H, C, K, V = 2, 3, 7, 2, 6, 4, 5
MASK_SHAPES = [None, *itertools.product((B, 1), (H, 1), (N, 1), (M,))]


def draw(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape))


def arguments(batch=1, bias=True):
    return {
        "q": draw(batch, N, H, K),
        "inputs": draw(B, M, C),
        "key_kernel": draw(C, H * K),
        "value_kernel": draw(C, H * V),
        "value_bias": 3 + draw(H * V) if bias else None,
    }


def unfolded(q, inputs, mask, *, key_kernel, value_kernel, value_bias, masked_rows):
    values = inputs @ value_kernel
    if value_bias is not None:
        values = values + value_bias[None, None]
    k, v = (rearrange(x, "b m (h c) -> b m h c", h=H) for x in (inputs @ key_kernel, values))
    return attend(q, k, v, mask, masked_rows=masked_rows)


@pytest.mark.parametrize("masked_rows", ["zero", "uniform"])
@pytest.mark.parametrize("mask_shape", MASK_SHAPES)
@pytest.mark.parametrize("batch, bias", [(1, True), (B, False)])
def test_folding_changes_no_result_and_no_gradient(float64, mask_shape, masked_rows, batch, bias):
    mask = None
    if mask_shape is not None:
        mask = np.random.default_rng(1).random(mask_shape) < 0.5
        mask[0, 0, 0] = False
        mask = jnp.asarray(mask)
    weights = draw(B, N, H * V)

    def outputs(form):
        def value(arguments):
            rest = dict(arguments)
            q, inputs = rest.pop("q"), rest.pop("inputs")
            result = form(q, inputs, mask, masked_rows=masked_rows, **rest)
            return (result * weights).sum(), result

        gradients, result = jax.grad(value, has_aux=True)(arguments(batch, bias))
        return [result, *jax.tree.leaves(gradients)]

    for got, wanted in zip(outputs(attend_folded), outputs(unfolded), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "num_queries, num_heads, expected", [(1, 1, True), (512, 1, False), (256, 8, False)]
)
def test_few_queries_fold(num_queries, num_heads, expected):
    sizes = {"num_inputs": 512, "num_channels": 1024, "num_qk_channels": 1024}
    sizes |= {"num_v_channels": 1024, "num_heads": num_heads, "num_queries": num_queries}
    assert is_cheaper(**sizes) is expected
