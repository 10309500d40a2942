"""The resampler: features, frames and masks in; latents attend to both at once."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax.core import PerceiverResampler, ResamplerConfig, Tokens

TINY = ResamplerConfig(num_latents=3, num_latent_channels=8, num_layers=2, num_heads=4)
FORMS = {
    "Flamingo": {"activation": "squared_relu", "qkv_bias": True},
    "Idefics2": {"activation": "swiglu", "norm": "rms_norm", "num_kv_heads": 2},
    "IDEFICS": {"activation": "relu", "qk_norm": True, "num_qk_channels": 16},
    "features alone": {"latents_contribute_kv": False},
}
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 8))
LENGTHS = (6, 4)
MASK = np.arange(6)[None] < np.asarray(LENGTHS)[:, None]


@pytest.fixture
def resampler(float64, random_model):
    """A function that makes a resampler with random weights."""

    def make(**fields):
        config = dataclasses.replace(TINY, **fields)
        return random_model(lambda: PerceiverResampler(config, rngs=nnx.Rngs(0)))

    return make


def array(parameter):
    return np.asarray(parameter[...])


def same(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_features_of_any_number_become_latents(resampler, form):
    model = resampler(**FORMS[form])
    for num_features in (1, 6):
        assert model(FEATURES[:, :num_features]).shape == (2, 3, 8)


@pytest.mark.parametrize("implementation", ["auto", "plain"])
@pytest.mark.parametrize("form", FORMS)
def test_a_mask_is_truncation(resampler, form, implementation):
    model = resampler(**FORMS[form], implementation=implementation)
    masked = model(np.where(MASK[..., None], FEATURES, 1e3), MASK)
    for i, length in enumerate(LENGTHS):
        same(masked[i : i + 1], model(FEATURES[i : i + 1, :length]))


def test_a_layer_by_hand(resampler):
    """Latents are keys as well, behind the features and normed as queries are."""
    model = resampler(num_layers=1, output_norm=False)
    layer = model.layer[0]

    def norm(x, norm):
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt(centred.var(-1, keepdims=True) + 1e-5)
        return centred / deviation * array(norm.scale) + array(norm.bias)

    def heads(x, projection):
        return (x @ array(projection.kernel)).reshape(*x.shape[:-1], 4, 2)

    z, attention = array(model.latents), layer.attention
    for features, got in zip(FEATURES, model(FEATURES), strict=True):
        normed = norm(z, layer.q_norm)
        keys_of = np.concatenate([norm(features, layer.kv_norm), normed])
        q, k, v = (
            heads(x, projection)
            for x, projection in (
                (normed, attention.query),
                (keys_of, attention.key),
                (keys_of, attention.value),
            )
        )
        weights = np.exp(np.einsum("nhc,mhc->hnm", q, k) / np.sqrt(2.0))
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("hnm,mhc->nhc", weights, v).reshape(3, 8)
        x = z + attended @ array(attention.output.kernel)
        hidden = norm(x, layer.mlp_norm) @ array(layer.mlp.hidden.kernel)
        hidden = np.asarray(jax.nn.gelu(hidden, approximate=False))
        same(got, x + hidden @ array(layer.mlp.output.kernel))


def test_attention_maps_reach_features_then_latents(resampler):
    maps = resampler().attention_maps(FEATURES, MASK)
    assert [weights.shape for weights in maps.values()] == [(2, 4, 3, 6 + 3)] * 2
    for weights in maps.values():
        np.testing.assert_allclose(weights.sum(-1), 1.0)
        assert not weights[1, ..., 4:6].any() and (weights[1, ..., 6:] > 0).all()
    alone = resampler(latents_contribute_kv=False).attention_maps(FEATURES)
    assert [weights.shape[-1] for weights in alone.values()] == [6, 6]


def test_an_example_without_features_keeps_to_the_latents(resampler):
    model = resampler()
    nothing = np.zeros((2, 6), bool)
    got = model(FEATURES, nothing)
    assert np.isfinite(got).all()
    same(got[0], got[1])
    same(got, model(-FEATURES, nothing))


@pytest.mark.parametrize("remat", ["none", "full"])
def test_stages_are_the_latents_after_every_part(resampler, remat):
    model = resampler(num_output_channels=5, remat=remat)
    stages = model.stages(FEATURES, MASK)
    layers = [f"layer/{i}/{part}" for i in range(2) for part in ("attention", "mlp")]
    assert list(stages) == ["inputs", *layers, "outputs"]
    same(stages["inputs"], FEATURES)
    same(stages["outputs"], model(FEATURES, MASK))
    same(stages["outputs"], model.output_projection(model.output_norm(stages["layer/1/mlp"])))


def test_frames_are_told_apart_by_their_embedding(resampler):
    model = resampler(max_frames=4)
    frames = FEATURES.reshape(2, 3, 2, 8)
    embedded = frames + array(model.frame_embedding)[:3, None]
    plain = resampler()
    for name in ("latents", "layer", "output_norm"):
        setattr(plain, name, getattr(model, name))
    same(model(frames), plain(embedded.reshape(2, 6, 8)))
    # Without frames there is one, the first.
    same(model(FEATURES), model(FEATURES[:, None]))
    assert np.abs(model(frames) - model(frames[:, ::-1])).max() > 1e-3


def test_a_mask_of_frames_hides_whole_frames(resampler):
    model = resampler(max_frames=4)
    frames, mask = FEATURES.reshape(2, 3, 2, 8), np.ones((2, 3, 2), bool)
    mask[:, 2] = False
    same(model(frames, mask), model(frames[:, :2]))


def test_latents_can_be_given_to_all_or_to_each(resampler):
    model = resampler()
    own = array(model.latents)
    same(model(FEATURES, latents=own), model(FEATURES))
    each = np.random.default_rng(1).normal(size=(2, 5, 8))
    got = model(FEATURES, MASK, latents=each)
    assert got.shape == (2, 5, 8)
    for i in range(2):
        same(got[i : i + 1], model(FEATURES[i : i + 1], MASK[i : i + 1], latents=each[i]))


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_features_bring_their_mask(resampler, form):
    model = resampler(**FORMS[form])
    tokens = Tokens(content=jnp.asarray(FEATURES), mask=jnp.asarray(MASK))
    same(model(tokens), model(FEATURES, MASK))


def test_segments_are_resampled_each_by_itself(resampler):
    model = resampler()
    segments = np.asarray([[0, 0, 1, 1, 1, 1]])
    features = Tokens(content=jnp.asarray(FEATURES[:1]), segments=jnp.asarray(segments))
    own = jnp.asarray(model.latents[...])
    latents = Tokens(
        content=jnp.concatenate([own, own])[None], segments=jnp.asarray([[0] * 3 + [1] * 3])
    )
    both = model(features, latents=latents)
    same(both[:, :3], model(FEATURES[:1, :2]))
    same(both[:, 3:], model(FEATURES[:1, 2:]))


def test_projections(resampler):
    inputs = np.random.default_rng(2).normal(size=(2, 6, 5))
    linear = resampler(num_input_channels=5, num_output_channels=7)
    assert linear(inputs).shape == (2, 3, 7)
    kernel, bias = array(linear.input_projection.kernel), array(linear.input_projection.bias)
    same(linear.stages(inputs)["inputs"], inputs @ kernel + bias)
    mlp = resampler(num_input_channels=5, num_input_hidden_channels=11, activation="swiglu")
    assert mlp.input_projection.hidden.kernel.shape == (5, 22)
    value, gate = np.split(inputs @ array(mlp.input_projection.hidden.kernel), 2, axis=-1)
    hidden = value * gate / (1.0 + np.exp(-gate))
    same(mlp.stages(inputs)["inputs"], hidden @ array(mlp.input_projection.output.kernel))


@pytest.mark.parametrize("form", FORMS)
def test_remat_changes_no_gradient(resampler, form):
    @partial(jax.jit, static_argnums=0)
    def gradients(config, model):
        def loss(model):
            return jnp.square(model(FEATURES, MASK, key=jax.random.key(1))).sum()

        return jax.grad(loss)(model)

    want = None
    for remat in ("none", "dots", "full"):
        model = resampler(**FORMS[form], remat=remat, dropout=0.3, residual_dropout=0.2)
        got = jax.tree.leaves(gradients(model.config, model))
        want = got if want is None else want
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_heads_of_keys_serve_neighbouring_heads(resampler):
    """The same as keys and values of their own, were these repeated."""
    grouped = resampler(num_kv_heads=2)
    repeated = nnx.clone(grouped)
    for layer in repeated.layer:
        assert layer.attention.key.kernel.shape == layer.attention.value.kernel.shape == (8, 4)
        for projection in (layer.attention.key, layer.attention.value):
            by_head = projection.kernel[...].reshape(8, 2, 2)
            projection.kernel = nnx.Param(jnp.repeat(by_head, 2, axis=1).reshape(8, 8))
        layer.attention.num_kv_heads = 4
    same(grouped(FEATURES, MASK), repeated(FEATURES, MASK))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"num_input_hidden_channels": 4}, "give their num_input_channels as well"),
        ({"num_heads": 3}, "num_qk_channels=8 cannot be split over num_heads=3"),
        ({"num_kv_heads": 3}, "num_kv_heads=3 does not divide num_heads=4"),
        ({"num_v_channels": 6}, "num_v_channels=6 cannot be split"),
        ({"rotary_values": True}, "rotary_channels=0 turns nothing"),
        ({"num_latents": 0}, "num_latents=0"),
    ],
)
def test_configs_that_cannot_be(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        config = dataclasses.replace(TINY, **fields)
        jax.eval_shape(lambda: PerceiverResampler(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("fields", "call", "complaint"),
    [
        ({}, {"inputs": FEATURES[..., :5]}, r"\(2, 6, 5\) do not fit; .* takes \[B, M, 8\]"),
        ({}, {"inputs": FEATURES[0]}, r"\(6, 8\) do not fit"),
        ({"num_input_channels": 5}, {"inputs": FEATURES}, r"takes \[B, M, 5\]"),
        ({}, {"inputs": FEATURES[:, None]}, "1 frames were given and max_frames=None"),
        (
            {"max_frames": 2},
            {"inputs": FEATURES.reshape(2, 3, 2, 8)},
            "3 frames were given and max_frames=2; set it",
        ),
        ({}, {"inputs": FEATURES, "input_mask": MASK[:, :4]}, "mask"),
        (
            {},
            {"inputs": Tokens(content=jnp.asarray(FEATURES)), "input_mask": MASK},
            "tokens bring their own mask",
        ),
    ],
)
def test_calls_that_cannot_be(resampler, fields, call, complaint):
    with pytest.raises(ValueError, match=complaint):
        resampler(**fields)(**call)


@pytest.mark.parametrize(
    "call, complaint",
    [
        ({"input_mask": MASK[:, :5]}, r"input_mask of shape \(2, 5\) does not fit features of sha"),
        (
            {"input_mask": MASK[0]},
            r"shape \(.,\) does not fit features of shape .*; it takes \(2, ",
        ),
        ({"latents": np.zeros((3, 7))}, r"latents of shape \(1, 3, 7\) do not fit"),
        ({"latents": np.zeros((5, 3, 8))}, r"latents of shape \(5, 3, 8\) do not fit 2 inputs"),
    ],
)
def test_masks_and_latents_that_do_not_fit_are_named(resampler, call, complaint):
    with pytest.raises(ValueError, match=complaint):
        resampler()(jnp.asarray(FEATURES), **{name: jnp.asarray(x) for name, x in call.items()})


def test_a_release_of_a_resampler_is_read_again(tmp_path, random_model):
    from interop import load_pretrained
    from perceiver_jax.models import Resampler

    model = random_model(lambda: Resampler(TINY, rngs=nnx.Rngs(0)))
    model.save_pretrained(tmp_path)
    features = jnp.asarray(FEATURES, jnp.float32)
    np.testing.assert_array_equal(load_pretrained("ours", tmp_path)(features), model(features))


def test_tokens_on_a_grid_do_not_tell_frames(resampler):
    frames = Tokens(content=jnp.zeros((2, 3, 5, 8)))
    with pytest.raises(ValueError, match="do not tell which axis is frames"):
        resampler(max_frames=3)(frames)
