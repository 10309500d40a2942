"""The task of classifying images: what it counts, what it shows, what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_jax import models
from perceiver_jax.config import from_dict, to_dict
from perceiver_jax.data.mixing import mixed_target
from perceiver_jax.errors import UserError
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.tasks import ImageClassification
from tests.train.tiny_runs import experiment

CONFIG = experiment()


def evaluate(logits, labels, mask=None, **fields):
    """Metrics of a model that answers with these logits."""
    labels = jnp.asarray(labels)
    mask = jnp.ones(len(labels), bool) if mask is None else jnp.asarray(mask)
    batch = {"image": None, "label": labels, "mask": mask}
    sums = ImageClassification(**fields).evaluate(lambda images: jnp.asarray(logits), batch)
    return {name: (float(total), float(weight)) for name, (total, weight) in sums.items()}


def test_accuracy_counts_right_answers_that_are_no_padding():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    got = evaluate(logits, [0, 1, 0, 2], mask=[True, True, True, False])
    assert got["accuracy"] == (2, 3)
    assert "top5_accuracy" not in got


def test_a_tie_or_nan_is_no_right_answer():
    logits = np.asarray([[1.0, 1.0, 0.0], [np.nan] * 3], np.float32)
    assert evaluate(logits, [0, 0])["accuracy"] == (0, 2)


def test_top_five_counts_where_there_are_more_than_ten_classes():
    logits = np.arange(11, dtype=np.float32)[None].repeat(11, 0)
    got = evaluate(logits, np.arange(11))
    assert got["accuracy"] == (1, 11)
    assert got["top5_accuracy"] == (5, 11)


def test_held_out_loss_is_not_smoothed():
    logits = np.asarray([[2.0, 0.0, 0.0]], np.float32)
    want = float(np.log(np.exp(2) + 2) - 2)
    assert evaluate(logits, [0], label_smoothing=0.3)["loss"][0] == pytest.approx(want, rel=1e-6)


def test_training_loss_is_smoothed_and_comes_with_accuracy():
    logits = np.asarray([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    batch = {"image": None, "label": jnp.asarray([0, 1])}
    task = ImageClassification(label_smoothing=0.3)
    sums = task.loss(lambda images, key: jnp.asarray(logits), batch, None)
    targets = 0.7 * np.eye(3)[[0, 1]] + 0.1
    losses = -(targets * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1)
    assert [float(x) for x in sums["loss"]] == pytest.approx([losses.sum(), 2], rel=1e-6)
    assert [float(x) for x in sums["accuracy"]] == [1, 2]


def test_mixed_images_are_scored_by_their_targets():
    logits = np.asarray([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    target = np.asarray([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]], np.float32)
    batch = {"image": None, "label": jnp.asarray([0, 1]), "target": jnp.asarray(target)}
    task = ImageClassification(label_smoothing=0.3)
    sums = task.loss(lambda images, key: jnp.asarray(logits), batch, None)
    targets = 0.7 * target + 0.1
    losses = -(targets * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1)
    assert [float(x) for x in sums["loss"]] == pytest.approx([losses.sum(), 2], rel=1e-6)
    assert [float(x) for x in sums["accuracy"]] == [1, 2]


def test_the_loss_of_mixed_images_is_that_of_deepmind(golden_training):
    inputs = {name: golden_training[f"inputs/loss/{name}"] for name in ("labels", "mix_labels")}
    shares = golden_training["inputs/loss/ratio"]
    target = [
        mixed_target(int(one), int(other), float(share), 11)
        for one, other, share in zip(*inputs.values(), shares, strict=True)
    ]
    logits = jnp.asarray(golden_training["inputs/loss/logits"])
    batch = {"image": None, "label": inputs["labels"], "target": np.stack(target)}
    sums = ImageClassification(label_smoothing=0.1).loss(lambda images, key: logits, batch, None)
    want = golden_training["outputs/loss/per_example"].sum()
    assert float(sums["loss"][0]) == pytest.approx(float(want), rel=1e-6)


def test_top_one_and_five_are_those_of_deepmind(golden_training):
    logits = golden_training["inputs/loss/logits"]
    labels = golden_training["inputs/loss/labels"]
    for i, (one, five) in enumerate(
        zip(golden_training["outputs/loss/top1"], golden_training["outputs/loss/top5"], strict=True)
    ):
        got = evaluate(logits[i : i + 1], labels[i : i + 1])
        assert (got["accuracy"][0], got["top5_accuracy"][0]) == (one, five)


def test_the_grid_shows_examples_without_padding():
    model = models.build(CONFIG.model, jax.random.key(0))
    batch = {
        "image": np.zeros((12, 8, 8, 1), np.float32),
        "label": np.zeros(12, np.int32),
        "mask": np.arange(12) < 9,
    }
    shown = ImageClassification(num_shown=24).show(model, batch, CONFIG.data)
    few = ImageClassification(num_shown=4).show(model, batch, CONFIG.data)
    assert shown.images["predictions"].shape == (370, 1200, 3)
    assert few.images["predictions"].shape == (185, 600, 3)


def test_a_model_and_data_that_fit_are_accepted():
    CONFIG.task.check(CONFIG.model, CONFIG.data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"synthetic_classes": 11}, "tells 10 classes apart, but .* has 11; .*num_classes=11"),
        ({"synthetic_classes": 9}, "tells 10 classes apart, but .* has 9; .*num_classes=9"),
        ({"synthetic_shape": (8, 9, 1)}, r"have shape \(8, 9, 1\), the model takes \(8, 8, 1\)"),
        (
            {"rand_augment_layers": 2},
            "rand_augment_layers=2 is for images of 3 ch.* have 1: set it",
        ),
        ({"image_size": (4, 4)}, r"have shape \(4, 4, 1\), the model takes \(8, 8, 1\)"),
        ({"mean": (0.1, 0.2)}, "data.mean=.* has 2 numbers for images of 1 channels"),
        ({"std": (0.1, 0.2, 0.3)}, "data.std=.* has 3 numbers for images of 1 channels"),
    ],
)
def test_a_model_and_data_that_do_not_fit_are_refused_with_the_remedy(data, message):
    with pytest.raises(UserError, match=message):
        CONFIG.task.check(CONFIG.model, dataclasses.replace(CONFIG.data, **data))


@pytest.mark.parametrize(
    ("data", "remedies"),
    [
        ({"synthetic_shape": (8, 9, 1)}, ["image_size=8,8", "image_shape=8,9,1"]),
        # No resizing changes channels.
        ({"synthetic_shape": (8, 8, 3)}, ["image_shape=8,8,3"]),
        ({"synthetic_shape": (9, 9, 3), "image_size": (8, 8)}, ["image_shape=8,8,3"]),
        (
            {"synthetic_shape": (20, 30, 3)},
            ["image_size=8,8 and image_shape=8,8,3", "image_shape=20,30,3"],
        ),
        (
            {"synthetic_shape": (20, 30, 3), "image_size": (5, 5)},
            ["image_size=8,8 and image_shape=8,8,3", "image_shape=5,5,3"],
        ),
    ],
)
def test_each_remedy_for_images_of_another_shape_is_one(data, remedies):
    data = dataclasses.replace(CONFIG.data, **data)
    with pytest.raises(UserError) as error:
        CONFIG.task.check(CONFIG.model, data)
    said = str(error.value).rpartition("; set ")[2].replace(" to crop and resize them", "")
    said = said.replace("--config.data.", "").replace("--config.model.encoder.", "")
    assert said.split(", or ") == remedies
    for remedy in remedies:
        given = dict(option.split("=") for option in remedy.split(" and "))
        sizes = {name: tuple(map(int, value.split(","))) for name, value in given.items()}
        shape = {"image_shape": sizes["image_shape"]} if "image_shape" in sizes else {}
        size = {"image_size": sizes["image_size"]} if "image_size" in sizes else {}
        encoder = dataclasses.replace(CONFIG.model.encoder, **shape)
        model = dataclasses.replace(CONFIG.model, encoder=encoder)
        CONFIG.task.check(model, dataclasses.replace(data, **size))


@pytest.mark.parametrize(
    ("field", "value"), [("label_smoothing", 1.0), ("label_smoothing", -0.1), ("num_shown", 0)]
)
def test_an_impossible_task_is_refused_with_its_field(field, value):
    tree = to_dict(CONFIG)
    tree["task"][field] = value
    with pytest.raises(UserError, match=f"config.task: {field}={value}"):
        from_dict(ExperimentConfig, tree)


@pytest.mark.parametrize(
    "half",
    [
        {"encoder": models.ArrayEncoderConfig(num_input_channels=1)},
        {"decoder": models.QueryDecoderConfig()},
    ],
)
def test_models_of_other_things_than_images_are_refused(half):
    model = dataclasses.replace(CONFIG.model, **half)
    with pytest.raises(UserError, match="classes of images take an ImageEncoderConfig with a Cla"):
        ImageClassification().check(model, CONFIG.data)
