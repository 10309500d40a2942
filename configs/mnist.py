"""Perceiver IO on MNIST, pixel by pixel, as in krasserm/perceiver-io: 907,212 parameters.

python -m perceiver_jax.train.main --config=configs/mnist.py
python -m perceiver_jax.train.main --config=configs/mnist.py:smoke

- Reads MNIST prepared with TensorFlow Datasets; `smoke` takes three steps on synthetic images.
- Published validation accuracy 98.16 % after 25 of 30 epochs, on one or two GPUs; not reproduced
  here.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import ImageDataConfig
from perceiver_jax.models import ClassificationDecoderConfig, ImageEncoderConfig, PerceiverConfig
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig

BATCH_SIZE = 64
STEPS_PER_EPOCH = 60_000 / BATCH_SIZE


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps on synthetic images."""
    config = ExperimentConfig(
        model=PerceiverConfig(
            encoder=ImageEncoderConfig(
                image_shape=(28, 28, 1),
                num_frequency_bands=32,
                num_cross_attention_layers=2,
                num_cross_attention_heads=1,
                num_self_attention_heads=8,
                num_self_attention_layers_per_block=3,
                num_self_attention_blocks=3,
                first_self_attention_block_shared=False,
                dropout=0.1,
                init_scale=0.1,
            ),
            decoder=ClassificationDecoderConfig(
                num_classes=10,
                num_output_query_channels=128,
                num_cross_attention_heads=1,
                dropout=0.1,
                init_scale=0.1,
            ),
            num_latents=32,
            num_latent_channels=128,
        ),
        data=ImageDataConfig(dataset="tfds:mnist", batch_size=BATCH_SIZE, eval_batch_size=500),
        # PyTorch's AdamW decays every parameter, biases and norms included.
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=500, weight_decay=0.01, no_decay=()
        ),
        num_steps=round(30 * STEPS_PER_EPOCH),
        log_every=50,
        eval_every=round(STEPS_PER_EPOCH),
        checkpoint=CheckpointConfig(
            every=round(STEPS_PER_EPOCH), best_metric="loss", best_mode="min"
        ),
    )
    if is_smoke(variant):
        config = dataclasses.replace(
            config,
            data=dataclasses.replace(
                config.data,
                dataset="synthetic",
                synthetic_shape=(28, 28, 1),
                batch_size=8,
                eval_batch_size=16,
            ),
            optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
            num_steps=3,
            log_every=1,
        )
    return to_config_dict(config)
