"""DeepMind's Perceiver AR of 64×64 images: 770,094,339 parameters, 12,288 values of an image.

python -m perceiver_jax.train.main --config=configs/ar_imagenet64.py --workdir=runs/ar_imagenet64

- Needs `downsampled_imagenet/64x64` of TFDS, prepared once:
  `pip install tensorflow-cpu; tfds build downsampled_imagenet/64x64`.
- Published, 2,048 images a step: 3.40 bits per value, validation and test; not reproduced here.
- The published run ended with 50,000 steps in which the rate fell by a cosine. To add them:
  `--workdir=runs/ar_imagenet64_end --config.pretrained.source=runs/ar_imagenet64
  --config.optimizer.schedule=cosine --config.optimizer.warmup_steps=0 --config.num_steps=50000`.
- On fewer devices a step is divided, with the same result: `--config.optimizer.accumulate=64`.
- Evaluation predicts every value of an image, in blocks of 512 with all before them, as published.
- Source: perceiver-ar `imagenet_w_positions`.
"""

from typing import Any

from perceiver_jax.config import to_config_dict
from perceiver_jax.data.image_sequences import ImageSequenceDataConfig
from perceiver_jax.models import ar_imagenet64
from perceiver_jax.train.checkpoint import CheckpointConfig
from perceiver_jax.train.config import ExperimentConfig, is_smoke
from perceiver_jax.train.optim import OptimizerConfig
from perceiver_jax.train.tasks import CausalModelling

SMALL: dict[str, Any] = {
    "max_seq_len": 192,
    "position_shape": (10, 10, 5),
    "num_channels": 32,
    "num_heads": 4,
    "max_latents": 32,
    "num_self_attention_layers": 2,
}
"""Sizes of the model of a smoke run."""


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on small synthetic images."""
    smoke = is_smoke(variant)
    model = ar_imagenet64(compute_dtype="bfloat16", remat=True, **(SMALL if smoke else {}))
    small = {"dataset": "synthetic", "image_shape": (8, 8, 3)}
    batch_size = 4 if smoke else 2048
    num_predicted = batch_size * model.max_latents
    return to_config_dict(
        ExperimentConfig(
            task=CausalModelling(z_loss=1e-4),
            model=model,
            data=ImageSequenceDataConfig(
                **(small if smoke else {}),
                batch_size=batch_size,
                eval_batch_size=4 if smoke else 128,
                eval_block_size=model.max_latents if smoke else 512,
                # The first latents' worth of values is always seen, so that none counts too often.
                random_min_seq_len=model.max_latents,
            ),
            optimizer=OptimizerConfig(
                name="adam",
                learning_rate=3e-4,
                warmup_steps=0 if smoke else 10_000,
                # The published loss is a sum over rows and latents; ours is their mean.
                clip_norm=1.0 / num_predicted,
                epsilon=1e-8 / num_predicted,
            ),
            num_steps=3 if smoke else 1_000_000,
            log_every=1 if smoke else 100,
            eval_every=5000,
            checkpoint=CheckpointConfig(every=5000, best_metric="loss", best_mode="min"),
        )
    )
