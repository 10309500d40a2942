"""Texts to classes: cross-entropy, accuracy, a table of held-out texts with their classes."""

import dataclasses
from collections.abc import Mapping

import grain
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import Shard
from perceiver_jax.data.text import (
    TextDataConfig,
    class_names,
    classification_batches,
    open_tokenizer,
)
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    PerceiverConfig,
    TextEncoderConfig,
)
from perceiver_jax.models.perceiver_config import half_of
from perceiver_jax.train.losses import classification_loss, smooth
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.train.tasks.text import check_text, text_preprocessing, tokenizer_files
from perceiver_jax.typing import Array, Batch, Key, Model, Sums

SHOWN_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassification:
    """One label per text."""

    label_smoothing: float = setting(0.0, "mass of a target spread over all classes, in [0, 1)")
    num_shown: int = setting(12, "held-out texts in the table of predictions")

    def __post_init__(self):
        check_fields(self)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={self.label_smoothing} is not in [0, 1)")

    def check(self, model: PerceiverConfig, data: TextDataConfig) -> None:
        """See `Task`."""
        encoder, decoder = half_of(model, "encoder"), half_of(model, "decoder")
        if not (
            isinstance(encoder, TextEncoderConfig)
            and isinstance(decoder, ClassificationDecoderConfig)
            and isinstance(data, TextDataConfig)
        ):
            raise UserError(
                "classes of texts take a TextEncoderConfig, a ClassificationDecoderConfig and a "
                f"TextDataConfig, not {type(encoder).__name__}, {type(decoder).__name__} and "
                f"{type(data).__name__}; choose these in the config file"
            )
        if decoder.num_output_queries != 1 or decoder.output_queries == "given":
            raise UserError(
                "one label per text takes one output query of the model's own; set "
                "--config.model.decoder.num_output_queries=1 and output_queries=trainable or zeros"
            )
        if data.layout != "documents":
            raise UserError(
                f"data.layout='{data.layout}' joins texts, and each has a label of its own; set "
                "--config.data.layout=documents"
            )
        check_text(encoder, data)
        names = class_names(data)
        if decoder.num_classes != len(names):
            raise UserError(
                f"the model tells {decoder.num_classes} classes apart, but dataset "
                f"'{data.dataset}' has {len(names)}; set --config.model.decoder.num_classes="
                f"{len(names)}"
            )

    def batches(
        self, data: TextDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task`; batches hold `ids` and `input_mask` [B, M], and `label` [B].

        With `soft_labels`, those of training also hold `target`, [B, classes of the dataset].
        """
        return classification_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """Loss and accuracy over the texts of the batch."""
        logits = model(batch["ids"], batch["input_mask"], key=key)
        targets = smooth(_targets(batch, logits.shape[-1]), self.label_smoothing)
        losses = classification_loss(logits, targets, "cross_entropy")
        size = jnp.float32(len(losses))
        return {"loss": (losses.sum(), size), "accuracy": (_right(logits, batch).sum(), size)}

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Loss, without label smoothing, and accuracy."""
        logits = model(batch["ids"], batch["input_mask"])
        mask = batch["mask"].astype(jnp.float32)
        targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        losses = classification_loss(logits, targets, "cross_entropy")
        sums = {"loss": losses, "accuracy": _right(logits, batch)}
        return {name: ((value * mask).sum(), mask.sum()) for name, value in sums.items()}

    def card(self, model: PerceiverConfig, data: TextDataConfig) -> ModelCard:
        """Names of the classes, and the tokenizer."""
        return ModelCard(labels=class_names(data), text=text_preprocessing(data))

    def files(self, data: TextDataConfig) -> Mapping[str, bytes]:
        """The file of the tokenizer."""
        return tokenizer_files(data)

    def show(self, model: Model, batch: Batch, data: TextDataConfig) -> Media:
        """A table of held-out texts with predicted and real class."""
        shown = np.flatnonzero(batch["mask"])[: self.num_shown]
        ids, mask = batch["ids"][shown], batch["input_mask"][shown]
        probabilities = np.asarray(_probabilities(model, ids, mask))
        names, tokenizer = class_names(data), open_tokenizer(data)
        table = ["| text | predicted | real |", "|---|---|---|"]
        for row, kept, values, label in zip(
            ids, mask, probabilities, batch["label"][shown], strict=True
        ):
            text = tokenizer.decode(row[kept])[:SHOWN_CHARACTERS].replace("|", "\\|")
            best = int(values.argmax())
            table.append(
                f"| {' '.join(text.split())} | {names[best]} {values[best]:.0%} | {names[label]} |"
            )
        return Media(texts={"predictions": "\n".join(table)})


@jax.jit
def _probabilities(model: Model, ids: Array, input_mask: Array) -> jax.Array:
    return jax.nn.softmax(model(ids, input_mask).astype(jnp.float32))


def _targets(batch: Batch, num_classes: int) -> Array:
    """[B, K] distributions: those of the batch where it has any, else its labels."""
    if "target" not in batch:
        return jax.nn.one_hot(batch["label"], num_classes)
    return jnp.asarray(batch["target"])


def _right(logits: Array, batch: Batch) -> jax.Array:
    return (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
