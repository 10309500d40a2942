"""Runs that are as small as can be; as a config file: `--config=tests/train/tiny_runs.py`.

- Random transforms and dropout are on: whatever a run draws must be drawn again after a resume.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig, Shard
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.train import parallel
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.program import make_program
from perceiver_jax.train.state import TrainState
from perceiver_jax.train.tasks import ImageClassification

# Initial values with which outputs depend on inputs and dropout from the first step on.
LIVELY = {"init_method": "variance_scaling"}


def experiment(*, encoder=None, decoder=None, data=None, **changes) -> ExperimentConfig:
    """Twelve steps on 32 synthetic images; arguments change fields of the parts and of the run."""
    fields = {"image_shape": (8, 8, 1), "num_frequency_bands": 2, "dropout": 0.1, **LIVELY} | (
        encoder or {}
    )
    config = ExperimentConfig(
        task=ImageClassification(num_shown=4),
        model=PerceiverConfig(
            encoder=ImageEncoderConfig(
                num_cross_attention_heads=1,
                num_self_attention_heads=2,
                num_self_attention_layers_per_block=1,
                **fields,
            ),
            decoder=ClassificationDecoderConfig(
                **{
                    "num_classes": 10,
                    "num_output_query_channels": 8,
                    "num_cross_attention_heads": 1,
                    **LIVELY,
                }
                | (decoder or {})
            ),
            num_latents=4,
            num_latent_channels=8,
        ),
        data=dataclasses.replace(
            ImageDataConfig(
                dataset="synthetic",
                synthetic_shape=(8, 8, 1),
                batch_size=8,
                eval_batch_size=24,
                max_shift=1.0,
                random_flip=True,
            ),
            **(data or {}),
        ),
        optimizer=OptimizerConfig(learning_rate=0.01, schedule="cosine", warmup_steps=2),
        num_steps=12,
        log_every=1,
        eval_every=3,
        checkpoint=CheckpointConfig(every=3),
    )
    return dataclasses.replace(config, **changes)


def get_config():
    """The run as it is."""
    return to_config_dict(experiment())


def _keeping(step):
    """A step that leaves its state as it was."""
    return lambda train_state, batch: step(jax.tree.map(jnp.copy, train_state), batch)


class Run:
    """What `train` puts together before its loop, for tests that take single steps."""

    def __init__(self, config: ExperimentConfig, *, mesh: Mesh | None = None, donate: bool = False):
        self.config, self.mesh = config, mesh or parallel.make_mesh(config.parallel)
        program = make_program(config, self.mesh)
        self.skeleton, self.fresh = program.skeleton, program.create
        self.shardings, self.like = program.shardings, program.shapes
        self.step = program.train_step if donate else _keeping(program.train_step)

    def batch(self, index: int):
        """A training batch on the devices."""
        batches = self.config.task.batches(
            self.config.data, training=True, seed=self.config.seed, shard=Shard()
        )
        return parallel.to_devices(batches[index], self.mesh)

    def losses(self, train_state: TrainState, steps: range):
        """The state after those steps, and their losses."""
        losses = []
        for step in steps:
            train_state, metrics = self.step(train_state, self.batch(step))
            losses.append(float(metrics["loss"]))
        return train_state, losses
