import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from perceiver_jax import models, params
from perceiver_jax.config import ConfigError, choice_from_dict, choice_to_dict
from perceiver_jax.core import decoder as decoding
from perceiver_jax.models import (
    AnyModelConfig,
    OpticalFlowDecoderConfig,
    PerceiverConfig,
    VideoAutoencoder,
    VideoDecoderConfig,
    VideoEncoderConfig,
    video_perceiver,
)

SHAPE = (2, 4, 6, 3)
NUM_SAMPLES, NUM_CLASSES = 24, 5
MODALITIES = ("audio", "image", "label")


def tiny(decoder=None, **encoder):
    common = {"num_cross_attention_heads": 1}
    encoder_fields = {
        "video_shape": SHAPE,
        "patch_size": 2,
        "num_video_frequency_bands": 2,
        "num_samples": NUM_SAMPLES,
        "samples_per_patch": 3,
        "num_audio_frequency_bands": 3,
        "num_classes": NUM_CLASSES,
        "num_self_attention_heads": 2,
        "num_self_attention_layers_per_block": 2,
    }
    decoder_fields = {"num_label_query_channels": 7, "num_output_channels": 6}
    return PerceiverConfig(
        encoder=VideoEncoderConfig(**(common | encoder_fields | encoder)),
        decoder=VideoDecoderConfig(**(common | decoder_fields | (decoder or {}))),
        num_latents=4,
        num_latent_channels=8,
    )


def clip(batch=2):
    rng = np.random.default_rng(0)
    return {
        "image": rng.random((batch, *SHAPE)),
        "audio": rng.uniform(-1, 1, (batch, NUM_SAMPLES, 1)),
        "label": rng.integers(NUM_CLASSES, size=batch),
    }


def build(random_model, decoder=None, **encoder):
    return random_model(lambda: models.build(tiny(decoder, **encoder), jax.random.key(0)))


def test_the_published_model_has_its_size():
    assert params.count(models.skeleton(video_perceiver()).params) == 19_858_855


def test_the_config_survives_being_written(tmp_path):
    config = tiny({"query_positions": "half_open"}, video_max_resolution=(2.0, 5.0, 5.0))
    assert choice_from_dict(AnyModelConfig, choice_to_dict(config)) == config


def test_clips_come_back_in_their_shape(float64, random_model, call):
    model = build(random_model)
    outputs = call(model, clip())
    assert isinstance(model, VideoAutoencoder)
    assert {name: x.shape for name, x in outputs.items()} == {
        "audio": (2, NUM_SAMPLES, 1),
        "image": (2, *SHAPE),
        "label": (2, NUM_CLASSES),
    }
    assert model.encode(clip()).shape == (2, 4, 8)
    again = model.decode(model.encode(clip()))
    for name in outputs:
        np.testing.assert_allclose(outputs[name], again[name], rtol=1e-10)


@pytest.mark.parametrize("ends", ["closed", "half_open"])
def test_some_points_alone_have_the_same_answers(float64, random_model, ends):
    model = build(random_model, {"query_positions": ends})
    indices = {
        "image": np.array([[3, 40, 7], [0, 47, 25]]),
        "audio": np.array([[6, 1]]),
        "label": np.array([[0]]),
    }
    whole, some = model(clip()), model(clip(), query_indices=indices)
    image = whole["image"].reshape(2, -1, 3)
    wanted = np.take_along_axis(image, indices["image"][..., None], 1)
    np.testing.assert_allclose(some["image"], wanted, rtol=1e-10)
    wanted = np.asarray(whole["audio"]).reshape(2, -1, 3)[:, [6, 1]]
    np.testing.assert_allclose(some["audio"], wanted, rtol=1e-10)
    np.testing.assert_allclose(some["label"][:, 0], whole["label"], rtol=1e-10)


def test_modalities_that_are_not_named_are_asked_whole(float64, random_model):
    model = build(random_model)
    whole, some = model(clip()), model(clip(), query_indices={"image": np.array([[1]])})
    assert some["image"].shape == (2, 1, 3)
    for name in ("audio", "label"):
        np.testing.assert_array_equal(some[name], whole[name])


@pytest.mark.parametrize("at_once", [1, 10, 20])
def test_decoding_in_blocks_is_decoding_the_whole(float64, random_model, monkeypatch, at_once):
    model = build(random_model)
    stages = model.stages(clip())
    monkeypatch.setattr(decoding, "LEAST_QUERIES", at_once)
    monkeypatch.setattr(decoding, "SCORES_AT_ONCE", 1)
    outputs = model(clip())
    for name in MODALITIES:
        whole = stages[f"decoder/{name}/outputs"]
        np.testing.assert_allclose(outputs[name].reshape(whole.shape), whole, rtol=1e-9, atol=1e-12)


