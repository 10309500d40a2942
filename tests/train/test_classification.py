"""Classification of any modality: losses, metrics, views, pictures, errors, a whole run."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.config import to_config_dict
from perceiver_jax.data import Shard
from perceiver_jax.errors import UserError
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.main import train
from perceiver_jax.train.metrics import average
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import Classification
from tests.toy_modality import ToyData, ToySource, toy_model


class Fixed:
    """A model whose logits are the mean of the numbers of an example, and their opposite."""

    def __call__(self, inputs, input_mask=None, *, key=None):
        x = jnp.asarray(inputs["numbers"]).mean((1, 2))
        return jnp.stack([-x, x], axis=1)


def batch(task, data, *, training=False):
    return task.batches(data, training=training, seed=0, shard=Shard())[0]


def test_one_class_is_cross_entropy_and_accuracy():
    task, data = Classification(), ToyData(eval_batch_size=32)
    one = batch(task, data)
    logits = np.asarray(Fixed()({"numbers": one["inputs"]["numbers"][:20, 0]}), np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), one["label"][:20]]
    got = average([task.evaluate(Fixed(), one)])
    assert got["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert got["accuracy"] == (logits.argmax(1) == one["label"][:20]).mean()


def test_probabilities_of_views_are_averaged():
    task, data = Classification(), ToyData(eval_batch_size=20, num_views=2)
    one = batch(task, data)
    numbers = one["inputs"]["numbers"]
    views = [jax.nn.softmax(Fixed()({"numbers": numbers[:, i]})) for i in range(2)]
    mean = np.asarray(sum(views)) / 2
    want = -np.log(mean[np.arange(20), one["label"]]).mean()
    got = average([task.evaluate(Fixed(), one)])
    assert got["loss"] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("num_views", [1, 2])
def test_any_number_of_classes_is_binary_cross_entropy_and_mean_average_precision(num_views):
    task = Classification()
    one = batch(task, ToyData(eval_batch_size=32, any_number=True, num_views=num_views))
    numbers = one["inputs"]["numbers"][:20]
    views = [jax.nn.sigmoid(Fixed()({"numbers": numbers[:, i]})) for i in range(num_views)]
    mean = np.asarray(sum(views), np.float64) / num_views
    right = np.where(one["label"][:20], mean, 1 - mean)
    got = average([task.evaluate(Fixed(), one)])
    assert got["loss"] == pytest.approx(-np.log(right).sum(1).mean(), rel=1e-4)
    # All examples have the first class; the second one the scores tell.
    highs = numbers[1::2, 0].mean((1, 2)).min() > numbers[::2, 0].mean((1, 2)).max()
    assert got["mean_average_precision"] == pytest.approx(1.0) or not highs


def test_training_smooths_labels():
    data = ToyData(batch_size=8)
    plain, smoothed = Classification(), Classification(label_smoothing=0.2)
    one = batch(plain, data, training=True)
    got = [average([task.loss(Fixed(), one, jax.random.key(0))]) for task in (plain, smoothed)]
    logits = np.asarray(Fixed()({"numbers": one["inputs"]["numbers"][:, 0]}), np.float64)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = 0.8 * np.eye(2)[one["label"]] + 0.1
    assert got[1]["loss"] == pytest.approx(-(targets * log_softmax).sum(1).mean(), rel=1e-5)
    assert got[0]["loss"] != pytest.approx(got[1]["loss"], rel=1e-3)
    assert got[0]["accuracy"] == got[1]["accuracy"]


@pytest.mark.parametrize("any_number", [False, True])
def test_it_shows_a_table_and_pictures(any_number):
    task, data = Classification(num_shown=3), ToyData(eval_batch_size=8, any_number=any_number)
    model = models.build(toy_model(), jax.random.key(0))
    media = task.show(model, batch(task, data), data)
    rows = media.texts["predictions"].splitlines()
    assert len(rows) == 5
    assert rows[3].endswith("| low; high |" if any_number else "| high |")
    assert media.images["predictions"].ndim == 3


def test_names_with_commas_are_told_apart(monkeypatch):
    monkeypatch.setattr(ToySource, "class_names", ("low, deep", "high, shrill"))
    data = ToyData(eval_batch_size=8, any_number=True, data_dir="commas")
    model = models.build(toy_model(), jax.random.key(0))
    rows = Classification().show(model, batch(Classification(), data), data).texts["predictions"]
    assert re.search(r"\| (low, deep|high, shrill) \d+%; (low|high), \w+ \d+% \|", rows)
    assert "| low, deep; high, shrill |" in rows


@pytest.mark.parametrize("any_number", [False, True])
def test_a_run_learns_and_is_resumed(tmp_path, any_number):
    config = ExperimentConfig(
        task=Classification(),
        model=toy_model(),
        data=ToyData(batch_size=16, eval_batch_size=16, any_number=any_number),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
        num_steps=60,
        log_every=10,
        eval_every=60,
    )
    metric = "mean_average_precision" if any_number else "accuracy"
    checkpoint = dataclasses.replace(config.checkpoint, best_metric=metric)
    config = dataclasses.replace(config, checkpoint=checkpoint)
    train(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1][f"eval/{metric}"] > 0.9
    train(dataclasses.replace(config, num_steps=61), tmp_path)


def test_it_goes_through_a_config_dict():
    config = ExperimentConfig(
        task=Classification(), model=toy_model(), data=ToyData(num_views=2), num_steps=1
    )
    tree = to_config_dict(config)
    assert (tree.data.kind, tree.model.encoder.kind) == ("ToyData", "ToyModality")


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (toy_model(), ToyData(num_channels=2), "does not take what the data gives: 2 channels"),
        (
            dataclasses.replace(
                toy_model(), decoder=dataclasses.replace(toy_model().decoder, num_classes=1)
            ),
            ToyData(),
            "set --config.model.decoder.num_classes=2",
        ),
        (
            dataclasses.replace(
                toy_model(), decoder=dataclasses.replace(toy_model().decoder, num_output_queries=2)
            ),
            ToyData(),
            "num_output_queries=1",
        ),
    ],
)
def test_what_does_not_go_together_is_an_error_before_work_starts(model, data, message):
    with pytest.raises(UserError, match=message):
        Classification().check(model, data)


def test_splits_of_different_classes_are_an_error(monkeypatch):
    class Other(ToySource):
        class_names = ("high", "low")

    monkeypatch.setattr(
        ToyData, "open", lambda self, split: (ToySource if split == "train" else Other)(20)
    )
    data = ToyData(data_dir="elsewhere")
    with pytest.raises(UserError, match="'train' and 'test' have the same classes in another o"):
        Classification().check(toy_model(), data)
    Other.class_names = ("high, shrill", "low")
    said = "'test' has 'high, shrill', which 'train' does not; split 'train' has 'high', which 'te"
    with pytest.raises(UserError, match=said):
        Classification().check(toy_model(), ToyData(data_dir="third"))
    Other.class_names = ("high", "low", "middle")  # told before their number is
    with pytest.raises(UserError, match="'test' has 'middle', which 'train' does not: labels"):
        Classification().check(toy_model(), ToyData(data_dir="fourth"))


def test_classes_of_which_there_is_no_example_are_told_and_have_names(capsys):
    model, data = toy_model(), ToyData(eval_batch_size=8)
    Classification().check(model, data)
    assert not capsys.readouterr().err
    assert Classification().card(model, data).labels == ("low", "high")
    decoder = dataclasses.replace(model.decoder, num_classes=4)
    model = dataclasses.replace(model, decoder=decoder)
    Classification().check(model, data)
    said = capsys.readouterr().err
    assert re.search("4 classes apart, but the data has 2; .*'class 2'.* set .*num_classes=2", said)
    assert Classification().card(model, data).labels == ("low", "high", "class 2", "class 3")
    built = models.build(model, jax.random.key(0))
    table = Classification().show(built, batch(Classification(), data), data).texts
    assert len(table["predictions"].splitlines()) == 10


def test_inputs_that_the_model_misses_are_named_beside_those_that_there_are(monkeypatch):
    def renamed(self, example, rng):
        return {"inputs": {"digits": example["numbers"]}, "label": example["label"]}

    monkeypatch.setattr(ToyData, "prepare", renamed)
    monkeypatch.setattr(ToyData, "views", lambda self, example: [self.prepare(example, None)])
    with pytest.raises(UserError, match="there is no 'numbers', but 'digits'"):
        Classification().check(toy_model(), ToyData())


def test_a_source_without_class_names_is_an_error_before_work_starts(monkeypatch):
    monkeypatch.delattr(ToySource, "class_names")
    with pytest.raises(UserError, match="is of class ToySource, which has no class_names: .*'cat'"):
        Classification().check(toy_model(), ToyData(data_dir="nameless"))


@pytest.mark.parametrize("any_number", [False, True])
def test_averages_of_views_are_exact_for_large_logits(any_number):
    class Sure(Fixed):
        def __call__(self, inputs, input_mask=None, *, key=None):
            return 60.0 * jnp.sign(super().__call__(inputs))

    one = batch(Classification(), ToyData(eval_batch_size=20, any_number=any_number))
    twice = one | {"inputs": {"numbers": one["inputs"]["numbers"].repeat(2, axis=1)}}
    twice["input_mask"] = one["input_mask"].repeat(2, axis=1)
    got = [average([Classification().evaluate(Sure(), x)]) for x in (one, twice)]
    assert got[0]["loss"] > 20
    assert got[1] == pytest.approx(got[0], rel=1e-6)
