"""Classes of texts: what counts, what is shown, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.data import Shard
from perceiver_jax.errors import UserError
from perceiver_jax.train.tasks import TextClassification
from tests.train.tiny_runs import experiment
from tests.train.tiny_texts import classifier, language_model


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def model(config, random_model):
    return random_model(lambda: models.build(config.model, jax.random.key(0)))


def batch_of(config, training=False):
    return config.task.batches(config.data, training=training, seed=0, shard=Shard())[0]


LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]], np.float32)


def constant(ids, input_mask, key=None):
    return jnp.asarray(LOGITS)


def test_loss_and_accuracy_are_sums_over_texts():
    batch = {"ids": None, "input_mask": None, "label": np.array([0, 0, 1])}
    sums = TextClassification().loss(constant, batch, None)
    losses = -np.asarray(jax.nn.log_softmax(LOGITS))[np.arange(3), batch["label"]]
    assert [float(x) for x in sums["loss"]] == pytest.approx([losses.sum(), 3], rel=1e-6)
    assert [float(x) for x in sums["accuracy"]] == [1, 3]


def test_probabilities_of_classes_take_the_place_of_labels():
    target = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], np.float32)
    batch = {"ids": None, "input_mask": None, "label": np.array([0, 0, 1]), "target": target}
    loss = TextClassification().loss(constant, batch, None)["loss"][0]
    want = -(target * np.asarray(jax.nn.log_softmax(LOGITS))).sum()
    assert float(loss) == pytest.approx(want, rel=1e-6)


def test_evaluation_counts_real_texts_and_does_not_smooth():
    mask = np.array([True, True, False])
    batch = {"ids": None, "input_mask": None, "label": np.array([0, 0, 1]), "mask": mask}
    sums = TextClassification(label_smoothing=0.3).evaluate(constant, batch)
    losses = -np.asarray(jax.nn.log_softmax(LOGITS))[np.arange(2), 0]
    assert [float(x) for x in sums["loss"]] == pytest.approx([losses.sum(), 2], rel=1e-6)
    assert [float(x) for x in sums["accuracy"]] == [1, 2]


def test_texts_are_shown_with_predicted_and_real_class(config, model):
    batch = batch_of(config)
    task = TextClassification(num_shown=3)
    table = task.show(model, batch, config.data).texts["predictions"].splitlines()
    assert table[0] == "| text | predicted | real |" and len(table) == 5
    names = ("bad", "good")
    logits = np.asarray(model(batch["ids"][:3], batch["input_mask"][:3]))
    for line, row, label in zip(table[2:], logits, batch["label"], strict=False):
        text, predicted, real = (cell.strip() for cell in line.strip("|").split("|"))
        assert text.startswith("The ") and text.endswith(".")
        assert predicted.split()[0] == names[row.argmax()] and real == names[label]


def test_the_card_names_classes_and_tokenizer(config):
    card = config.task.card(config.model, config.data)
    assert card.labels == ("bad", "good")
    assert card.text is not None and card.text.tokenizer == "bytes"


def test_what_does_not_go_together_is_refused(config, tmp_path):
    def check(model, data):
        with pytest.raises(UserError) as error:
            config.task.check(model, data)
        return str(error.value)

    def decoder(**fields):
        return dataclasses.replace(
            config.model, decoder=dataclasses.replace(config.model.decoder, **fields)
        )

    assert "TextDecoderConfig" in check(language_model(tmp_path).model, config.data)
    assert "ImageDataConfig" in check(config.model, experiment().data)
    assert "num_output_queries=1" in check(decoder(num_output_queries=2), config.data)
    for wrong in (1, 3):
        message = check(decoder(num_classes=wrong), config.data)
        assert f"the model tells {wrong} classes apart" in message
        assert message.endswith("set --config.model.decoder.num_classes=2")
    chunks = dataclasses.replace(config.data, layout="chunks")
    assert "layout='chunks' joins texts" in check(config.model, chunks)
    unlabelled = dataclasses.replace(config.data, dataset="python_docs")
    assert "no labels" in check(config.model, unlabelled)
    config.task.check(config.model, config.data)
