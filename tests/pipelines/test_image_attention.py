"""Attention over the picture that a model saw, as numbers and as a figure."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import ImagePreprocessing, ModelCard
from perceiver_jax.data.preprocessing import central_square, resize
from perceiver_jax.errors import UserError
from perceiver_jax.models import ClassificationDecoderConfig, MeanPoolDecoderConfig
from perceiver_jax.models.release import release
from perceiver_jax.pipelines.image_attention import over_image
from perceiver_jax.pipelines.image_classification import ImageClassification

GREY = ImagePreprocessing(image_shape=(8, 12, 1), crop=None, mean=(0.5,), std=(0.5,))
IMAGE = np.random.default_rng(0).uniform(-1, 1, (8, 12, 1)).astype(np.float32)
PATCHES = {"preprocessing": "patches", "patch_size": 4}


@pytest.fixture(scope="module")
def make(tiny_config, random_model):
    """A function that makes a random classifier of 8×12 grey images: four latents."""

    def build(decoder=None, **fields):
        config = tiny_config(decoder, **({"image_shape": (8, 12, 1)} | fields))
        return random_model(lambda: models.build(config, jax.random.key(0)))

    return build


@pytest.fixture(scope="module")
def attention(make):
    """Two cross-attentions of two heads; three answers."""
    decoder = ClassificationDecoderConfig(
        num_classes=5,
        num_output_queries=3,
        num_output_query_channels=8,
        num_cross_attention_heads=2,
    )
    model = make(
        decoder,
        num_cross_attention_layers=2,
        num_cross_attention_heads=2,
        num_cross_attention_qk_channels=8,
        **PATCHES,
    )
    return over_image(model, IMAGE, GREY)


@pytest.mark.parametrize(
    ("fields", "grid"),
    [
        ({}, (8, 12)),
        (PATCHES, (2, 3)),
        ({"preprocessing": "conv"}, (2, 3)),
        ({"preprocessing": "conv1x1", "num_preprocessing_channels": 4}, (8, 12)),
    ],
)
def test_weights_lie_on_the_grid_of_tokens(make, fields, grid):
    found = over_image(make(**fields), IMAGE, GREY)
    assert found.latents[0].shape == (1, 4, *grid)
    assert found.queries.shape == (1, *grid)
    np.testing.assert_allclose(found.latents[0].sum((2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(found.queries.sum(), 1, rtol=1e-5)


def test_a_patch_that_differs_is_where_it_is(make):
    model = make(num_frequency_bands=0, num_cross_attention_qk_channels=4, **PATCHES)
    image = np.tile(np.linspace(-1, 1, 4, dtype=np.float32), (8, 3))[:, :, None]
    image[:4, 8:] = IMAGE[:4, :4]
    found = over_image(model, image, GREY)
    for weights in (found.latents[0][0, 0], found.queries[0]):
        others = np.delete(weights.reshape(-1), 2)
        np.testing.assert_allclose(others, others[0], rtol=1e-4)
        assert abs(weights[0, 2] / others[0] - 1) > 0.01


def test_what_came_in_through_latents_adds_up_to_the_rollout(attention):
    assert [through.shape for through in attention.through] == [(3, 4)] * 2
    np.testing.assert_allclose(sum(t.sum(-1) for t in attention.through), 1, rtol=1e-5)
    parts = [
        np.einsum("on,nhw->ohw", through, weights.mean(0))
        for through, weights in zip(attention.through, attention.latents, strict=True)
    ]
    np.testing.assert_allclose(attention.queries, sum(parts), rtol=1e-4)


def test_an_answer_goes_back_by_the_decoders_attention(make):
    # Without layers between that mix latents, shares are those of the decoder.
    model = make(num_self_attention_blocks=1, **PATCHES)
    maps = model.attention_maps(IMAGE[None])
    mixed = np.asarray(maps["encoder/step/0/block/layer/0"])[0].mean(0)
    asked = np.asarray(maps["decoder/cross_attention"])[0].mean(0)
    found = over_image(model, IMAGE, GREY)
    np.testing.assert_allclose(found.through[0], asked @ (np.eye(4) + mixed) / 2, rtol=1e-4)


def test_the_original_perceiver_averages_its_latents(make):
    model = make(MeanPoolDecoderConfig(num_classes=5), num_self_attention_blocks=1, **PATCHES)
    mixed = np.asarray(model.attention_maps(IMAGE[None])["encoder/step/0/block/layer/0"])
    found = over_image(model, IMAGE, GREY)
    assert found.queries.shape == (1, 2, 3)
    want = (np.full((1, 4), 0.25) @ (np.eye(4) + mixed[0].mean(0))) / 2
    np.testing.assert_allclose(found.through[0], want, rtol=1e-4)


def test_attention_without_a_residual_goes_to_the_last_look(make):
    fields = {"num_cross_attention_layers": 2, **PATCHES}
    for residual, shares in ((True, [1 / 3, 2 / 3]), (False, [0, 1])):
        found = over_image(make(cross_attention_residual=residual, **fields), IMAGE, GREY)
        np.testing.assert_allclose([t.sum() for t in found.through], shares, rtol=1e-5)


def test_the_picture_is_what_the_model_saw(make):
    how = ImagePreprocessing(image_shape=(8, 8, 3), crop=0.5)
    found = release(make(image_shape=(8, 8, 3), **PATCHES))
    classify = ImageClassification(dataclasses.replace(found, card=ModelCard(preprocessing=how)))
    photo = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    want = resize(central_square(photo, 0.5), (8, 8), "opencv")
    np.testing.assert_array_equal(classify.attention(photo).picture, want)


def test_an_image_that_is_one_token_has_no_map(make):
    model = make(image_shape=(8, 8, 1), preprocessing="patches", patch_size=8)
    with pytest.raises(UserError, match=r"grid of \[1, 1\] have no places in an image of 8×8"):
        over_image(model, IMAGE[:, :8], GREY)


def test_another_image_is_refused(make):
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8, 1\) do not fit this model"):
        over_image(make(), IMAGE[:, :8], GREY)


def drawn(figure):
    """[(title, array that is drawn on top)] of a figure's small pictures."""
    return [(axes.get_title(), axes.images[-1].get_array()) for axes in pictures(figure)[2:]]


