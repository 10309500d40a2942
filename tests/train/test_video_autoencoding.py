import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import VideoPreprocessing
from perceiver_jax.data import ImageDataConfig, Shard, VideoDataConfig
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, VideoDecoderConfig, VideoEncoderConfig
from perceiver_jax.train.tasks import VideoAutoencoding

DATA = VideoDataConfig(
    dataset="synthetic",
    num_frames=2,
    frame_rate=25.0,
    image_size=(8, 12),
    num_samples=160,
    sample_rate=2_000,
    num_classes=3,
    batch_size=2,
    eval_batch_size=2,
)
MODEL = PerceiverConfig(
    encoder=VideoEncoderConfig(
        video_shape=(2, 8, 12, 3),
        num_video_frequency_bands=2,
        num_samples=160,
        num_audio_frequency_bands=3,
        num_classes=3,
        num_cross_attention_heads=1,
        num_self_attention_heads=2,
        num_self_attention_layers_per_block=1,
    ),
    decoder=VideoDecoderConfig(
        num_label_query_channels=6, num_output_channels=5, num_cross_attention_heads=1
    ),
    num_latents=3,
    num_latent_channels=8,
)


@pytest.fixture(scope="module")
def batch():
    batches = VideoAutoencoding().batches(DATA, training=False, seed=0, shard=Shard())
    return {**batches[0], "mask": np.array([True, False])}


@pytest.fixture(scope="module")
def model(random_model):
    return random_model(lambda: models.build(MODEL, jax.random.key(0)))


def means(sums):
    return {name: float(total / weight) for name, (total, weight) in sums.items()}


def cross_entropy(logits, label):
    return np.log(np.exp(logits).sum()) - logits[label]


def test_the_loss_weighs_errors_of_colours_samples_and_label(model, batch):
    task = VideoAutoencoding(image_weight=2.0, audio_weight=3.0, label_weight=0.5)
    found = means(task.loss(model, batch, jax.random.key(0)))
    outputs = jax.tree.map(np.asarray, model({name: batch[name] for name in ("image", "audio")}))
    image = np.abs(outputs["image"] - batch["image"]).mean()
    audio = np.abs(outputs["audio"] - batch["audio"]).mean()
    label = np.mean(
        [cross_entropy(*one) for one in zip(outputs["label"], batch["label"], strict=True)]
    )
    wanted = {"image_loss": image, "audio_loss": audio, "label_loss": label}
    wanted["loss"] = 2 * image + 3 * audio + 0.5 * label
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_a_part_of_the_queries_is_asked_at_random(model, batch):
    task = VideoAutoencoding(num_image_queries=50, num_audio_queries=4)
    found = [means(task.loss(model, batch, jax.random.key(i))) for i in range(20)]
    whole = means(VideoAutoencoding().loss(model, batch, jax.random.key(0)))
    for name in ("image_loss", "audio_loss"):
        values = [one[name] for one in found]
        assert len(set(values)) == 20
        np.testing.assert_allclose(np.mean(values), whole[name], rtol=0.1)


def test_all_queries_drawn_are_all(model, batch):
    task = VideoAutoencoding(num_image_queries=192, num_audio_queries=10)
    drawn = means(task.loss(model, batch, jax.random.key(0)))
    whole = means(VideoAutoencoding().loss(model, batch, jax.random.key(0)))
    np.testing.assert_allclose(list(drawn.values()), list(whole.values()), rtol=1e-4)


def test_evaluation_tells_ratios_of_signal_to_noise_of_each_clip(model, batch):
    found = means(VideoAutoencoding().evaluate(model, batch))
    outputs = jax.tree.map(np.asarray, model({name: batch[name] for name in ("image", "audio")}))
    for name in ("image", "audio"):
        squared = np.square(outputs[name][0] - batch[name][0]).mean()
        np.testing.assert_allclose(found[f"{name}_psnr"], -10 * np.log10(squared), rtol=1e-4)
    right = outputs["label"][0].argmax() == batch["label"][0]
    assert found["accuracy"] == float(right)


def test_the_label_is_hidden_from_the_model(model, batch):
    other = {**batch, "label": (batch["label"] + 1) % 3}
    inputs = [{name: one[name] for name in ("image", "audio", "label")} for one in (batch, other)]
    a, b = (model(one)["label"] for one in inputs)
    np.testing.assert_array_equal(a, b)


def test_evaluation_does_not_tell_the_label(batch, random_model):
    encoder = dataclasses.replace(MODEL.encoder, label_mask_rate=0.5)
    config = dataclasses.replace(MODEL, encoder=encoder)
    model = random_model(lambda: models.build(config, jax.random.key(0)))
    found = [
        means(VideoAutoencoding().evaluate(model, {**batch, "label": np.array([label, 0])}))
        for label in range(3)
    ]
    logits = np.asarray(model({name: batch[name] for name in ("image", "audio")})["label"])[0]
    wanted = [cross_entropy(logits, label) for label in range(3)]
    np.testing.assert_allclose([one["label_loss"] for one in found], wanted, rtol=1e-4)


def test_media_are_frames_above_their_reconstruction_and_sounds(model, batch):
    media = VideoAutoencoding().show(model, batch, DATA)
    assert list(media.images) == ["clip_0"]
    outputs = jax.tree.map(np.asarray, model({name: batch[name] for name in ("image", "audio")}))
    rows = [video[0][[0, 0, 1, 1]] for video in (batch["image"], outputs["image"])]
    wanted = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    shown = media.images["clip_0"]
    assert shown.shape == (16, 48, 3)
    assert np.abs(shown - np.clip(wanted, 0, 1) * 255).max() <= 1
    assert set(media.sounds) == {"clip_0_original", "clip_0_reconstruction"}
    samples, rate = media.sounds["clip_0_original"]
    assert rate == 2_000
    np.testing.assert_allclose(samples, batch["audio"][0, :, 0])
    made, _ = media.sounds["clip_0_reconstruction"]
    np.testing.assert_allclose(made, np.clip(outputs["audio"][0, :, 0], -1, 1), atol=1e-5)


def test_the_card_tells_the_rates():
    card = VideoAutoencoding().card(MODEL, DATA)
    assert card.video == VideoPreprocessing(frame_rate=25.0, sample_rate=2_000)


@pytest.mark.parametrize(
    ("task", "model", "data", "message"),
    [
        ({}, MODEL, ImageDataConfig(dataset="digits"), "takes a VideoDataConfig"),
        ({}, models.imagenet_fourier(), DATA, "takes a VideoEncoderConfig"),
        ({}, MODEL, dataclasses.replace(DATA, image_size=(8, 8)), "video_shape="),
        (
            {},
            MODEL,
            dataclasses.replace(DATA, num_samples=320, sample_rate=4_000),
            "num_samples=320",
        ),
        ({}, MODEL, dataclasses.replace(DATA, num_classes=2), "num_classes=2"),
        ({"num_image_queries": 193}, MODEL, DATA, "more than the 192"),
        ({"num_audio_queries": 11}, MODEL, DATA, "more than the 10"),
    ],
)
def test_what_does_not_go_together_is_refused(task, model, data, message):
    with pytest.raises(UserError, match=message):
        VideoAutoencoding(**task).check(model, data)


@pytest.mark.parametrize(
    "weights",
    [{"image_weight": -1.0}, dict.fromkeys(("image_weight", "audio_weight", "label_weight"), 0.0)],
)
def test_weights_that_make_no_loss_are_refused(weights):
    with pytest.raises(ValueError, match="make no loss"):
        VideoAutoencoding(**weights)
