"""Perceiver IO for optical flow at its published size: 41,057,134 parameters.

python -m perceiver_jax.train.main --config=configs/optical_flow.py --workdir=runs/optical_flow
python -m perceiver_jax.train.main --config=configs/optical_flow.py:smoke

- Trains on an endless synthetic set of moving photos in the manner of AutoFlow;
  `--config.data.dataset=flying_things --config.data.data_dir=…` takes FlyingThings3D instead.
- The model is as published. There is no published training code: LAMB, a cosine from 4e-4 over 480
  epochs of 40,000 pairs in batches of 512 are after Perceiver IO appendix H; its augmentation,
  which grows over the run, is not: here it stays the same.
- Published end-point errors: Sintel clean 1.81, final 2.42, KITTI 4.98 (Perceiver IO table 3), not
  reproduced here.
- For many devices: at batch 512 it needs --config.optimizer.accumulate or a large mesh, and
  --config.task.num_training_queries to ask for a part of the pixels.
"""

import dataclasses

from perceiver_jax.config import to_config_dict
from perceiver_jax.data import FlowDataConfig
from perceiver_jax.models import optical_flow_perceiver
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import OpticalFlowEstimation

BATCH_SIZE = 512
STEPS_PER_EPOCH = 40_000 / BATCH_SIZE


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on moving noise."""
    config = ExperimentConfig(
        task=OpticalFlowEstimation(),
        model=optical_flow_perceiver(remat=True),
        data=FlowDataConfig(
            dataset="synthetic",
            batch_size=BATCH_SIZE,
            eval_batch_size=64,
            max_scale=0.5,
            random_flip=True,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            asymmetric_colors=0.2,
        ),
        optimizer=OptimizerConfig(
            name="lamb",
            learning_rate=4e-4,
            schedule="cosine",
            weight_decay=0.1,
            no_decay=(r"bias$", r"norm/scale$"),
            epsilon=1e-6,
            clip_norm=1.0,
        ),
        num_steps=round(480 * STEPS_PER_EPOCH),
        log_every=20,
        eval_every=round(5 * STEPS_PER_EPOCH),
        checkpoint=CheckpointConfig(
            every=round(5 * STEPS_PER_EPOCH), best_metric="loss", best_mode="min"
        ),
    )
    return to_config_dict(_small(config) if is_smoke(variant) else config)


def _small(config: ExperimentConfig) -> ExperimentConfig:
    """Three steps of the same kind of model on frames of 16×24 pixels."""
    encoder = dataclasses.replace(
        config.model.encoder,
        image_shape=(16, 24),
        num_frequency_bands=4,
        num_self_attention_layers_per_block=2,
        num_self_attention_heads=4,
    )
    decoder = dataclasses.replace(
        config.model.decoder,
        num_cross_attention_qk_channels=32,
        num_cross_attention_v_channels=32,
    )
    return dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            encoder=encoder,
            decoder=decoder,
            num_latents=16,
            num_latent_channels=32,
        ),
        data=dataclasses.replace(
            config.data,
            textures="noise",
            image_size=(16, 24),
            max_flow=4.0,
            num_layers=2,
            batch_size=4,
            eval_batch_size=4,
            num_eval_examples=6,
        ),
        num_steps=3,
        log_every=1,
        eval_every=3,
        checkpoint=dataclasses.replace(config.checkpoint, every=3),
    )
