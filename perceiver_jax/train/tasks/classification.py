"""Inputs of any modality to classes: one class each, or any number of them.

- Which of the two it is, the data says: labels are integers, or a bool for every class.
- In evaluation the probabilities of an example's views are averaged.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax import models
from perceiver_jax.adapters import ModalityConfig
from perceiver_jax.card import ModelCard
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import LabelledDataConfig, Shard
from perceiver_jax.data.labelled import Examples, labelled_batches, open_split
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
)
from perceiver_jax.train.average_precision import PrecisionCounts
from perceiver_jax.train.losses import classification_loss, multi_label_loss, smooth
from perceiver_jax.train.plots import prediction_grid
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.train.tasks.classes import all_names, check_num_classes, check_same_classes
from perceiver_jax.typing import Array, Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """Classes of inputs of any modality."""

    label_smoothing: float = setting(
        0.0,
        "mass of a target spread over all classes, in [0, 1); with any number of classes, what "
        "targets are drawn towards one half by",
    )
    num_shown: int = setting(12, "held-out examples in the picture and table of predictions")

    def __post_init__(self):
        check_fields(self)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={self.label_smoothing} is not in [0, 1)")

    def check(self, model: PerceiverConfig, data: LabelledDataConfig) -> None:
        """See `Task`."""
        encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
        if not (
            isinstance(encoder, ModalityConfig)
            and isinstance(decoder, ClassificationDecoderConfig | MeanPoolDecoderConfig)
            and isinstance(data, LabelledDataConfig)
        ):
            raise UserError(
                "classification takes a ModalityConfig, a ClassificationDecoderConfig or "
                "MeanPoolDecoderConfig, and a LabelledDataConfig, not "
                f"{type(encoder).__name__}, {type(decoder).__name__} and {type(data).__name__}; "
                "choose these in the config file"
            )
        if isinstance(decoder, ClassificationDecoderConfig) and (
            decoder.num_output_queries != 1 or decoder.output_queries == "given"
        ):
            raise UserError(
                "classification takes one output query of the model's own; set "
                "--config.model.decoder.num_output_queries=1 and output_queries=trainable or zeros"
            )
        splits = data.train_split, data.eval_split
        train, held_out = (open_split(data, split).class_names for split in splits)
        check_same_classes(train, held_out, splits)
        check_num_classes(decoder.num_classes, train, "the data")
        for split in splits:
            _check_inputs(model, Examples(data, split).for_evaluation(0))

    def batches(
        self, data: LabelledDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task` and `data.labelled`."""
        return labelled_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """Loss, and accuracy where an example has one class, over the examples of the batch."""
        logits = _logits(model, batch, key=key)[:, 0]
        targets = _targets(batch["label"], logits.shape[-1])
        size = jnp.float32(len(logits))
        if _any_number(batch):
            smoothed = (1.0 - self.label_smoothing) * targets + self.label_smoothing / 2
            return {"loss": (multi_label_loss(logits, smoothed).sum(), size)}
        smoothed = smooth(targets, self.label_smoothing)
        losses = classification_loss(logits, smoothed, "cross_entropy")
        right = (logits.argmax(-1) == batch["label"]).sum().astype(jnp.float32)
        return {"loss": (losses.sum(), size), "accuracy": (right, size)}

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Loss, without label smoothing; accuracy, or mean average precision over the classes."""
        logits = _averaged(_logits(model, batch), batch)
        counted = batch["mask"].astype(jnp.float32)
        targets = _targets(batch["label"], logits.shape[-1])
        if _any_number(batch):
            losses = multi_label_loss(logits, targets)
            counts = PrecisionCounts.of(logits, targets, batch["mask"])
            return {
                "loss": ((losses * counted).sum(), counted.sum()),
                "mean_average_precision": counts,
            }
        losses = classification_loss(logits, targets, "cross_entropy")
        right = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
        sums = {"loss": losses, "accuracy": right}
        return {name: ((value * counted).sum(), counted.sum()) for name, value in sums.items()}

    def card(self, model: PerceiverConfig, data: LabelledDataConfig) -> ModelCard:
        """Names of the classes."""
        decoder: Any = model.decoder
        names = open_split(data, data.eval_split).class_names
        return ModelCard(labels=all_names(names, decoder.num_classes))

    def files(self, data: LabelledDataConfig) -> Mapping[str, bytes]:
        """None."""
        return {}

    def show(self, model: Model, batch: Batch, data: LabelledDataConfig) -> Media:
        """Held-out examples with predicted and real classes: a table, and pictures if any."""
        shown = np.flatnonzero(batch["mask"])[: self.num_shown]
        part = jax.tree.map(lambda x: np.asarray(x)[shown], dict(batch))
        probabilities = np.asarray(_probabilities(model, part))
        classes = open_split(data, data.eval_split).class_names
        names = all_names(classes, probabilities.shape[-1])
        predicted = [_named(row, names, _any_number(batch)) for row in probabilities]
        real = [_real(label, names) for label in part["label"]]
        table = ["| | predicted | real |", "|---|---|---|"]
        table += [
            f"| {i} | {guess} | {truth} |"
            for i, (guess, truth) in enumerate(zip(predicted, real, strict=True))
        ]
        firsts = [jax.tree.map(lambda x, i=i: x[i, 0], part["inputs"]) for i in range(len(shown))]
        pictures = [data.picture(inputs) for inputs in firsts]
        found = [picture for picture in pictures if picture is not None]
        best = [
            _best(row, len(np.flatnonzero(label)) if label.ndim else 1, names)
            for row, label in zip(probabilities, part["label"], strict=True)
        ]
        images = {"predictions": prediction_grid(found, best, real)} if found else {}
        return Media(images=images, texts={"predictions": "\n".join(table)})


def _check_inputs(model: PerceiverConfig, example: Mapping[str, Any]) -> None:
    """Raises a UserError where the model does not take what the data gives.

    Args:
        model: its config.
        example: with its views [V, ...], of which the first is tried.
    """
    inputs, mask = jax.tree.map(lambda x: x[:1], (example["inputs"], example.get("input_mask")))
    structure = models.skeleton(model)

    def call(parameters, statistics, inputs, mask):
        model: Any = structure.bind(parameters, statistics)
        return model(inputs, mask)

    try:
        jax.eval_shape(call, structure.params, structure.stats, inputs, mask)
    except (ValueError, KeyError, TypeError) as error:
        missing = isinstance(error, KeyError) and isinstance(inputs, Mapping)
        reason = f"there is no {error}, but {', '.join(map(repr, inputs))}" if missing else error
        raise UserError(f"the model does not take what the data gives: {reason}") from error


def _any_number(batch: Batch) -> bool:
    return batch["label"].ndim == 2


def _logits(model: Any, batch: Batch, *, key: Key | None = None) -> Array:
    """[B, V, classes] of all views."""
    size = batch["label"].shape[0]
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (batch["inputs"], batch.get("input_mask"))
    )
    logits = model(*flat, key=key)
    return logits.reshape(size, -1, logits.shape[-1])


def _averaged(logits: Array, batch: Batch) -> Array:
    """[B, V, classes] → [B, classes], logits of the mean probabilities."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if logits.shape[1] == 1:
        return logits[:, 0]
    if _any_number(batch):
        yes, no = (
            jax.nn.logsumexp(jax.nn.log_sigmoid(sign * logits), axis=1) for sign in (1.0, -1.0)
        )
        return yes - no
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=1) - jnp.log(logits.shape[1])


