"""What rows of weights go back to, against products written out."""

import jax
import numpy as np
import pytest

from perceiver_jax.core import MeanPoolHead, Perceiver
from perceiver_jax.pipelines.attention_rollout import attention_rollout

CROSS, LAYER = "encoder/step/{}/cross_attention", "encoder/step/{}/block/layer/{}"
B, H, N, M = 2, 3, 4, 5


def stochastic(rng, *shape):
    """Random weights whose rows sum to 1."""
    weights = rng.uniform(size=shape) ** 3
    return weights / weights.sum(-1, keepdims=True)


@pytest.fixture
def maps():
    """Two cross-attentions, three blocks of two layers."""
    rng = np.random.default_rng(0)
    made = {CROSS.format(step): stochastic(rng, B, H, N, M) for step in range(2)}
    for step in range(3):
        for layer in range(2):
            made[LAYER.format(step, layer)] = stochastic(rng, B, H, N, N)
    return made


@pytest.fixture
def rows():
    return stochastic(np.random.default_rng(1), B, 2, N)


def forward(maps, rows, share):
    """The product in the order in which the model computes, latents by inputs and all."""
    latents = np.zeros((B, N, M))
    for step in range(3):
        if step < 2:
            latents = (1 - share) * latents + share * maps[CROSS.format(step)].mean(1)
        for layer in range(2):
            weights = maps[LAYER.format(step, layer)].mean(1)
            latents = (0.5 * np.eye(N) + 0.5 * weights) @ latents
    return rows @ latents


def test_two_latents_by_hand():
    maps = {
        CROSS.format(0): np.array([[[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]]]),
        LAYER.format(0, 0): np.array([[[[0.0, 1.0], [0.5, 0.5]]]]),
    }
    # 0.5 I + 0.5 A is [[0.5, 0.5], [0.25, 0.75]], of which the row (0, 1) takes the second.
    inputs, latents = attention_rollout(maps, np.array([[[0.0, 1.0]]]))
    np.testing.assert_allclose(latents[0], [[[0.125, 0.375]]])
    np.testing.assert_allclose(inputs, [[[0.125, 0.1875, 0.1875]]])


@pytest.mark.parametrize(("residual", "share", "total"), [(True, 0.5, 0.75), (False, 1.0, 1.0)])
def test_it_is_the_product_of_all_layers_with_their_residuals(maps, rows, residual, share, total):
    inputs, latents = attention_rollout(maps, rows, cross_attention_residual=residual)
    np.testing.assert_allclose(inputs, forward(maps, rows, share), rtol=1e-12)
    np.testing.assert_allclose(inputs.sum(-1), total, rtol=1e-12)
    parts = [through @ maps[CROSS.format(i)].mean(1) for i, through in enumerate(latents)]
    assert len(parts) == 2
    np.testing.assert_allclose(inputs, sum(parts), rtol=1e-12)


def test_rows_are_each_latent_where_they_are_the_identity(maps):
    each = attention_rollout(maps, np.eye(N)[None]).inputs
    assert each.shape == (B, N, M)
    np.testing.assert_allclose(each, forward(maps, np.eye(N), 0.5), rtol=1e-12)


def test_the_order_of_maps_does_not_matter(maps, rows):
    want = attention_rollout(maps, rows).inputs
    for names in (sorted(maps), sorted(maps, reverse=True)):
        found = attention_rollout({name: maps[name] for name in names}, rows).inputs
        np.testing.assert_array_equal(found, want)


def test_names_are_those_that_models_record(random_model, tiny_encoder):
    from flax import nnx

    def build():
        encoder = tiny_encoder(
            num_self_attention_blocks=11,
            num_self_attention_layers_per_block=2,
            num_cross_attention_layers=11,
        )
        head = MeanPoolHead(num_latent_channels=8, num_classes=3, rngs=nnx.Rngs(0))
        return Perceiver(encoder, head)

    inputs = np.random.default_rng(0).standard_normal((2, 7, 6)).astype(np.float32)
    maps = jax.jit(lambda model, x: model.attention_maps(x))(random_model(build), inputs)
    rollout = attention_rollout(maps, np.full((1, 1, 4), 0.25))
    assert rollout.inputs.shape == (2, 1, 7) and len(rollout.latents) == 11
    np.testing.assert_allclose(rollout.inputs.sum(-1), 1 - 0.5**11, rtol=1e-5)
    # The last blocks count: each cross-attention halves what is left for those before it.
    shares = [through.sum() / 2 for through in rollout.latents]
    np.testing.assert_allclose(shares, [0.5**i for i in range(11, 0, -1)], rtol=1e-5)


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match="no encoder/step/0/cross_attention among 1 maps"):
        attention_rollout({"decoder/cross_attention": np.ones((1, 1, 1, 4))}, np.ones((1, 1, 4)))


@pytest.mark.parametrize("residual", [True, False])
def test_what_latents_gave_to_latents_goes_back_to_them(residual):
    """Keys are [inputs; latents]: products of square matrices over inputs and latents together."""
    rng = np.random.default_rng(0)
    maps = {CROSS.format(step): stochastic(rng, B, H, N, M + N) for step in range(2)}
    for step in range(2):
        maps[LAYER.format(step, 0)] = stochastic(rng, B, H, N, N)
    rows = stochastic(rng, B, 2, N)
    rollout = attention_rollout(
        maps, rows, cross_attention_residual=residual, latents_contribute_kv=True
    )
    share = 0.5 if residual else 1.0
    latents = np.zeros((B, N, M + N))
    latents[:, :, M:] = np.eye(N)
    for step in range(2):
        cross = maps[CROSS.format(step)].mean(1)
        found = cross[:, :, M:] @ latents
        found[:, :, :M] += cross[:, :, :M]
        latents = share * found + (1 - share) * latents
        latents = 0.5 * latents + 0.5 * maps[LAYER.format(step, 0)].mean(1) @ latents
    np.testing.assert_allclose(rollout.inputs, (rows @ latents)[:, :, :M], rtol=1e-6)
