"""Causal modelling of text and of the copy task: what is shown, refused, started from."""

import dataclasses

import jax
import numpy as np
import pytest

from perceiver_jax import models, params
from perceiver_jax.data import Shard, TextDataConfig
from perceiver_jax.data.copy_task import CopyTaskConfig
from perceiver_jax.errors import UserError
from perceiver_jax.models import CausalSequenceConfig, causal_bytes
from perceiver_jax.pretrained import load_checkpoint
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import read_rows
from perceiver_jax.train.tasks import CausalModelling
from tests.train.tiny_music import music_model
from tests.train.tiny_texts import language_model


def text_model(folder, *, task=None, data=None, model=None, **changes):
    config = music_model(folder)
    rows = {"dataset": "synthetic", "cache_dir": str(folder), "max_seq_len": 30, "batch_size": 8}
    return dataclasses.replace(
        config,
        task=CausalModelling(**(task or {})),
        model=dataclasses.replace(config.model, vocab_size=262, **(model or {})),
        data=TextDataConfig(**rows | (data or {})),
        **changes,
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return text_model(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def model(config, random_model):
    return random_model(lambda: models.build(config.model, jax.random.key(0)))


def test_bits_are_nats_over_the_natural_logarithm_of_two(config, model):
    batch = config.task.batches(config.data, training=False, seed=0, shard=Shard())[0]
    sums = config.task.evaluate(model, batch)
    bits, nats = (
        float(total) / float(weight) for total, weight in (sums["bits_per_token"], sums["loss"])
    )
    assert bits == pytest.approx(nats / np.log(2), rel=1e-6)


def test_of_the_copy_task_the_mirrored_half_alone_counts(config, random_model):
    data = CopyTaskConfig(seq_len=20, batch_size=4, eval_batch_size=6, num_eval=6)
    model = random_model(
        lambda: models.build(dataclasses.replace(config.model, vocab_size=259), jax.random.key(0))
    )
    batch = config.task.batches(data, training=False, seed=0, shard=Shard())[0]
    assert float(config.task.evaluate(model, batch)["loss"][1]) == 6 * 9


def test_continuations_of_samples_are_shown(config, model):
    samples = ("good *news* ", "x")
    task = CausalModelling(predict_samples=samples, predict_tokens=5, predict_top_k=3)
    media = task.show(model, {}, config.data)
    assert len(media.lines) == 2 and media.lines[1].startswith("  x|")
    assert r"**good \*news\* **" in media.texts["continuations"]
    assert CausalModelling().show(model, {}, config.data).texts == {}


@pytest.mark.parametrize("trained", [True, False])
def test_a_fixed_table_neither_learns_nor_decays(tmp_path, trained):
    table = {"position_table": "sinusoidal", "train_positions": trained, "abs_pos_emb": True}
    config = text_model(tmp_path, num_steps=2, model=table)
    train(config, tmp_path / "run")
    start, end = (
        params.flatten(model)[0]["input_adapter/position_embedding/0"]
        for model in (
            models.build(config.model, jax.random.key(0)),
            load_checkpoint(tmp_path / "run"),
        )
    )
    assert np.array_equal(start, end) != trained


def test_a_run_learns_and_is_started_from(tmp_path):
    config = text_model(tmp_path, num_steps=30)
    train(config, tmp_path / "first")
    losses = [
        row["train/loss"]
        for row in read_rows(tmp_path / "first" / "metrics.jsonl")
        if "train/loss" in row
    ]
    assert losses[-1] < 0.8 * losses[0]
    loaded = load_checkpoint(tmp_path / "first")
    assert isinstance(loaded.config, CausalSequenceConfig) and loaded.card.text.tokenizer == "bytes"
    source = dataclasses.replace(config.pretrained, source=str(tmp_path / "first"))
    further = dataclasses.replace(config, pretrained=source, num_steps=2)
    train(further, tmp_path / "second")
    again = [
        row["train/loss"]
        for row in read_rows(tmp_path / "second" / "metrics.jsonl")
        if "train/loss" in row
    ]
    assert again[0] < 0.8 * losses[0]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """The workdir of a run of one step."""
    folder = tmp_path_factory.mktemp("short_run")
    train(text_model(folder, num_steps=1), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": {"num_heads": 4}}, "model.num_heads: 2 there, 4 here"),
        ({"model": {"rotary_fraction": 0.0}}, "model.rotary_fraction: None there, 0.0 here"),
    ],
)
def test_weights_of_another_function_are_refused(short_run, tmp_path, changes, message):
    config = text_model(tmp_path, **changes)
    source = dataclasses.replace(config.pretrained, source=str(short_run))
    with pytest.raises(UserError, match=message):
        train(dataclasses.replace(config, pretrained=source), tmp_path / "second")
    encoder = dataclasses.replace(source, part="encoder")
    with pytest.raises(UserError, match="has no encoder of its own"):
        train(dataclasses.replace(config, pretrained=encoder), tmp_path / "third")


@pytest.mark.parametrize(
    "model, data, message",
    [
        (
            causal_bytes(vocab_size=300),
            TextDataConfig(dataset="synthetic"),
            "config.model.vocab_size",
        ),
        (
            causal_bytes(max_seq_len=600),
            TextDataConfig(dataset="synthetic", max_seq_len=601),
            "config.model.max_seq_len",
        ),
        (causal_bytes(), CopyTaskConfig(), "this data has 259 ids, the model 262"),
        (
            causal_bytes(vocab_size=259, max_seq_len=512),
            CopyTaskConfig(seq_len=514),
            "rows have 513 tokens, the model takes 512",
        ),
    ],
)
def test_models_that_do_not_fit_the_data_are_refused(model, data, message):
    with pytest.raises(UserError, match=message):
        CausalModelling().check(model, data)


def test_other_models_are_refused(tmp_path):
    other = language_model(tmp_path)
    with pytest.raises(UserError, match="takes a CausalSequenceConfig"):
        CausalModelling().check(other.model, other.data)


@pytest.mark.parametrize(
    "fields", [{"predict_tokens": 0}, {"predict_top_k": 0}, {"predict_samples": ("",)}]
)
def test_settings_that_mean_nothing_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        CausalModelling(**fields)