def _targets(labels: Array, num_classes: int) -> Array:
    """[B] integers or [B, k] bools → [B, num_classes] floats."""
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, num_classes)
    return jnp.pad(labels.astype(jnp.float32), ((0, 0), (0, num_classes - labels.shape[1])))


@jax.jit
def _probabilities(model: Model, batch: Batch) -> jax.Array:
    logits = _averaged(_logits(model, batch), batch)
    return jax.nn.sigmoid(logits) if _any_number(batch) else jax.nn.softmax(logits)


def _named(probabilities: np.ndarray, names: tuple[str, ...], any_number: bool) -> str:
    """The best class, or the best three of any number, with their probabilities."""
    best = np.argsort(probabilities)[::-1][: 3 if any_number else 1]
    return _listed(f"{names[i]} {probabilities[i]:.0%}" for i in best)


def _best(probabilities: np.ndarray, count: int, names: tuple[str, ...]) -> str:
    """So many best classes, written as `_real` does."""
    best = np.sort(np.argsort(probabilities)[::-1][:count])
    return _listed(names[i] for i in best)


def _real(label: np.ndarray, names: tuple[str, ...]) -> str:
    classes = np.flatnonzero(label) if label.ndim else [int(label)]
    return _listed(names[i] for i in classes)


def _listed(classes: Iterable[str]) -> str:
    """Classes in a line; names have commas in them."""
    return "; ".join(classes) or "none"
