import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.data import FlowDataConfig, ImageDataConfig, Shard
from perceiver_jax.errors import UserError
from perceiver_jax.flow_colors import flow_to_image
from perceiver_jax.models import (
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.train.tasks import OpticalFlowEstimation

SIZE = (16, 24)
DATA = FlowDataConfig(
    dataset="synthetic",
    textures="noise",
    image_size=SIZE,
    max_flow=3.0,
    num_layers=1,
    batch_size=2,
    eval_batch_size=2,
    num_eval_examples=3,
)
MODEL = PerceiverConfig(
    encoder=OpticalFlowEncoderConfig(
        image_shape=SIZE,
        num_patch_hidden_channels=4,
        num_frequency_bands=2,
        num_cross_attention_heads=1,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=1,
    ),
    decoder=OpticalFlowDecoderConfig(num_cross_attention_heads=1),
    num_latents=3,
    num_latent_channels=8,
)


@pytest.fixture(scope="module")
def batch():
    batches = OpticalFlowEstimation().batches(DATA, training=False, seed=0, shard=Shard())
    return {**batches[1], "mask": np.array([True, False])}


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(lambda: models.build(MODEL, jax.random.key(0)))


def mean(sums, name):
    total, weight = sums[name]
    return float(total / weight)


def test_the_loss_is_the_mean_end_point_error(model, batch):
    sums = OpticalFlowEstimation().loss(model, batch, jax.random.key(0))
    distance = np.linalg.norm(np.asarray(model(batch["frames"])) - batch["flow"], axis=-1)
    np.testing.assert_allclose(mean(sums, "loss"), distance.mean(), rtol=1e-5)


def test_a_part_of_the_pixels_is_asked_at_random(model, batch):
    task = OpticalFlowEstimation(num_training_queries=100)
    sums = [task.loss(model, batch, jax.random.key(i))["loss"] for i in range(30)]
    assert all(weight == 200 for _, weight in sums)
    means = [float(total / weight) for total, weight in sums]
    whole = mean(OpticalFlowEstimation().loss(model, batch, jax.random.key(0)), "loss")
    assert len(set(means)) == 30 and abs(np.mean(means) / whole - 1) < 0.1


def test_all_pixels_drawn_are_all_pixels(model, batch):
    all_pixels = OpticalFlowEstimation(num_training_queries=SIZE[0] * SIZE[1])
    drawn = mean(all_pixels.loss(model, batch, jax.random.key(0)), "loss")
    whole = mean(OpticalFlowEstimation().loss(model, batch, jax.random.key(0)), "loss")
    np.testing.assert_allclose(drawn, whole, rtol=1e-5)


def test_pixels_that_are_not_valid_count_for_nothing(model, batch):
    valid = np.zeros((2, *SIZE), bool)
    valid[:, 3:7] = True
    flow = np.where(valid[..., None], batch["flow"], np.nan)
    sums = OpticalFlowEstimation().loss(
        model, {**batch, "flow": flow, "valid": valid}, jax.random.key(0)
    )
    distance = np.linalg.norm(np.asarray(model(batch["frames"])) - batch["flow"], axis=-1)
    np.testing.assert_allclose(mean(sums, "loss"), distance[valid].mean(), rtol=1e-5)


def test_evaluation_leaves_out_what_fills_the_batch(model, batch):
    sums = OpticalFlowEstimation().evaluate(model, batch)
    distance = np.linalg.norm(np.asarray(model(batch["frames"])) - batch["flow"], axis=-1)
    np.testing.assert_allclose(mean(sums, "end_point_error"), distance[0].mean(), rtol=1e-5)
    length = np.linalg.norm(batch["flow"][0], axis=-1).mean()
    np.testing.assert_allclose(mean(sums, "end_point_error_of_no_flow"), length, rtol=1e-5)


def test_pictures_show_frame_truth_and_prediction(model, batch):
    (picture,) = OpticalFlowEstimation(num_shown=2).show(model, batch, DATA).images.values()
    assert picture.shape == (SIZE[0], 3 * SIZE[1], 3) and picture.dtype == np.uint8
    first = (batch["frames"][0, 0] + 1) * 127.5
    assert np.abs(picture[:, : SIZE[1]] - first).max() <= 1
    truth, flow = batch["flow"][0], np.asarray(model(batch["frames"]))[0]
    longest = max(1.0, float(np.linalg.norm(truth, axis=-1).max()))
    for i, wanted in ((1, truth), (2, flow)):
        shown = picture[:, i * SIZE[1] : (i + 1) * SIZE[1]].astype(int)
        assert np.abs(shown - flow_to_image(wanted, max_flow=longest)).max() <= 2


@pytest.mark.parametrize(
    ("task", "model", "data", "message"),
    [
        ({}, MODEL, ImageDataConfig(dataset="digits"), "takes a FlowDataConfig"),
        ({}, models.imagenet_fourier(), DATA, "takes an OpticalFlowEncoderConfig"),
        ({}, MODEL, dataclasses.replace(DATA, image_size=(16, 32)), "data.image_size and"),
        ({"num_training_queries": 385}, MODEL, DATA, "385 is more than the 384 pixels"),
        ({}, MODEL, dataclasses.replace(DATA, dataset="sintel"), "is a folder of yours"),
    ],
)
def test_what_does_not_go_together_is_refused(task, model, data, message):
    with pytest.raises(UserError, match=message):
        OpticalFlowEstimation(**task).check(model, data)


def test_gradients_reach_every_parameter(model, batch):
    def loss(model):
        total, weight = OpticalFlowEstimation(num_training_queries=50).loss(
            model, batch, jax.random.key(0)
        )["loss"]
        return total / weight

    gradients = jax.tree.leaves(jax.grad(loss)(model))
    assert all(jnp.isfinite(g).all() for g in gradients)
    # A bias of the keys cancels in the softmax.
    assert sum(bool(jnp.abs(g).max() > 1e-9) for g in gradients) >= len(gradients) - 3