def pictures(figure):
    return [axes for axes in figure.axes if axes.images]


def test_a_figure_shows_the_latents_of_the_greatest_share_first(attention):
    shares = attention.through[0][0]
    order = np.argsort(-shares)
    for (title, heat), latent in zip(drawn(attention.figure()), order, strict=True):
        assert title.startswith(f"latent {latent}: {shares[latent]:.1%}\n0 to ")
        weights = attention.latents[0][:, latent].mean(0)
        np.testing.assert_allclose(heat, weights * 6, rtol=1e-5)


def test_query_step_head_and_latents_are_chosen(attention):
    figure = attention.figure("a title", query=2, step=1, head=1, latents=[3, 0])
    found = drawn(figure)
    share = attention.through[1][2, 3]
    assert [title.split("\n")[0] for title, _ in found][0] == f"latent 3: {share:.1%}"
    np.testing.assert_allclose(found[1][1], attention.latents[1][1, 0] * 6, rtol=1e-5)
    above, below = figure.subfigs
    assert above.get_suptitle() == "a title"
    assert "in cross-attention 1, head 1" in below.get_suptitle()
    large = pictures(above)[1]
    assert large.get_title().startswith("rollout of answer 2\n")
    np.testing.assert_allclose(large.images[-1].get_array(), attention.queries[2] * 6, rtol=1e-5)


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ({"query": 3}, "no query 3; the model has 0 to 2"),
        ({"step": 2}, "no step 2; the model has 0 to 1"),
        ({"head": 2}, "no head 2; the model has 0 to 1"),
        ({"latents": [0, 4]}, "no latent 4; the model has 0 to 3"),
        ({"latents": [-1]}, "no latent -1"),
    ],
)
def test_what_there_is_not_is_not_drawn(attention, chosen, complaint):
    with pytest.raises(UserError, match=complaint):
        attention.figure(**chosen)
