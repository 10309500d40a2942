"""Clips to themselves: colours and samples by mean absolute error, the label by cross-entropy."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from perceiver_jax.card import ModelCard, VideoPreprocessing
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import Shard, VideoDataConfig
from perceiver_jax.data.video import open_videos, video_batches
from perceiver_jax.errors import UserError
from perceiver_jax.models import PerceiverConfig, VideoDecoderConfig, VideoEncoderConfig
from perceiver_jax.train.queries import draw_queries
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.typing import Array, Batch, Key, Model, Sums

LEAST_ERROR = 1e-10
"""Mean squared error, below which a ratio of signal to noise says nothing: 100 dB."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoAutoencoding:
    """Reconstruct frames and sound, and tell the class.

    The loss of a clip is a weighted sum of three means: over pixels, over samples, and of the
    label. Source of the weights: Perceiver IO appendix I, as far as it tells them.
    """

    image_weight: float = setting(0.03, "of the mean absolute error of colours in the loss")
    audio_weight: float = setting(1.0, "of the mean absolute error of samples in the loss")
    label_weight: float = setting(1e-4, "of the cross-entropy of the label in the loss")
    num_image_queries: int | None = setting(
        None, "pixels that training asks for, drawn anew for the batch at every step; None: all"
    )
    num_audio_queries: int | None = setting(
        None, "stretches of sound that training asks for, drawn anew at every step; None: all"
    )
    num_shown: int = setting(2, "held-out clips to look at and to listen to")

    def __post_init__(self):
        check_fields(self)
        weights = (self.image_weight, self.audio_weight, self.label_weight)
        if min(weights) < 0.0 or not max(weights) > 0.0:
            raise ValueError(
                f"weights of {weights} for image, audio and label make no loss; none may be "
                "negative, and one must be above 0"
            )

    def check(self, model: PerceiverConfig, data: VideoDataConfig) -> None:
        """See `Task`."""
        if not isinstance(data, VideoDataConfig):
            raise UserError(
                f"video autoencoding takes a VideoDataConfig, not a {type(data).__name__}; choose "
                "it in the config file"
            )
        encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
        if not isinstance(encoder, VideoEncoderConfig) or not isinstance(
            decoder, VideoDecoderConfig
        ):
            raise UserError(
                "video autoencoding takes a VideoEncoderConfig with a VideoDecoderConfig, not "
                f"{type(encoder).__name__} with {type(decoder).__name__}; choose these in the "
                "config file"
            )
        pairs = {
            "video_shape": ((data.num_frames, *data.image_size, 3), tuple(encoder.video_shape)),
            "num_samples": (data.num_samples, encoder.num_samples),
            "num_classes": (data.num_classes, encoder.num_classes),
        }
        for name, (given, taken) in pairs.items():
            if given != taken:
                raise UserError(
                    f"the data gives clips with {name}={given}, the model takes {taken}; make "
                    f"config.data and config.model.encoder.{name} agree"
                )
        limits = {
            "num_image_queries": math.prod(encoder.video_shape[:-1]),
            "num_audio_queries": encoder.num_samples // encoder.samples_per_patch,
        }
        for name, most in limits.items():
            number = getattr(self, name)
            if number is not None and number > most:
                raise UserError(
                    f"task.{name}={number:,} is more than the {most:,} that a clip has; lower it, "
                    "or leave it at None for all"
                )
        for split in (data.train_split, data.eval_split):
            open_videos(data, split)

    def batches(
        self, data: VideoDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task`; batches hold `image`, `audio` and `label`."""
        return video_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """The weighted sum, and what it is made of, over the clips of the batch."""
        image_key, audio_key, model_key = jax.random.split(key, 3)
        pixels, patches = _lines(model, batch)
        wanted = {"image": pixels, "audio": patches}
        indices = {
            name: draw_queries(number, wanted[name].shape[1], one)
            for name, number, one in (
                ("image", self.num_image_queries, image_key),
                ("audio", self.num_audio_queries, audio_key),
            )
            if number is not None
        }
        inputs = {name: batch[name] for name in ("image", "audio", "label")}
        outputs = model(inputs, query_indices=indices, key=model_key)
        errors = {}
        for name, target in wanted.items():
            if name in indices:
                target = target[:, indices[name][0]]
            errors[name] = _mean(jnp.abs(outputs[name].reshape(target.shape) - target))
        errors["label"] = optax.softmax_cross_entropy_with_integer_labels(
            outputs["label"].astype(jnp.promote_types(outputs["label"].dtype, jnp.float32)),
            batch["label"],
        )
        loss = (
            self.image_weight * errors["image"]
            + self.audio_weight * errors["audio"]
            + self.label_weight * errors["label"]
        )
        size = jnp.asarray(len(loss), loss.dtype)
        return {
            "loss": (loss.sum(), size),
            **{f"{name}_loss": (error.sum(), size) for name, error in errors.items()},
        }

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """Losses of whole clips, peak signal-to-noise ratios in dB, and accuracy of the label.

        The peak is 1, of colours from 0 to 1 and of the amplitude of samples from -1 to 1. The
        label is hidden, whatever training does with it.
        """
        outputs = model({name: batch[name] for name in ("image", "audio")})
        logits = outputs["label"].astype(jnp.promote_types(outputs["label"].dtype, jnp.float32))
        mask = batch["mask"].astype(jnp.float32)
        values = {}
        for name in ("image", "audio"):
            difference = outputs[name] - batch[name]
            values[f"{name}_loss"] = _mean(jnp.abs(difference))
            squared = jnp.maximum(_mean(jnp.square(difference)), LEAST_ERROR)
            values[f"{name}_psnr"] = -10.0 * jnp.log10(squared)
        values["label_loss"] = optax.softmax_cross_entropy_with_integer_labels(
            logits, batch["label"]
        )
        values["accuracy"] = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
        values["loss"] = (
            self.image_weight * values["image_loss"]
            + self.audio_weight * values["audio_loss"]
            + self.label_weight * values["label_loss"]
        )
        return {name: ((value * mask).sum(), mask.sum()) for name, value in values.items()}

    def card(self, model: PerceiverConfig, data: VideoDataConfig) -> ModelCard:
        """Names of the classes, rates of frames and sound."""
        names = open_videos(data, data.eval_split).class_names
        return ModelCard(
            labels=names if len(names) == data.num_classes else (),
            video=VideoPreprocessing(frame_rate=data.frame_rate, sample_rate=data.sample_rate),
        )

    def files(self, data: VideoDataConfig) -> Mapping[str, bytes]:
        """None."""
        return {}

    def show(self, model: Model, batch: Batch, data: VideoDataConfig) -> Media:
        """Frames above their reconstruction, and the sound before and after."""
        shown = np.flatnonzero(batch["mask"][: self.num_shown])
        clips = {name: batch[name][shown] for name in ("image", "audio")}
        outputs = jax.tree.map(np.asarray, _reconstruct(model, clips))
        images, sounds = {}, {}
        for i in range(len(shown)):
            some = np.linspace(0, len(clips["image"][i]) - 1, 4).round().astype(int)
            videos = (clips["image"][i], outputs["image"][i])
            rows = [np.concatenate(video[some], axis=1) for video in videos]
            images[f"clip_{i}"] = _bytes(np.concatenate(rows, axis=0))
            for name, sound in (("original", clips["audio"]), ("reconstruction", outputs["audio"])):
                samples = np.clip(sound[i, :, 0], -1.0, 1.0)
                sounds[f"clip_{i}_{name}"] = (samples, data.sample_rate)
        return Media(images=images, sounds=sounds)


def _lines(model: Any, batch: Batch) -> tuple[Array, Array]:
    """[B, T·H·W, c] pixels and [B, S / samples_per_patch, samples_per_patch] stretches."""
    video, sound = batch["image"], batch["audio"]
    samples_per_patch = model.config.encoder.samples_per_patch
    return (
        video.reshape(len(video), -1, video.shape[-1]),
        sound.reshape(len(sound), -1, samples_per_patch),
    )


def _mean(x: Array) -> Array:
    """[B, ...] → [B]."""
    return x.reshape(len(x), -1).mean(-1)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8)


@jax.jit
def _reconstruct(model: Model, clips: dict[str, Array]) -> dict[str, jax.Array]:
    return model(clips)
