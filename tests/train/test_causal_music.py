"""Causal modelling of music: what counts, what is shown and heard, what is refused."""

import dataclasses
import importlib.util
import math

import jax
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.card import ModelCard, MusicPreprocessing
from perceiver_jax.data import Shard
from perceiver_jax.data.music import PAD_ID, Note, encode, open_events
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.train.config import read_card
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import read_rows
from perceiver_jax.train.tasks import CausalModelling, causal_modelling
from perceiver_jax.train.tasks.music import (
    COLUMNS_PER_SECOND,
    SAMPLE_RATE,
    shown_continuation,
)
from tests.train.tiny_music import music_model
from tests.train.tiny_runs import experiment


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return music_model(tmp_path_factory.mktemp("events"))


@pytest.fixture(scope="module")
def model(config, random_model):
    return random_model(lambda: models.build(config.model, jax.random.key(0)))


def batches_of(config):
    found = config.task.batches(config.data, training=False, seed=0, shard=Shard())
    return [found[i] for i in range(len(found))]


def seconds_of(events):
    return sum(int(event) - 255 for event in events if 256 <= event < 356) / 100


def test_every_event_that_a_latent_predicts_counts_and_padding_does_not(config, model):
    batch = batches_of(config)[-1]
    assert not batch["mask"].all() and not batch["predicted"][batch["mask"], -16:].all()
    sums = config.task.evaluate(model, batch)
    counted = (batch["predicted"] & batch["mask"][:, None])[:, -config.model.max_latents :]
    targets = batch["targets"][:, -config.model.max_latents :]
    logits = np.asarray(jax.nn.log_softmax(model(batch["ids"], batch["input_mask"])))
    losses = -np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    assert float(sums["loss"][1]) == counted.sum()
    np.testing.assert_allclose(sums["loss"][0], losses[counted].sum(), rtol=1e-4)
    np.testing.assert_allclose(sums["bits_per_token"][0], sums["loss"][0] / math.log(2), rtol=1e-6)


def test_padding_is_never_chosen(config, model, monkeypatch):
    asked = {}

    def generate(model, prompts, **settings):
        asked.update(settings)
        return [np.zeros(3, np.int32) for _ in prompts]

    monkeypatch.setattr(causal_modelling, "generate", generate)
    config.task.show(model, {}, config.data)
    assert asked["suppress_tokens"] == (PAD_ID,)


def test_the_card_tells_the_vocabulary(config):
    data = dataclasses.replace(config.data, every_velocity=True)
    card = config.task.card(config.model, data)
    assert card == ModelCard(music=MusicPreprocessing(every_velocity=True))
    assert config.task.card(config.model, config.data).music == MusicPreprocessing()
    assert config.task.files(config.data) == {}


def test_a_held_out_piece_is_continued(config, model):
    media = config.task.show(model, {}, config.data)
    prompt = open_events(config.data, "test")[0][:30]
    (picture,) = media.images.values()
    assert picture.shape[0] == 128 and picture.dtype == np.uint8
    alone = shown_continuation(prompt, prompt[:0]).images["continuation"]
    # What was given is at the beginning, as it is without a continuation.
    same = (picture[:, : alone.shape[1] - 2] == alone[:, :-2]).all(-1)
    assert alone.shape[1] > 20 and same.mean() > 0.99
    assert len(media.lines) == 1 and not media.texts
    again = config.task.show(model, {}, config.data).images["continuation"]
    np.testing.assert_array_equal(picture, again)
    assert media.lines[0].startswith(f"  {seconds_of(prompt):.1f} s of music | ")


def test_a_line_in_the_picture_parts_what_was_given_from_what_was_made():
    given = encode([Note(60, 80, 0.0, 1.0)])
    made = encode([Note(72, 80, 0.5, 2.0)])
    media = shown_continuation(given, made)
    picture = media.images["continuation"]
    orange = (picture == (255, 160, 0)).all(-1)
    assert orange.any(0).nonzero()[0].tolist() == [COLUMNS_PER_SECOND]
    assert picture[127 - 72, int(1.5 * COLUMNS_PER_SECOND)].tolist() == [255, 255, 255]
    assert media.lines == ("  1.0 s of music | 2.0 s more, 1 notes",)


def test_the_sound_is_as_long_as_the_music_and_not_silent():
    media = shown_continuation(encode([Note(69, 80, 0.0, 1.0)]), encode([Note(72, 80, 0.0, 1.0)]))
    samples, rate = media.sounds["continuation"]
    assert rate == SAMPLE_RATE and 2 * rate <= len(samples) <= 4 * rate
    assert 0.5 < np.abs(samples).max() <= 1.0
    # The A is heard first: most of its power is at 440 Hz.
    power = np.abs(np.fft.rfft(samples[:rate])) ** 2
    assert power.argmax() == pytest.approx(440, abs=3)


def test_only_a_minute_is_shown_and_heard():
    endless = np.full(500, 355)
    media = shown_continuation(np.array([356 + 20, 60]), np.append(endless, [188, 60]))
    assert media.images["continuation"].shape[1] == 60 * COLUMNS_PER_SECOND + 1
    assert len(media.sounds["continuation"][0]) <= 62 * SAMPLE_RATE


def test_music_without_notes_makes_no_sound(monkeypatch):
    silent = shown_continuation(np.array([300]), np.array([310]))
    assert silent.sounds == {} and silent.images["continuation"].shape[:1] == (128,)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    unheard = shown_continuation(encode([Note(69, 80, 0.0, 1.0)]), np.array([310]))
    assert unheard.sounds == {} and unheard.images["continuation"].any()


def test_a_run_learns_shows_and_writes_its_card(config, tmp_path):
    longer = dataclasses.replace(config, num_steps=12, eval_every=12)
    held_out = train(longer, tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert held_out["loss"] < rows[0]["train/loss"] - 0.3
    assert (tmp_path / "plots" / "continuation.png").is_file()
    assert read_card(tmp_path)[0].music == MusicPreprocessing()


def test_what_does_not_go_together_is_refused(config):
    def check(model=config.model, data=config.data, task=config.task):
        with pytest.raises(UserError) as error:
            task.check(model, data)
        return str(error.value)

    bytes_model = dataclasses.replace(config.model, vocab_size=262)
    assert "389 ids, the model 262; set --config.model.vocab_size=389" in check(bytes_model)
    longer = dataclasses.replace(config.data, max_seq_len=33)
    assert "33 tokens, the model takes 32" in check(data=longer)
    texts = dataclasses.replace(config.task, predict_samples=("la la",))
    assert "predict_samples are texts" in check(task=texts)
    assert "MusicDataConfig" in check(data=experiment().data)
    config.task.check(config.model, config.data)


@pytest.mark.parametrize("name", ["predict_prompt", "predict_tokens", "predict_top_k"])
def test_settings_that_make_no_sense_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be 1 or more"):
        CausalModelling(**{name: 0})


def test_a_long_prompt_of_a_short_model_is_cut(config, random_model):
    short = CausalSequenceConfig(
        vocab_size=389, max_seq_len=8, max_latents=4, num_channels=8, num_heads=1
    )
    model = random_model(lambda: models.build(short, jax.random.key(0)))
    media = config.task.show(model, {}, config.data)
    given = open_events(config.data, "test")[0]
    assert seconds_of(given[:8]) != seconds_of(given[:30])
    assert media.lines[0].startswith(f"  {seconds_of(given[:8]):.1f} s of music | ")
