"""Two frames to the displacement of every pixel: end-point error, outliers, pictures of flow."""

import dataclasses
import math
from collections.abc import Mapping

import grain
import jax
import numpy as np

from perceiver_jax.card import ModelCard
from perceiver_jax.config import check_fields, setting
from perceiver_jax.data import FlowDataConfig, Shard
from perceiver_jax.data.flow.batches import flow_batches, open_split
from perceiver_jax.errors import UserError
from perceiver_jax.flow_colors import flow_to_image
from perceiver_jax.models import (
    OpticalFlowDecoderConfig,
    OpticalFlowEncoderConfig,
    PerceiverConfig,
)
from perceiver_jax.train.flow_errors import end_point_errors, flow_sums
from perceiver_jax.train.queries import draw_queries
from perceiver_jax.train.tasks.base import Media
from perceiver_jax.typing import Array, Batch, Key, Model, Sums


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpticalFlowEstimation:
    """One displacement per pixel; the loss is the mean end-point error of valid pixels."""

    num_training_queries: int | None = setting(
        None,
        "pixels, drawn anew for the batch at every step, whose flow is asked for in training; "
        "None: all",
    )
    num_shown: int = setting(4, "held-out pairs in the picture of flows")

    def __post_init__(self):
        check_fields(self)

    def check(self, model: PerceiverConfig, data: FlowDataConfig) -> None:
        """See `Task`."""
        if not isinstance(data, FlowDataConfig):
            raise UserError(
                f"optical flow takes a FlowDataConfig, not a {type(data).__name__}; choose it in "
                "the config file"
            )
        encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
        if not isinstance(encoder, OpticalFlowEncoderConfig) or not isinstance(
            decoder, OpticalFlowDecoderConfig
        ):
            raise UserError(
                "optical flow takes an OpticalFlowEncoderConfig with an OpticalFlowDecoderConfig, "
                f"not {type(encoder).__name__} with {type(decoder).__name__}; choose these in the "
                "config file"
            )
        if tuple(data.image_size) != tuple(encoder.image_shape):
            raise UserError(
                f"the data gives frames of {tuple(data.image_size)}, the model takes "
                f"{tuple(encoder.image_shape)}; make data.image_size and "
                "model.encoder.image_shape equal"
            )
        num_pixels = math.prod(encoder.image_shape)
        if self.num_training_queries is not None and self.num_training_queries > num_pixels:
            raise UserError(
                f"task.num_training_queries={self.num_training_queries:,} is more than the "
                f"{num_pixels:,} pixels of a frame; lower it, or leave it at None for all"
            )
        for split in (data.train_split, data.eval_split):
            open_split(data, split)

    def batches(
        self, data: FlowDataConfig, *, training: bool, seed: int, shard: Shard
    ) -> grain.MapDataset:
        """See `Task`; batches hold `frames`, `flow` and `valid`."""
        return flow_batches(data, training=training, seed=seed, shard=shard)

    def loss(self, model: Model, batch: Batch, key: Key) -> Sums:
        """End-point error over valid pixels, of all or of those that are drawn."""
        draw_key, model_key = jax.random.split(key)
        truth, valid = batch["flow"], batch["valid"]
        if self.num_training_queries is None:
            flow = model(batch["frames"], key=model_key)
        else:
            truth, valid = _line(truth), _line(valid)
            indices = draw_queries(self.num_training_queries, truth.shape[1], draw_key)
            flow = model(batch["frames"], query_indices=indices, key=model_key)
            truth, valid = truth[:, indices[0]], valid[:, indices[0]]
        errors = end_point_errors(flow, truth, valid)
        total = valid.sum().astype(errors.dtype)
        return {"loss": (errors.sum(), total), "end_point_error": (errors.sum(), total)}

    def evaluate(self, model: Model, batch: Batch) -> Sums:
        """End-point error, outliers, and the error of no flow, over valid pixels."""
        valid = batch["valid"] & batch["mask"][:, None, None]
        sums = flow_sums(model(batch["frames"]), batch["flow"], valid)
        return {"loss": sums["end_point_error"], **sums}

    def card(self, model: PerceiverConfig, data: FlowDataConfig) -> ModelCard:
        """Nothing: the size of frames stands in the model's config."""
        return ModelCard()

    def files(self, data: FlowDataConfig) -> Mapping[str, bytes]:
        """None."""
        return {}

    def show(self, model: Model, batch: Batch, data: FlowDataConfig) -> Media:
        """First frame, true flow and predicted flow of some pairs, in the colours of Middlebury."""
        shown = np.flatnonzero(batch["mask"][: self.num_shown])
        frames, truth, valid = (batch[name][shown] for name in ("frames", "flow", "valid"))
        flow = np.asarray(_predict(model, frames))
        rows = []
        for first, wanted, known, got in zip(frames[:, 0], truth, valid, flow, strict=True):
            wanted = np.where(known[..., None], wanted, np.nan)
            longest = float(np.nanmax(np.linalg.norm(wanted, axis=-1), initial=1.0))
            picture = np.clip((first + 1.0) * 127.5, 0, 255).astype(np.uint8)
            colours = [flow_to_image(one, max_flow=longest) for one in (wanted, got)]
            rows.append(np.concatenate([picture, *colours], axis=1))
        return Media(images={"flow": np.concatenate(rows, axis=0)} if rows else {})


def _line(x: Array) -> Array:
    """[B, H, W, ...] → [B, H·W, ...]."""
    return x.reshape(len(x), -1, *x.shape[3:])


@jax.jit
def _predict(model: Model, frames: Array) -> jax.Array:
    return model(frames)