def test_the_grid_of_pixels_is_never_written_out(random_model):
    """Of 65,536 queries of 256 channels, 64 MB, and their 256 MB of scores."""
    sizes = {"video_shape": (16, 64, 64, 3), "patch_size": 4}
    config = dataclasses.replace(tiny({"num_label_query_channels": 254}, **sizes), num_latents=1024)
    model = random_model(lambda: models.build(config, jax.random.key(0)))
    latents = jnp.zeros((1, 1024, 8), jnp.float32)
    assert model.decoder.output_adapter.queries("image").num_tokens == 2**16
    assert model.decoder.output_adapter.num_output_query_channels == 256

    def temporaries(implementation):
        changed = dataclasses.replace(
            config, decoder=dataclasses.replace(config.decoder, implementation=implementation)
        )
        made = random_model(lambda: models.build(changed, jax.random.key(0)))
        lowered = jax.jit(lambda model, latents: model.decode(latents)).lower(made, latents)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries("auto") < 2**16 * 256 * 4 < temporaries("plain")


def test_a_hidden_label_has_no_influence(float64, random_model):
    """Nor has any label in inference where training always hides it."""
    model = build(random_model)

    def total(label):
        outputs = model(clip() | {"label": label})
        return sum(jnp.sin(x).sum() for x in outputs.values())

    shown = jnp.full((2, NUM_CLASSES), 1 / NUM_CLASSES)
    assert not np.asarray(jax.grad(total)(shown)).any()
    shows = build(random_model, label_mask_rate=0.5)
    assert np.asarray(
        jax.grad(lambda label: shows(clip() | {"label": label})["image"].sum())(shown)
    ).any()


@pytest.mark.parametrize("name", ["image", "audio"])
def test_what_is_not_given_is_made_of_the_rest(float64, random_model, name):
    model = build(random_model)
    hidden = model({k: x for k, x in clip().items() if k != name})
    assert hidden[name].shape == clip()[name].shape
    np.testing.assert_array_equal(model(clip() | {name: None})[name], hidden[name])
    assert not np.allclose(model(clip())[name], hidden[name])


def test_a_label_may_be_a_class_or_a_distribution(float64, random_model):
    model = build(random_model, label_mask_rate=0.0)
    classes = clip()["label"]
    by_class, by_distribution = (
        model(clip() | {"label": label})["image"]
        for label in (classes, np.eye(NUM_CLASSES)[classes])
    )
    np.testing.assert_array_equal(by_class, by_distribution)


def test_training_hides_and_inference_does_not(float64, random_model):
    model, plain = build(random_model, video_mask_rate=0.5), build(random_model)
    np.testing.assert_array_equal(model(clip())["image"], plain(clip())["image"])
    first, second = (model(clip(), key=jax.random.key(i))["image"] for i in (0, 1))
    assert not np.allclose(first, second)


def test_stages_go_modality_by_modality(random_model):
    stages = list(build(random_model).stages(clip()))
    assert stages[0] == "encoder/inputs"
    assert [stage for stage in stages if stage.startswith("decoder/")] == [
        f"decoder/{name}/{stage}"
        for name in MODALITIES
        for stage in ("queries", "cross_attention/attention", "cross_attention/mlp", "outputs")
    ]


def test_unknown_modalities_are_refused(random_model):
    with pytest.raises(ValueError, match=r"\['smell'\] name no modality; there are \['audio'"):
        build(random_model)(clip(), query_indices={"smell": np.array([[0]])})
    with pytest.raises(ValueError, match=r"\['smell'\] name no modality"):
        build(random_model)(clip() | {"smell": None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 4}, "patch_size=4 does not divide frames of 4×6"),
        ({"patch_size": 0}, "patch_size=0 does not divide"),
        ({"samples_per_patch": 5}, "samples_per_patch=5 does not divide num_samples=24"),
        ({"video_shape": (0, 4, 6, 3)}, r"video_shape=\(0, 4, 6, 3\)"),
        ({"video_mask_rate": 1.5}, r"video_mask_rate=1.5 is not in \[0, 1\]"),
        ({"label_mask_rate": -0.5}, "label_mask_rate=-0.5"),
        ({"min_padding_size": -1}, "min_padding_size=-1"),
        ({"num_video_frequency_bands": 0}, "num_video_frequency_bands=0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny(**fields)


def test_decoders_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="min_padding_size=-1"):
        tiny({"min_padding_size": -1})
    with pytest.raises(ValueError, match="query_positions='open'"):
        tiny({"query_positions": "open"})
    config = dataclasses.replace(tiny(), decoder=OpticalFlowDecoderConfig())
    with pytest.raises(ConfigError, match="takes a VideoDecoderConfig"):
        VideoAutoencoder(config, rngs=nnx.Rngs(0))
