"""Images to classes: cross-entropy or squared error, accuracy, a grid of predictions."""

import dataclasses
from collections.abc import Mapping

import grain
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import ImageDataConfig, Shard, Source, image_batches
from perceiver_jax.data.images import open_split
from perceiver_jax.data.preprocessing import denormalize
from perceiver_jax.errors import UserError
from perceiver_jax.models import (
    ClassificationDecoderConfig,
    ImageEncoderConfig,
    MeanPoolDecoderConfig,
    PerceiverConfig,
)
from perceiver_jax.models.perceiver_config import check_half, half_of
from perceiver_jax.train.losses import ClassificationLoss, classification_loss, smooth
from perceiver_jax.train.plots import prediction_grid
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.typing import Array, Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClassification:
    """One label per image."""

    loss_function: ClassificationLoss = setting(
        "cross_entropy",
        "'cross_entropy', or 'mean_squared_error' between logits and one-hot labels",
    )
    label_smoothing: float = setting(0.0, "mass of a target spread over all classes, in [0, 1)")
    num_shown: int = setting(24, "held-out images in the grid of predictions")

    def __post_init__(self):
        check_fields(self)
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={self.label_smoothing} is not in [0, 1)")

    def check(self, model: PerceiverConfig, data: ImageDataConfig) -> None:
        """See `Task`."""
        encoder, decoder = half_of(model, "encoder"), half_of(model, "decoder")
        if not isinstance(data, ImageDataConfig):
            raise UserError(
                f"image classification takes an ImageDataConfig, not a {type(data).__name__}; "
                "choose it in the config file"
            )
        if not isinstance(encoder, ImageEncoderConfig) or not isinstance(
            decoder, ClassificationDecoderConfig | MeanPoolDecoderConfig
        ):
            raise UserError(
                "classes of images take an ImageEncoderConfig with a ClassificationDecoderConfig "
                f"or MeanPoolDecoderConfig, not {type(encoder).__name__} with "
                f"{type(decoder).__name__}; choose these in the config file"
            )
        if isinstance(decoder, ClassificationDecoderConfig) and (
            decoder.num_output_queries != 1 or decoder.output_queries == "given"
        ):
            raise UserError(
                "one label per image takes one output query of the model's own; set "
                "--config.model.decoder.num_output_queries=1 and output_queries=trainable or zeros"
            )
        for split in (data.train_split, data.eval_split):
            source = open_split(data, split)
            self._check_classes(decoder.num_classes, source, data)
            self._check_shape(encoder.image_shape, source[0]["image"].shape, data)

    def _check_classes(self, num_classes: int, source: Source, data: ImageDataConfig) -> None:
        if num_classes != len(source.class_names):
            raise UserError(
                f"the model tells {num_classes} classes apart, but dataset '{data.dataset}' has "
                f"{len(source.class_names)}; set --config.model.decoder.num_classes="
                f"{len(source.class_names)}"
            )

    def _check_shape(self, wanted: tuple, shape: tuple, data: ImageDataConfig) -> None:
        if data.image_size is not None:
            shape = (*data.image_size, shape[-1])
        if tuple(shape) != tuple(wanted):
            raise UserError(
                f"images of dataset '{data.dataset}' have shape {tuple(shape)}, the model takes "
                f"{tuple(wanted)} (height, width, channels); set {_remedy(wanted, shape)}"
            )
        if data.rand_augment_layers and shape[-1] != 3:
            raise UserError(
                f"data.rand_augment_layers={data.rand_augment_layers} is for images of 3 channels; "
                f"those of dataset '{data.dataset}' have {shape[-1]}: set it to 0"
            )
        for name in ("mean", "std"):
            if len(getattr(data, name)) not in (1, shape[-1]):
                raise UserError(
                    f"data.{name}={getattr(data, name)} has {len(getattr(data, name))} numbers for "
                    f"images of {shape[-1]} channels; give one, or one per channel"
                )

    def batches(
        self, data: ImageDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task`; batches hold `image` and `label`, those of mixed images also `target`."""
        return image_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """Loss and accuracy over the examples of the batch; of mixed images by `label` alone."""
        logits = model(batch["image"], key=key)
        targets = smooth(_targets(batch, logits.shape[-1]), self.label_smoothing)
        losses = classification_loss(logits, targets, self.loss_function)
        correct = _in_top(1, logits, batch["label"])
        size = jnp.float32(correct.size)
        return {"loss": (losses.sum(), size), "accuracy": (correct.sum(), size)}

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Loss, without label smoothing, and accuracy: top-1, and top-5 where there are more."""
        logits = model(batch["image"])
        labels, mask = batch["label"], batch["mask"].astype(jnp.float32)
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        losses = classification_loss(logits, targets, self.loss_function)
        sums = {"loss": losses, "accuracy": _in_top(1, logits, labels)}
        if logits.shape[-1] > 10:
            sums["top5_accuracy"] = _in_top(5, logits, labels)
        return {name: ((value * mask).sum(), mask.sum()) for name, value in sums.items()}

    def card(self, model: PerceiverConfig, data: ImageDataConfig) -> ModelCard:
        """Names of the classes, and what evaluation does with an image."""
        encoder = check_half(model.encoder, ImageEncoderConfig, "image classification")
        return ModelCard(
            labels=open_split(data, data.eval_split).class_names,
            preprocessing=data.preprocessing(encoder.image_shape),
        )

    def files(self, data: ImageDataConfig) -> Mapping[str, bytes]:
        """None."""
        return {}

    def show(self, model: Model, batch: Batch, data: ImageDataConfig) -> Media:
        """A grid of images with predicted and real class."""
        shown = batch["mask"][: self.num_shown]
        images = batch["image"][: self.num_shown][shown]
        labels = batch["label"][: self.num_shown][shown]
        predictions = np.asarray(_predict(model, images))
        names = open_split(data, data.eval_split).class_names
        grid = prediction_grid(
            [denormalize(image, data.mean, data.std) for image in images],
            [names[i] for i in predictions],
            [names[i] for i in labels],
        )
        return Media(images={"predictions": grid})


def _remedy(wanted: tuple, shape: tuple) -> str:
    """Options that make a model of images of that shape fit, or images fit the model."""
    larger = f"--config.model.encoder.image_shape={_listed(shape)}"
    if shape[:2] == wanted[:2]:  # no resizing changes channels
        return larger
    resized = f"--config.data.image_size={_listed(wanted[:2])}"
    if shape[-1] != wanted[-1]:
        both = (*wanted[:2], shape[-1])
        resized += f" and --config.model.encoder.image_shape={_listed(both)}"
    return f"{resized} to crop and resize them, or {larger}"


def _listed(numbers: tuple) -> str:
    return ",".join(map(str, numbers))


@jax.jit
def _predict(model: Model, images: Array) -> jax.Array:
    return model(images).argmax(-1)


def _targets(batch: Batch, num_classes: int) -> Array:
    """[B, K] distributions: those of the batch where it has any, else its labels."""
    if "target" not in batch:
        return jax.nn.one_hot(batch["label"], num_classes)
    return jnp.asarray(batch["target"])


def _in_top(k: int, logits: Array, labels: Array) -> jax.Array:
    """[B] 1.0 where the right class is among the k best; ties and NaN count against it."""
    right = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    rank = (logits >= right).sum(-1)
    return ((rank >= 1) & (rank <= k)).astype(jnp.float32)
