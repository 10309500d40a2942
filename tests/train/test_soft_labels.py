"""Classification of texts by probabilities of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax.train.tasks import TextClassification

LOGITS = jnp.asarray([[2.0, -1.0], [0.5, 0.25]])
BATCH = {
    "ids": jnp.zeros((2, 3), jnp.int32),
    "input_mask": jnp.ones((2, 3), bool),
    "label": jnp.asarray([1, 0]),
}
TARGET = jnp.asarray([[0.25, 0.75], [1.0, 0.0]])


def loss(batch, logits=LOGITS, **fields):
    sums = TextClassification(**fields).loss(lambda ids, mask, key: logits, batch, None)
    return {name: float(total / weight) for name, (total, weight) in sums.items()}


def test_the_loss_is_the_cross_entropy_to_the_probabilities():
    expected = -(np.asarray(TARGET) * jax.nn.log_softmax(LOGITS)).sum(-1).mean()
    assert loss(BATCH | {"target": TARGET})["loss"] == pytest.approx(float(expected))
    assert loss(BATCH)["loss"] != pytest.approx(float(expected))


def test_labels_are_the_probabilities_where_the_batch_has_no_others():
    certain = jax.nn.one_hot(BATCH["label"], 2)
    assert loss(BATCH) == loss(BATCH | {"target": certain})


def test_label_smoothing_is_on_top():
    smoothed = 0.8 * TARGET + 0.1
    expected = -(np.asarray(smoothed) * jax.nn.log_softmax(LOGITS)).sum(-1).mean()
    found = loss(BATCH | {"target": TARGET}, label_smoothing=0.2)
    assert found["loss"] == pytest.approx(float(expected))


def test_accuracy_is_by_labels():
    assert loss(BATCH | {"target": TARGET})["accuracy"] == 0.5
