"""Masked language modelling: what counts, what is shown, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.data import Shard
from perceiver_jax.data.text.fast_tokenizer import FastTokenizer
from perceiver_jax.data.text.tokenizers import ByteTokenizer
from perceiver_jax.data.text.train_tokenizer import train
from perceiver_jax.errors import UserError
from perceiver_jax.train.losses import token_sums
from perceiver_jax.train.tasks import MaskedLanguageModelling
from perceiver_jax.train.tasks.masked_language_modelling import _readable
from tests.train.tiny_runs import experiment
from tests.train.tiny_texts import classifier, language_model


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return language_model(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def model(config, random_model):
    return random_model(lambda: models.build(config.model, jax.random.key(0)))


def batch_of(config, training=False):
    return config.task.batches(config.data, training=training, seed=0, shard=Shard())[0]


def test_loss_and_accuracy_are_sums_over_the_tokens_that_count():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    targets = np.array([[0, 1, 2], [3, 4, 0]])
    counted = np.array([[True, False, True], [False, False, True]])
    losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(2)[:, None], np.arange(3), targets]
    sums = token_sums(logits, targets, counted)
    assert [float(x) for x in sums["loss"]] == pytest.approx([losses[counted].sum(), 3], rel=1e-5)
    right = (logits.argmax(-1) == targets)[counted].sum()
    assert [float(x) for x in sums["accuracy"]] == [right, 3]


def test_a_tie_is_no_right_answer():
    sums = token_sums(jnp.zeros((1, 2, 4)), np.zeros((1, 2), int), np.ones((1, 2), bool))
    assert float(sums["accuracy"][0]) == 0


def test_examples_that_fill_the_last_batch_do_not_count(config, model):
    batch = batch_of(config)
    whole = config.task.evaluate(model, batch)
    mask = np.arange(len(batch["mask"])) < 10
    part = config.task.evaluate(model, batch | {"mask": mask})
    assert float(part["loss"][1]) == batch["predicted"][:10].sum() < float(whole["loss"][1])


def test_asking_for_the_masked_tokens_alone_gives_the_same(config, model):
    batch = batch_of(config)
    most = int(batch["predicted"].sum(1).max())
    want = config.task.evaluate(model, batch)
    got = MaskedLanguageModelling(max_predictions=most).evaluate(model, batch)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5)


def test_of_more_masked_tokens_than_are_asked_for_the_first_count(config, model):
    batch = batch_of(config)
    first = batch["predicted"] & (np.cumsum(batch["predicted"], axis=1) <= 3)
    want = config.task.evaluate(model, batch | {"predicted": first})
    got = MaskedLanguageModelling(max_predictions=3).evaluate(model, batch)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)


def test_fills_of_samples_are_shown_in_a_table_and_in_lines(config, model):
    samples = ("a [MASK] | dog", "[MASK][MASK]")
    task = MaskedLanguageModelling(predict_samples=samples, predict_k=3)
    media = task.show(model, {}, config.data)
    table = media.texts["fills"].splitlines()
    assert table[0] == "| text | mask | 1. | 2. | 3. |"
    assert len(table) == 2 + 3 and len(media.lines) == 3
    assert table[2].startswith("| a [MASK] \\| dog | 1 | `")
    assert "[MASK][MASK]  mask 2: " in media.lines[2]
    # The probabilities of the line are the model's.
    ids = np.array([[ord("a") + 6, ord(" ") + 6, 3, *(ord(c) + 6 for c in " | dog")]])
    best = float(jax.nn.softmax(model(ids))[0, 2].max())
    assert media.lines[0].split(": ", 1)[1].split("  ")[0].endswith(f" {best:.1%}")


def test_a_token_is_shown_as_its_text_or_by_its_name(tmp_path):
    path = tmp_path / "tokenizer.json"
    train(["a movie, a film"] * 9, vocab_size=300, lowercase=False).save(str(path))
    trained, of_bytes = FastTokenizer("trained", path), ByteTokenizer()
    (movie,) = trained.encode(" movie")
    assert _readable(trained, int(movie)) == " movie"
    # A space alone is 'Ġ' in the vocabulary; of a character's bytes there is no other name.
    assert trained.token(int(trained.encode(" ")[0])) == "Ġ"
    assert [_readable(trained, int(i)) for i in trained.encode(" é")] == [" ", "Ã", "©"]
    assert _readable(trained, trained.mask_id) == "[MASK]"
    assert [_readable(of_bytes, i) for i in (ord("x") + 6, ord(" ") + 6, 0xFF + 6, 3)] == [
        "x",
        " ",
        "<0xFF>",
        "[MASK]",
    ]


def test_without_samples_nothing_is_shown(config, model):
    assert config.task.show(model, {}, config.data).texts == {}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"predict_samples": ("no gap",)}, "'no gap', in which there is no"),
        ({"predict_k": 0}, "predict_k=0"),
        ({"max_predictions": 0}, "max_predictions=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MaskedLanguageModelling(**fields)


def changed(config, **fields):
    return dataclasses.replace(config, **fields)


def test_what_does_not_go_together_is_refused(config, tmp_path):
    def check(model, data, task=config.task):
        with pytest.raises(UserError) as error:
            task.check(model, data)
        return str(error.value)

    wrong = classifier(tmp_path).model
    assert "ClassificationDecoderConfig" in check(wrong, config.data)
    assert "ImageDataConfig" in check(config.model, experiment().data)
    small = changed(config.model, encoder=changed(config.model.encoder, vocab_size=100))
    assert "tokenizer 'bytes' has 262 ids, the model 100" in check(small, config.data)
    longer = changed(config.data, max_seq_len=81)
    assert "data.max_seq_len=81" in check(config.model, longer)
    long_sample = MaskedLanguageModelling(predict_samples=("x" * 90 + "[MASK]",))
    assert "a text of 91 tokens" in check(config.model, config.data, long_sample)
    many = MaskedLanguageModelling(predict_k=263)
    assert "predict_k=263" in check(config.model, config.data, many)
    config.task.check(config.model, config.data)
